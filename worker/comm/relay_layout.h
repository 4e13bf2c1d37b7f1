// What lies where in the shared memory of a RelayChannel. Only relay_channel.cc includes this.
//
//   offset 0            Header
//   + sizeof(Header)    Slot[local_ranks]
//   then, 4096-aligned  for every local rank: 2 chunks (what it contributes)
//                       2 chunks (the results, read by all local ranks)
//
// Chunks are numbered through the whole generation, from 0; chunk c uses the half c % 2. A slot's
// `posted` and the header's `answered` are counts: chunk c is posted when posted > c, answered when
// answered > c. A rank posts chunk c + 2 only after it has copied the result c, so
//  - the relay may read a posted chunk until it answers it, and
//  - the relay may write the result c + 2 once all ranks have posted chunk c + 2.
// A call of n bytes takes max(1, ceil(n / chunk_bytes)) chunks; its description stands in the slot
// before its first chunk is posted, and stays until its last one is answered.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "worker/comm/exchange_call.h"
#include "worker/comm/process_identity.h"
#include "worker/comm/shared_event.h"

namespace weft::worker::relay_layout {

inline constexpr uint64_t kMagic = 0x3159414c45524657;  // "WFRELAY1"
inline constexpr uint32_t kProtocol = 1;
inline constexpr int64_t kPageBytes = 4096;
inline constexpr int64_t kChunkAlignment = 64;

enum AbortState : uint32_t { kLive = 0, kBeingAborted = 1, kAborted = 2 };
enum RelayState : uint32_t { kAbsent = 0, kClaiming = 1, kClaimed = 2, kJoined = 3 };

struct alignas(64) Header {
  // Written once by the creator; `magic` last.
  std::atomic<uint64_t> magic;
  uint32_t protocol;
  int32_t host;
  int32_t hosts;
  int32_t first_rank;
  int32_t local_ranks;
  int32_t ranks;
  int64_t generation;
  int64_t chunk_bytes;
  int64_t segment_bytes;
  ProcessIdentity owner;
  std::array<char, 128> job;  // ends with a zero

  // The abort: kLive -> kBeingAborted (one writer wins) -> kAborted; the reason is readable then.
  alignas(64) std::atomic<uint32_t> abort_state;
  int32_t abort_code;
  std::array<char, 1000> abort_reason;  // ends with a zero

  // The relay. `relay` is readable from kClaimed on.
  alignas(64) std::atomic<uint32_t> relay_state;
  ProcessIdentity relay;

  alignas(64) SharedEvent rank_event;   // ranks sleep here: answers, the relay's state, the abort
  alignas(64) SharedEvent relay_event;  // the relay sleeps here: posts, the abort
  alignas(64) std::atomic<uint64_t> answered;
};

struct alignas(64) Slot {
  PackedCall call;  // of the rank's present call
  int64_t deadline_unix_nanos;
  alignas(64) std::atomic<uint64_t> posted;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(Header) % 64 == 0 && sizeof(Slot) == 192);

}  // namespace weft::worker::relay_layout

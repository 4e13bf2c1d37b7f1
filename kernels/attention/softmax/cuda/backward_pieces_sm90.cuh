// What both sides of the softmax gradient on Hopper share (backward_sm90.cu): shared memory, pieces
// of work, turns.
#pragma once

#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/hopper.cuh"

namespace weft::kernels::sm90::softmax_backward {

using hopper::TileBytes;
using softmax_tiles::QueriesOfKeys;
using softmax_tiles::Range;
using softmax_tiles::VisibleKeys;

inline constexpr int kStages = 2;
inline constexpr int kGroup = 128;           // threads of a warpgroup
inline constexpr int kThreads = 3 * kGroup;  // one loads, two compute
inline constexpr int kComputing = 2 * kGroup;
inline constexpr int kHalf = 8 * kGroup;  // float4 of half a tile of dQ
inline constexpr int kHalfBytes = kHalf * 16;

template <int kWidth>
struct Layout {
  static constexpr int kQueries = kWidth == 64 ? 128 : 64;
  static constexpr int kPlaces = kWidth == 64 ? 2 : 1;  // of keys, with their values
  static constexpr int kLoadRegisters = 24;
  static constexpr int kRegisters = 240;
  static constexpr int kKeyBytes = kWidth / 64 * TileBytes(kBlockKeys);
  static constexpr int kQueryBytes = kWidth / 64 * TileBytes(kQueries);
  static constexpr int kSlopeBytes = kQueries / 64 * TileBytes(kBlockKeys);
  static constexpr int kPlaceBytes = 2 * kKeyBytes;
  static constexpr int kKeys = 0;  // the gradients leave from here, too
  static constexpr int kValues = kKeyBytes;
  static constexpr int kSlopes = kPlaces * kPlaceBytes;  // two of them, by turns
  static constexpr int kQuery = kSlopes + 2 * kSlopeBytes;
  static constexpr int kOutput = kQuery + kStages * kQueryBytes;  // dO
  static constexpr int kShifts = kOutput + kStages * kQueryBytes;
  static constexpr int kMeans = kShifts + kStages * kQueries * 4;
  static constexpr int kSums =
      kMeans + kStages * kQueries * 4;  // what a step adds to dQ: two halves
  static constexpr int kBarriers = kSums + 2 * kHalfBytes;
  static constexpr int kPieces = kBarriers + (3 * kStages + 14) * 8;  // whose keys are in kKeys
  static constexpr int kBytes = kPieces + kPlaces * 8 * 4;
};

struct Barriers {
  uint64_t full[kStages];  // of queries
  uint64_t rest[kStages];  // dO, with o or with shifts and means
  uint64_t empty[kStages];
  uint64_t keys_full[2];  // or there is no piece any more
  uint64_t keys_empty[2];
  uint64_t slopes[2];     // of both warpgroups are there
  uint64_t filled[2];     // a half of what is added to dQ, or of d_q, is there
  uint64_t sent[2];       // and its place is free again
  uint64_t sums[2];       // it holds the sums so far, if this turn is the last
  uint64_t gradients[2];  // those of keys and values are in the keys' place
};

struct Params {
  SoftmaxBackwardMaps maps;
  SoftmaxBackwardScratch scratch;
  SoftmaxCudaProblem p;
  const float* lse;
  int pieces;
};

// A piece of work: a block of keys and the tiles that it meets, those of one query head after the
// other.
template <int kWidth>
struct Piece {
  static constexpr int kQueries = Layout<kWidth>::kQueries;
  __device__ Piece(const Params& params, int ticket) {
    const SoftmaxCudaProblem& p = params.p;
    const int blocks = (p.keys + kBlockKeys - 1) / kBlockKeys;
    block = -1;
    if (ticket >= params.pieces) return;
    block = blocks - 1 - ticket % blocks;
    kv_head = ticket / blocks % p.kv_heads;
    batch = ticket / blocks / p.kv_heads;
    const Range queries = QueriesOfKeys(p, Key(), min(Key() + kBlockKeys, p.keys));
    first_tile = queries.begin / kQueries;
    end_tile = (queries.end + kQueries - 1) / kQueries;
    group = p.heads / p.kv_heads;
    const int next = Key() + kBlockKeys;
    constexpr int kAll = 1 << 30;
    first_end = block == blocks - 1 ? kAll
                : p.causal          ? next / kQueries
                : p.window == 0     ? 0
                                    : max(0, next - p.window + 1) / kQueries;
    last_begin = block == 0      ? 0
                 : p.window == 0 ? kAll
                                 : (Key() + p.window - 1 + kQueries - 1) / kQueries;
  }
  __device__ int Key() const { return block * kBlockKeys; }
  __device__ int Steps() const { return (end_tile - first_tile) * group; }
  // Calls f(head, tile, number of the tile among all) for each step.
  template <typename F>
  __device__ void ForEachStep(const Params& params, const F& f) const {
#pragma unroll 1
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const int first = (batch * params.p.heads + head) * params.scratch.tiles;
#pragma unroll 1
      for (int tile = first_tile; tile < end_tile; ++tile) f(head, tile, first + tile);
    }
  }
  // How many blocks of keys add to a tile of queries before this one.
  __device__ int BlocksBefore(const SoftmaxCudaProblem& p, int tile) const {
    const int last = min((tile + 1) * kQueries, p.queries) - 1;
    return (VisibleKeys(p, last).end - 1) / kBlockKeys - block;
  }
  // Whether none does, or none after it.
  __device__ bool IsFirst(int tile) const { return tile < first_end; }
  __device__ bool IsLast(int tile) const { return tile >= last_begin; }

  // What another thread made, known to the compiler to be the same in all lanes of a warp.
  __device__ Piece Uniform() const {
    Piece piece = *this;
    for (int* of : {&piece.block, &piece.kv_head, &piece.batch, &piece.first_tile, &piece.end_tile,
                    &piece.first_end, &piece.last_begin, &piece.group}) {
      *of = __shfl_sync(0xFFFFFFFF, *of, 0);
    }
    return piece;
  }

  int block;  // -1: there is no piece any more
  int kv_head;
  int batch;
  int first_tile;
  int end_tile;
  int first_end;   // the tiles before are added to by no block before this one,
  int last_begin;  // and those from here on by none after it
  int group;
};

// How far one has come in all pieces.
struct Progress {
  __device__ void Advance() {
    ring.Advance();
    ++steps;
  }
  hopper::RingPlace<kStages> ring;
  int steps = 0;
};

// ---- Turns

// Also for shifts and means, which are there after one.
__device__ inline void AwaitTurn(const int32_t* turn, int expected) {
  int32_t now;
  do {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(turn) : "memory");
  } while (now < expected);
}
// Everything that this thread knows to be done comes before.
__device__ inline void PassTurn(int32_t* turn) {
  asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(turn) : "memory");
}

// ---- Pieces as they come

template <int kWidth>
using KeysPlace = hopper::RingPlace<Layout<kWidth>::kPlaces>;

template <int kWidth>
__device__ inline Piece<kWidth>* PieceAt(uint8_t* shared, int place) {
  static_assert(sizeof(Piece<kWidth>) == 8 * 4);
  return reinterpret_cast<Piece<kWidth>*>(shared + Layout<kWidth>::kPieces) + place;
}

// Calls f(piece, place) for one piece after the other, as its keys come.
template <int kWidth, typename F>
__device__ inline void ForEachPiece(uint8_t* shared, Barriers* barriers, const F& f) {
  KeysPlace<kWidth> place;
  for (;;) {
    hopper::AwaitPhase(&barriers->keys_full[place.stage], place.parity);
    const Piece<kWidth> piece = *PieceAt<kWidth>(shared, place.stage);
    if (piece.block < 0) return;
    f(piece, place);
    place.Advance();
  }
}

}  // namespace weft::kernels::sm90::softmax_backward

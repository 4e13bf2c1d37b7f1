#include "worker/comm/relay_channel.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/comm/process_identity.h"
#include "worker/comm/relay_layout.h"

namespace weft::worker {
namespace {

using relay_layout::Header;
using relay_layout::Slot;

// How often a sleeper looks whether the other side's process still exists. Everything else wakes it
// at once.
constexpr absl::Duration kLifeCheck = absl::Milliseconds(100);

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

int64_t AreasOffset(int local_ranks) {
  return RoundUp(
      static_cast<int64_t>(sizeof(Header)) + local_ranks * static_cast<int64_t>(sizeof(Slot)),
      relay_layout::kPageBytes);
}

int64_t SegmentBytes(const RelayChannelOptions& options) {
  return AreasOffset(options.local_ranks) +
         int64_t{2} * (options.local_ranks + 1) * options.chunk_bytes;
}

// Bounds keep every size computed from a segment's own numbers far from overflow.
constexpr int kMostRanks = 1 << 20;
constexpr int kMostLocalRanks = 1024;
constexpr int64_t kMostChunkBytes = int64_t{1} << 30;

absl::Status CheckOptions(const RelayChannelOptions& o) {
  const bool places = o.hosts >= 1 && o.hosts <= kMostRanks && o.host >= 0 && o.host < o.hosts &&
                      o.ranks >= 1 && o.ranks <= kMostRanks && o.local_ranks >= 1 &&
                      o.local_ranks <= kMostLocalRanks && o.first_rank >= 0 &&
                      o.first_rank <= o.ranks - o.local_ranks;
  if (!places) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a relay channel for host ", o.host, " of ", o.hosts, " with ranks ", o.first_rank, "..",
        o.first_rank + o.local_ranks - 1, " of ", o.ranks, " makes no sense"));
  }
  if (o.chunk_bytes < relay_layout::kChunkAlignment || o.chunk_bytes > kMostChunkBytes ||
      o.chunk_bytes % relay_layout::kChunkAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunks of a relay channel are multiples of 64 "
                     "bytes up to 1 GiB, not ",
                     o.chunk_bytes));
  }
  return absl::OkStatus();
}

template <size_t kSize>
void CopyText(absl::string_view text, std::array<char, kSize>& into) {
  const size_t count = std::min(text.size(), kSize - 1);
  std::memcpy(into.data(), text.data(), count);
  into[count] = '\0';
}

template <size_t kSize>
std::string TextOf(const std::array<char, kSize>& bytes) {
  return std::string(bytes.data(), strnlen(bytes.data(), kSize));
}

uint64_t ChunksOf(int64_t bytes, int64_t chunk_bytes) {
  return static_cast<uint64_t>(std::max<int64_t>(1, (bytes + chunk_bytes - 1) / chunk_bytes));
}

}  // namespace

RelayChannel::RelayChannel(SharedMemory memory, RelayChannelOptions options)
    : memory_(std::move(memory)), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<RelayChannel>> RelayChannel::Create(
    const std::string& name, const RelayChannelOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  WEFT_ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Create(name, SegmentBytes(options)));
  auto* header = new (memory.bytes().data()) Header();
  header->protocol = relay_layout::kProtocol;
  header->host = options.host;
  header->hosts = options.hosts;
  header->first_rank = options.first_rank;
  header->local_ranks = options.local_ranks;
  header->ranks = options.ranks;
  header->generation = options.generation.value();
  header->chunk_bytes = options.chunk_bytes;
  header->segment_bytes = SegmentBytes(options);
  header->owner = ThisProcess();
  CopyText(options.job, header->job);
  for (int i = 0; i < options.local_ranks; ++i) {
    new (memory.bytes().data() + sizeof(Header) + static_cast<size_t>(i) * sizeof(Slot)) Slot();
  }
  header->magic.store(relay_layout::kMagic, std::memory_order_release);
  RelayChannelOptions kept = options;
  kept.job = TextOf(header->job);
  return std::unique_ptr<RelayChannel>(new RelayChannel(std::move(memory), std::move(kept)));
}

absl::StatusOr<std::unique_ptr<RelayChannel>> RelayChannel::Open(const std::string& name) {
  WEFT_ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Open(name));
  const auto size = static_cast<int64_t>(memory.bytes().size());
  const auto* header = reinterpret_cast<const Header*>(memory.bytes().data());
  if (size < static_cast<int64_t>(sizeof(Header)) ||
      header->magic.load(std::memory_order_acquire) != relay_layout::kMagic) {
    return absl::FailedPreconditionError(
        absl::StrCat("shared memory ", name, " is no relay channel"));
  }
  if (header->protocol != relay_layout::kProtocol) {
    return absl::FailedPreconditionError(absl::StrCat("relay channel ", name, " has protocol ",
                                                      header->protocol, ", this program speaks ",
                                                      relay_layout::kProtocol));
  }
  RelayChannelOptions options;
  options.job = TextOf(header->job);
  options.generation = Generation(header->generation);
  options.host = header->host;
  options.hosts = header->hosts;
  options.first_rank = header->first_rank;
  options.local_ranks = header->local_ranks;
  options.ranks = header->ranks;
  options.chunk_bytes = header->chunk_bytes;
  if (!CheckOptions(options).ok() || header->segment_bytes != SegmentBytes(options) ||
      size != header->segment_bytes) {
    return absl::FailedPreconditionError(absl::StrCat("relay channel ", name, " is damaged"));
  }
  return std::unique_ptr<RelayChannel>(new RelayChannel(std::move(memory), std::move(options)));
}

Header& RelayChannel::header() const { return *reinterpret_cast<Header*>(memory_.bytes().data()); }

Slot& RelayChannel::slot(int local_rank) const {
  WEFT_CHECK(local_rank >= 0 && local_rank < options_.local_ranks);
  return reinterpret_cast<Slot*>(memory_.bytes().data() + sizeof(Header))[local_rank];
}

absl::Span<char> RelayChannel::Half(int area, uint64_t chunk) const {
  const int64_t offset =
      AreasOffset(options_.local_ranks) +
      (int64_t{2} * area + static_cast<int64_t>(chunk % 2)) * options_.chunk_bytes;
  return memory_.bytes().subspan(static_cast<size_t>(offset),
                                 static_cast<size_t>(options_.chunk_bytes));
}

// ---- Anybody.

void RelayChannel::Abort(const absl::Status& why) {
  Header& h = header();
  uint32_t live = relay_layout::kLive;
  if (h.abort_state.compare_exchange_strong(live, relay_layout::kBeingAborted,
                                            std::memory_order_acq_rel)) {
    const absl::Status cause = why.ok() ? absl::AbortedError("the exchange was aborted") : why;
    h.abort_code = static_cast<int32_t>(cause.code());
    CopyText(cause.message(), h.abort_reason);
    h.abort_state.store(relay_layout::kAborted, std::memory_order_release);
  }
  h.rank_event.Notify();
  h.relay_event.Notify();
}

absl::Status RelayChannel::AbortStatus() const {
  const Header& h = header();
  switch (h.abort_state.load(std::memory_order_acquire)) {
    case relay_layout::kLive:
      return absl::OkStatus();
    case relay_layout::kAborted:
      return absl::Status(static_cast<absl::StatusCode>(h.abort_code), TextOf(h.abort_reason));
    default:  // its writer is at it, or died at it
      return absl::AbortedError("the exchange was aborted");
  }
}

bool RelayChannel::relay_joined() const {
  return header().relay_state.load(std::memory_order_acquire) == relay_layout::kJoined;
}

bool RelayChannel::OwnerIsGone() const { return IsGone(header().owner); }

bool RelayChannel::RelayIsGone() const {
  const Header& h = header();
  return h.relay_state.load(std::memory_order_acquire) >= relay_layout::kClaimed && IsGone(h.relay);
}

// ---- A rank.

template <typename Condition>
absl::Status RelayChannel::AwaitAsRank(const Condition& condition, absl::string_view what,
                                       absl::Time deadline) {
  Header& h = header();
  absl::Time next_life_check = absl::Now() + kLifeCheck;
  while (true) {
    const uint32_t seen = h.rank_event.Read();
    // In this order: what was answered before an abort is good.
    if (condition()) return absl::OkStatus();
    WEFT_RETURN_IF_ERROR(AsToldByAnother(AbortStatus()));
    const absl::Time now = absl::Now();
    if (now >= deadline) return absl::DeadlineExceededError(absl::StrCat("waited for ", what));
    if (now >= next_life_check) {
      if (RelayIsGone()) {
        return absl::UnavailableError(
            absl::StrCat("the relay of this host (pid ", h.relay.pid, ") has ended"));
      }
      next_life_check = now + kLifeCheck;
    }
    h.rank_event.Wait(seen, std::min(deadline, next_life_check) - now);
  }
}

absl::Status RelayChannel::AwaitRelay(absl::Time deadline) {
  WEFT_RETURN_IF_ERROR(AsToldByAnother(AbortStatus()));
  return AwaitAsRank([this] { return relay_joined(); },
                     "the relay of this host to meet the relays of the other hosts", deadline);
}

absl::Status RelayChannel::AwaitAnswer(uint64_t chunk, absl::Time deadline) {
  const Header& h = header();
  return AwaitAsRank([&h, chunk] { return h.answered.load(std::memory_order_acquire) > chunk; },
                     "the relay's answer (another rank has not made this call, or a relay hangs)",
                     deadline);
}

absl::Status RelayChannel::Call(int local_rank, const ExchangeCall& call, absl::Span<char> bytes,
                                absl::Time deadline) {
  Slot& mine = slot(local_rank);
  Header& h = header();
  const auto chunk_bytes = static_cast<size_t>(options_.chunk_bytes);
  const uint64_t chunks = ChunksOf(static_cast<int64_t>(bytes.size()), options_.chunk_bytes);
  const uint64_t first = mine.posted.load(std::memory_order_relaxed);
  const bool contributes =
      call.op != CallOp::kBroadcast || call.root == options_.first_rank + local_rank;
  const auto part = [&](uint64_t index) {
    return bytes.subspan(std::min(bytes.size(), static_cast<size_t>(index) * chunk_bytes),
                         chunk_bytes);
  };
  const auto post = [&](uint64_t index) {
    const absl::Span<char> from = part(index);
    if (contributes && !from.empty()) {
      std::memcpy(Half(local_rank, first + index).data(), from.data(), from.size());
    }
    mine.posted.store(first + index + 1, std::memory_order_release);
    h.relay_event.Notify();
  };
  WEFT_RETURN_IF_ERROR(AsToldByAnother(AbortStatus()));
  mine.call = Pack(call);
  mine.deadline_unix_nanos = absl::ToUnixNanos(std::min(
      deadline, absl::Now() + absl::Hours(24 * 365)));  // ToUnixNanos does not know infinity
  post(0);
  for (uint64_t index = 0; index < chunks; ++index) {
    if (index + 1 < chunks) post(index + 1);
    WEFT_RETURN_IF_ERROR(AwaitAnswer(first + index, deadline));
    const absl::Span<char> into = part(index);
    if (!into.empty()) {
      std::memcpy(into.data(), Half(options_.local_ranks, first + index).data(), into.size());
    }
  }
  return absl::OkStatus();
}

// ---- The relay.

absl::Status RelayChannel::ClaimRelay() {
  Header& h = header();
  uint32_t absent = relay_layout::kAbsent;
  if (!h.relay_state.compare_exchange_strong(absent, relay_layout::kClaiming,
                                             std::memory_order_acq_rel)) {
    return absl::FailedPreconditionError(
        absl::StrCat("relay channel ", name(), " has a relay already"));
  }
  h.relay = ThisProcess();
  h.relay_state.store(relay_layout::kClaimed, std::memory_order_release);
  return absl::OkStatus();
}

void RelayChannel::SetRelayJoined() {
  header().relay_state.store(relay_layout::kJoined, std::memory_order_release);
  header().rank_event.Notify();
}

uint64_t RelayChannel::NextChunk() const {
  return header().answered.load(std::memory_order_relaxed);
}

template <typename Condition>
absl::Status RelayChannel::AwaitAsRelay(const Condition& condition, absl::Time deadline,
                                        const Check& check) {
  Header& h = header();
  absl::Time next_check = absl::Now() + kLifeCheck;
  while (true) {
    const uint32_t seen = h.relay_event.Read();
    WEFT_RETURN_IF_ERROR(AbortStatus());
    if (condition()) return absl::OkStatus();
    const absl::Time now = absl::Now();
    if (now >= deadline) return absl::DeadlineExceededError("");
    if (now >= next_check) {
      WEFT_RETURN_IF_ERROR(check());
      next_check = now + kLifeCheck;
    }
    h.relay_event.Wait(seen, std::min(deadline, next_check) - now);
  }
}

absl::Status RelayChannel::AwaitAnyPost(const Check& check) {
  const uint64_t chunk = NextChunk();
  const auto any = [this, chunk] {
    for (int i = 0; i < options_.local_ranks; ++i) {
      if (slot(i).posted.load(std::memory_order_acquire) > chunk) return true;
    }
    return false;
  };
  return AwaitAsRelay(any, absl::InfiniteFuture(), check);
}

absl::Status RelayChannel::AwaitAllPosts(absl::Time deadline, const Check& check) {
  const uint64_t chunk = NextChunk();
  std::vector<int> missing;
  const auto all = [this, chunk, &missing] {
    missing.clear();
    for (int i = 0; i < options_.local_ranks; ++i) {
      if (slot(i).posted.load(std::memory_order_acquire) <= chunk) {
        missing.push_back(options_.first_rank + i);
      }
    }
    return missing.empty();
  };
  absl::Status met = AwaitAsRelay(all, deadline, check);
  if (met.code() == absl::StatusCode::kDeadlineExceeded && met.message().empty()) {
    return absl::DeadlineExceededError(absl::StrCat("rank ", absl::StrJoin(missing, ", "),
                                                    " has not made the call of the others"));
  }
  return met;
}

absl::StatusOr<ExchangeCall> RelayChannel::PostedCall() const {
  WEFT_ASSIGN_OR_RETURN(const ExchangeCall first, Unpack(slot(0).call));
  for (int i = 1; i < options_.local_ranks; ++i) {
    WEFT_ASSIGN_OR_RETURN(const ExchangeCall other, Unpack(slot(i).call));
    if (other == first) continue;
    return CallMismatch("rank", options_.first_rank, first, options_.first_rank + i, other);
  }
  return first;
}

absl::Time RelayChannel::PostedDeadline() const {
  const uint64_t chunk = NextChunk();
  absl::Time latest = absl::InfinitePast();
  for (int i = 0; i < options_.local_ranks; ++i) {
    const Slot& s = slot(i);
    if (s.posted.load(std::memory_order_acquire) <= chunk) continue;
    latest = std::max(latest, absl::FromUnixNanos(s.deadline_unix_nanos));
  }
  return latest;
}

absl::Span<char> RelayChannel::PostedChunk(int local_rank) const {
  return Half(local_rank, NextChunk());
}

absl::Span<char> RelayChannel::ResultChunk() const {
  return Half(options_.local_ranks, NextChunk());
}

void RelayChannel::Answer() {
  header().answered.fetch_add(1, std::memory_order_acq_rel);
  header().rank_event.Notify();
}

}  // namespace weft::worker

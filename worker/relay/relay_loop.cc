#include "worker/relay/relay_loop.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

// The ranks time out first: they know best what they waited for. A relay follows after this.
constexpr absl::Duration kGrace = absl::Milliseconds(500);

// What a host tells the others when they meet.
struct HostCard {
  int64_t generation = 0;
  int64_t chunk_bytes = 0;
  int32_t host = 0;
  int32_t hosts = 0;
  int32_t first_rank = 0;
  int32_t local_ranks = 0;
  int32_t ranks = 0;
  int32_t protocol = 1;
  std::array<char, 128> job{};
};
static_assert(sizeof(HostCard) == 168);

HostCard CardOf(const RelayChannelOptions& o) {
  HostCard card;
  card.generation = o.generation.value();
  card.chunk_bytes = o.chunk_bytes;
  card.host = o.host;
  card.hosts = o.hosts;
  card.first_rank = o.first_rank;
  card.local_ranks = o.local_ranks;
  card.ranks = o.ranks;
  std::memcpy(card.job.data(), o.job.data(), std::min(o.job.size(), card.job.size() - 1));
  return card;
}

// Between two polls. Short operations are caught by yielding; a host that computes for long costs
// the others next to nothing. The numbers: a chunk of 2 MiB takes 1 to 3 ms over loopback.
class Pace {
 public:
  void Wait() {
    ++polls_;
    if (polls_ <= kYields) {
      sched_yield();
      return;
    }
    absl::SleepFor(sleep_);
    sleep_ = std::min(sleep_ * 1.05, kLongest);
  }

 private:
  static constexpr int kYields = 100;
  static constexpr absl::Duration kLongest = absl::Microseconds(500);
  int polls_ = 0;
  absl::Duration sleep_ = absl::Microseconds(10);
};

absl::Span<int32_t> Numbers(absl::Span<char> bytes, int64_t count_bytes) {
  return absl::MakeSpan(reinterpret_cast<int32_t*>(bytes.data()),
                        static_cast<size_t>(count_bytes) / sizeof(int32_t));
}

}  // namespace

absl::Status RelayLoop::Run(absl::Time start_deadline) {
  WEFT_RETURN_IF_ERROR(Annotate(Meet(start_deadline), "meeting the relays of the other hosts"));
  channel_.SetRelayJoined();
  while (true) WEFT_RETURN_IF_ERROR(ServeCall());
}

absl::Status RelayLoop::Meet(absl::Time deadline) {
  const RelayChannelOptions& o = channel_.options();
  if (group_.hosts() != o.hosts || group_.index() != o.host) {
    return absl::InternalError(absl::StrCat("this relay was started as ", group_.index(), " of ",
                                            group_.hosts(), ", its channel is for host ", o.host,
                                            " of ", o.hosts));
  }
  const HostCard mine = CardOf(o);
  mine_.resize(sizeof(HostCard));
  std::memcpy(mine_.data(), &mine, sizeof(mine));
  all_.resize(static_cast<size_t>(o.hosts) * sizeof(HostCard));
  WEFT_RETURN_IF_ERROR(group_.StartGather(mine_, absl::MakeSpan(all_)));
  WEFT_RETURN_IF_ERROR(Finish(deadline));
  int next_rank = 0;
  for (int host = 0; host < o.hosts; ++host) {
    HostCard card;
    std::memcpy(&card, all_.data() + static_cast<size_t>(host) * sizeof(HostCard), sizeof(card));
    if (card.job != mine.job || card.generation != mine.generation) {
      return absl::AbortedError(absl::StrCat("host ", host, " is in job ", card.job.data(),
                                             ", generation ", card.generation, "; this one in job ",
                                             mine.job.data(), ", generation ", mine.generation));
    }
    const bool fits = card.protocol == mine.protocol && card.chunk_bytes == mine.chunk_bytes &&
                      card.host == host && card.ranks == mine.ranks && card.first_rank == next_rank;
    if (!fits) {
      return absl::InternalError(absl::StrCat(
          "host ", host, " has ranks from ", card.first_rank, " (", card.local_ranks, " of ",
          card.ranks, "), chunks of ", card.chunk_bytes, " bytes and protocol ", card.protocol,
          "; expected were ranks from ", next_rank, " of ", mine.ranks, ", ", mine.chunk_bytes,
          " bytes and protocol ", mine.protocol));
    }
    first_ranks_.push_back(next_rank);
    next_rank += card.local_ranks;
  }
  if (next_rank == mine.ranks) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the hosts have ", next_rank, " ranks, the gang has ", mine.ranks));
}

absl::Status RelayLoop::ServeCall() {
  const auto check = [this] { return CheckOwner(); };
  WEFT_RETURN_IF_ERROR(channel_.AwaitAnyPost(check));
  WEFT_RETURN_IF_ERROR(channel_.AwaitAllPosts(RelayDeadline(), check));
  const absl::Time deadline = RelayDeadline();
  WEFT_ASSIGN_OR_RETURN(const ExchangeCall call, channel_.PostedCall());
  if (call.root < 0 || call.root >= channel_.options().ranks) {
    return absl::InternalError(absl::StrCat("no such root: ", call.ToString()));
  }
  WEFT_RETURN_IF_ERROR(Annotate(CompareCalls(call, deadline), call.ToString()));
  const int64_t chunk_bytes = channel_.options().chunk_bytes;
  for (int64_t done = 0; done == 0 || done < call.bytes(); done += chunk_bytes) {
    const absl::Status exchanged = [&]() -> absl::Status {
      WEFT_RETURN_IF_ERROR(channel_.AwaitAllPosts(deadline, check));
      return ExchangeChunk(call, std::min(chunk_bytes, call.bytes() - done), deadline);
    }();
    WEFT_RETURN_IF_ERROR(Annotate(exchanged, call.ToString()));
    channel_.Answer();
  }
  return absl::OkStatus();
}

absl::Time RelayLoop::RelayDeadline() const {
  return std::max(channel_.PostedDeadline(), absl::Now()) + kGrace;
}

absl::Status RelayLoop::CompareCalls(const ExchangeCall& call, absl::Time deadline) {
  const PackedCall packed = Pack(call);
  mine_.resize(sizeof(packed));
  std::memcpy(mine_.data(), &packed, sizeof(packed));
  all_.resize(static_cast<size_t>(group_.hosts()) * sizeof(packed));
  WEFT_RETURN_IF_ERROR(group_.StartGather(mine_, absl::MakeSpan(all_)));
  WEFT_RETURN_IF_ERROR(Finish(deadline));
  for (int host = 0; host < group_.hosts(); ++host) {
    PackedCall theirs;
    std::memcpy(&theirs, all_.data() + static_cast<size_t>(host) * sizeof(theirs), sizeof(theirs));
    WEFT_ASSIGN_OR_RETURN(const ExchangeCall other, Unpack(theirs));
    if (!(other == call)) return CallMismatch("host", group_.index(), call, host, other);
  }
  return absl::OkStatus();
}

absl::Status RelayLoop::ExchangeChunk(const ExchangeCall& call, int64_t bytes,
                                      absl::Time deadline) {
  if (bytes == 0) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(call.op == CallOp::kBroadcast ? BroadcastChunk(call, bytes)
                                                     : ReduceChunk(call, bytes));
  return Finish(deadline);
}

absl::Status RelayLoop::ReduceChunk(const ExchangeCall& call, int64_t bytes) {
  const absl::Span<int32_t> result = Numbers(channel_.ResultChunk(), bytes);
  const int local_ranks = channel_.options().local_ranks;
  if (local_ranks == 1) {  // no copy of our own
    return group_.StartReduce(call.op, Numbers(channel_.PostedChunk(0), bytes), result);
  }
  std::memcpy(result.data(), channel_.PostedChunk(0).data(), static_cast<size_t>(bytes));
  for (int i = 1; i < local_ranks; ++i) {
    Combine(call.op, result, Numbers(channel_.PostedChunk(i), bytes));
  }
  return group_.StartReduce(call.op, result, result);
}

absl::Status RelayLoop::BroadcastChunk(const ExchangeCall& call, int64_t bytes) {
  const absl::Span<char> result = channel_.ResultChunk().subspan(0, static_cast<size_t>(bytes));
  const int root_host = HostOf(call.root);
  if (root_host == group_.index()) {
    const int local_root = call.root - channel_.options().first_rank;
    std::memcpy(result.data(), channel_.PostedChunk(local_root).data(), result.size());
  }
  return group_.StartBroadcast(result, root_host);
}

absl::Status RelayLoop::Finish(absl::Time deadline) {
  Pace pace;
  absl::Time next_check = absl::Now() + absl::Milliseconds(100);
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool done, group_.Poll());
    if (done) return absl::OkStatus();
    WEFT_RETURN_IF_ERROR(channel_.AbortStatus());
    const absl::Time now = absl::Now();
    if (now >= deadline) return absl::DeadlineExceededError("waited for the other hosts");
    if (now >= next_check) {
      WEFT_RETURN_IF_ERROR(CheckOwner());
      next_check = now + absl::Milliseconds(100);
    }
    pace.Wait();
  }
}

absl::Status RelayLoop::CheckOwner() const {
  if (!channel_.OwnerIsGone()) return absl::OkStatus();
  return absl::UnavailableError("the agent of this host has ended");
}

int RelayLoop::HostOf(int rank) const {
  return static_cast<int>(std::upper_bound(first_ranks_.begin(), first_ranks_.end(), rank) -
                          first_ranks_.begin()) -
         1;
}

}  // namespace weft::worker

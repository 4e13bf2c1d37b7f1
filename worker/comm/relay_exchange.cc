#include "worker/comm/relay_exchange.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {

absl::Status RelayExchange::CheckChannel(const RelayChannelOptions& channel) const {
  const Membership& m = membership();
  // The channel keeps the first 127 bytes of a job's name.
  if (channel.job != m.job.substr(0, 127)) {
    return absl::AbortedError(
        absl::StrCat("channel ", m.relay_channel, " is of job ", channel.job));
  }
  if (channel.generation != m.generation) {
    return absl::AbortedError(absl::StrCat("channel ", m.relay_channel, " is of generation ",
                                           channel.generation.value(),
                                           ": one of the two is stale"));
  }
  if (channel.ranks != m.ranks || m.local_rank >= channel.local_ranks ||
      channel.first_rank + m.local_rank != m.rank) {
    return absl::InternalError(
        absl::StrCat("channel ", m.relay_channel, " is for ranks ", channel.first_rank, "..",
                     channel.first_rank + channel.local_ranks - 1, " of ", channel.ranks,
                     ", not for rank ", m.rank, " of ", m.ranks, " as local rank ", m.local_rank));
  }
  return absl::OkStatus();
}

absl::Status RelayExchange::Join(absl::Time deadline) {
  {
    absl::MutexLock lock(&mutex_);
    channel_ = nullptr;
  }
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<RelayChannel> opened,
                        RelayChannel::Open(membership().relay_channel));
  WEFT_RETURN_IF_ERROR(CheckChannel(opened->options()));
  const std::shared_ptr<RelayChannel> joined = std::move(opened);
  {
    absl::MutexLock lock(&mutex_);
    channel_ = joined;
  }
  // An Abort before this line found no channel to interrupt.
  WEFT_RETURN_IF_ERROR(failure());
  return joined->AwaitRelay(deadline);
}

absl::Status RelayExchange::Run(const ExchangeCall& call, absl::Span<char> bytes,
                                absl::Time deadline) {
  return channel()->Call(membership().local_rank, call, bytes, deadline);
}

void RelayExchange::Interrupt(const absl::Status& why) {
  if (const std::shared_ptr<RelayChannel> present = channel()) present->Abort(why);
}

std::shared_ptr<RelayChannel> RelayExchange::channel() {
  absl::MutexLock lock(&mutex_);
  return channel_;
}

}  // namespace weft::worker

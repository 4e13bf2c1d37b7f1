#include "worker/rank/agent_link.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/log/log.h"

namespace weft::worker {
namespace {

constexpr absl::Duration kRepeatEvery = absl::Seconds(1);
// An agent that reads nothing for so long is as good as gone: training goes on unheard.
constexpr absl::Duration kSendTimeout = absl::Seconds(30);

}  // namespace

AgentLink::AgentLink(FileDescriptor socket, std::function<void(const absl::Status&)> on_end)
    : socket_(std::move(socket)), on_end_(std::move(on_end)) {}

AgentLink::~AgentLink() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  socket_.Shutdown();
  if (receiver_.joinable()) receiver_.join();
  if (repeater_.joinable()) repeater_.join();
}

absl::StatusOr<v1::RankAssignment> AgentLink::ReceiveAssignment() {
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, socket_.Receive());
  v1::AgentToRank message;
  if (!message.ParseFromString(bytes) || !message.has_assignment()) {
    return absl::InvalidArgumentError("the agent's first message is not an assignment");
  }
  return message.assignment();
}

void AgentLink::Listen() {
  receiver_ = std::thread([this] { Receive(); });
  repeater_ = std::thread([this] { Repeat(); });
}

void AgentLink::Receive() {
  absl::Status end;
  while (end.ok()) {
    absl::StatusOr<std::string> bytes = socket_.Receive();
    if (!bytes.ok()) {
      end = absl::UnavailableError(absl::StrCat("the agent is gone: ", bytes.status().message()));
      break;
    }
    v1::AgentToRank message;
    end = message.ParseFromString(*bytes)
              ? Obey(message)
              : absl::UnavailableError("the agent sends what is no message");
  }
  {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
  }
  on_end_(end);
}

absl::Status AgentLink::Obey(const v1::AgentToRank& message) {
  if (!message.has_stop()) return absl::OkStatus();  // a later version's message
  if (message.stop().mode() == v1::StopMember::MODE_KILL) {
    return absl::CancelledError("the agent ordered this rank to end at once");
  }
  save_and_stop_ = true;
  return absl::OkStatus();
}

void AgentLink::Repeat() {
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&ending_), kRepeatEvery)) {
    if (!phase_.has_phase()) continue;
    socket_.Send(phase_.SerializeAsString(), absl::Now() + kSendTimeout).IgnoreError();
  }
}

void AgentLink::Send(const v1::RankToAgent& message) {
  absl::MutexLock lock(&mutex_);
  const absl::Status sent = socket_.Send(message.SerializeAsString(), absl::Now() + kSendTimeout);
  if (!sent.ok()) LogWarning("rank", "message to the agent lost", {{"cause", sent.message()}});
}

void AgentLink::SendPhase(v1::MemberStatus::Phase phase, int64_t step) {
  v1::RankToAgent message;
  message.mutable_phase()->set_phase(phase);
  message.mutable_phase()->set_step(step);
  {
    absl::MutexLock lock(&mutex_);
    phase_ = message;
  }
  Send(message);
}

}  // namespace weft::worker

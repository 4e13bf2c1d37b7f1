// AgentLink: a rank's end of the line to its agent (proto/weft/v1/rank_link.proto).
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/process/framed_socket.h"
#include "weft/v1/rank_link.pb.h"

namespace weft::worker {

class AgentLink {
 public:
  // The descriptor that the agent leaves open for its rank.
  static constexpr int kDescriptor = 3;

  // `on_end` is called on a thread of the link when the agent orders the rank to end at once
  // (kCancelled) or is gone (kUnavailable); it must not return.
  AgentLink(FileDescriptor socket, std::function<void(const absl::Status&)> on_end);
  ~AgentLink();
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;

  // The first message: what this rank is. Call once, first.
  absl::StatusOr<v1::RankAssignment> ReceiveAssignment();
  // From now on orders are obeyed, and the last phase is repeated every second.
  void Listen();

  // Any thread. An agent that is gone is noticed by the listening thread, not here.
  void Send(const v1::RankToAgent& message);
  // The same, and what is repeated from now on.
  void SendPhase(v1::MemberStatus::Phase phase, int64_t step);
  // True once the agent wants a checkpoint and the end.
  [[nodiscard]] const std::atomic<bool>& save_and_stop() const { return save_and_stop_; }

 private:
  void Receive();
  void Repeat();
  absl::Status Obey(const v1::AgentToRank& message);

  FramedSocket socket_;
  const std::function<void(const absl::Status&)> on_end_;
  std::atomic<bool> save_and_stop_{false};
  absl::Mutex mutex_;
  v1::RankToAgent phase_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread receiver_, repeater_;
};

}  // namespace weft::worker

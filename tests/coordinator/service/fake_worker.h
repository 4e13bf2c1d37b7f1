// A worker's agent as the coordinator sees it: one stream of the link, driven by the test.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "weft/v1/worker_link.grpc.pb.h"

namespace weft::coordinator::testing {

class FakeWorker {
 public:
  // A hello that is accepted; tests spoil it as they like.
  static v1::Hello HelloOf(const std::string& name, const std::string& incarnation = "1");

  // Connects; sends nothing.
  explicit FakeWorker(const std::string& address);
  // Cancels the stream.
  ~FakeWorker();
  FakeWorker(const FakeWorker&) = delete;
  FakeWorker& operator=(const FakeWorker&) = delete;

  void Send(const v1::WorkerMessage& message);
  void SendHello(const v1::Hello& hello);
  // The member of `start` runs: as an agent does, every second and when the phase changes.
  void SendHeartbeat(const v1::StartMember& start, v1::MemberStatus::Phase phase, int64_t step);
  void SendEmptyHeartbeat();
  // The member of `start` has ended, and its exit is not acknowledged.
  void SendHeartbeatOfAnEnd(const v1::StartMember& start);
  void SendSteps(const v1::StartMember& start, int64_t first, int64_t last);
  void SendExit(const v1::StartMember& start, int64_t id, v1::MemberExit::Outcome outcome,
                std::optional<int32_t> rank = std::nullopt);
  void SendCheckpoint(const v1::StartMember& start, int64_t id, int64_t step);
  void SendLogs(const std::string& job, int64_t first, const std::vector<std::string>& lines);

  // The next message of this kind; those of other kinds before it are dropped. Nothing when the
  // stream ends, or after 20 seconds.
  std::optional<v1::CoordinatorMessage> Await(v1::CoordinatorMessage::MessageCase kind);
  std::optional<v1::StartMember> AwaitStart();
  // The status with which the coordinator ended the stream.
  absl::Status AwaitEnd();

 private:
  void Read();

  grpc::ClientContext context_;
  std::unique_ptr<v1::WorkerLinkService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>> stream_;
  int64_t heartbeats_ = 0;
  absl::Mutex mutex_;
  std::deque<v1::CoordinatorMessage> received_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  std::thread reader_;
};

}  // namespace weft::coordinator::testing

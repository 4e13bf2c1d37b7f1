// A coordinator that does what a test says: it welcomes agents, remembers what they send, and sends
// what it is told. Real gRPC, on a port of the system's choice where a test names no address.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weft/v1/worker_link.grpc.pb.h"

namespace weft::worker {

class FakeCoordinator final : public v1::WorkerLinkService::Service {
 public:
  // Long enough for a busy machine with a sanitizer; nothing waits for it that works.
  static constexpr absl::Duration kPatience = absl::Seconds(60);

  explicit FakeCoordinator(const std::string& address = "127.0.0.1:0");
  ~FakeCoordinator() override;

  [[nodiscard]] std::string address() const { return address_; }

  // --- what it does with what comes ---
  void set_acknowledges(bool on);
  void set_stores_logs(bool on);
  void set_stores_steps(bool on);
  void set_refusal(const std::string& message);  // FAILED_PRECONDITION to every Hello

  // Sends to the agent; dropped when it is not connected, as in life.
  void Send(const std::string& worker, const v1::CoordinatorMessage& message);
  // Breaks every connection, and refuses new ones until it is called with false.
  void Disconnect(bool keep_away = false);

  // --- what came ---
  using Messages = std::vector<v1::WorkerMessage>;
  // Waits until `done`, which sees all messages of the worker so far, says so. False when the
  // patience is at its end.
  bool Await(const std::string& worker, const std::function<bool(const Messages&)>& done);
  Messages messages(const std::string& worker) const;
  // Of the job, in the order of their numbers, each once.
  std::vector<std::string> log(const std::string& job) const;
  // Waits until the job's log has so many lines.
  bool AwaitLog(const std::string& job, size_t lines);
  // Forgets the messages (not the log).
  void Clear();

 private:
  using Stream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;
  struct Connection {
    grpc::ServerContext* context;
    Stream* stream;
  };

  grpc::Status Connect(grpc::ServerContext* context, Stream* stream) override;
  void Take(const std::string& worker, const v1::WorkerMessage& message, Stream& stream);

  mutable absl::Mutex mutex_;
  bool acknowledges_ ABSL_GUARDED_BY(mutex_) = true;
  bool stores_logs_ ABSL_GUARDED_BY(mutex_) = true;
  bool stores_steps_ ABSL_GUARDED_BY(mutex_) = true;
  bool keeps_away_ ABSL_GUARDED_BY(mutex_) = false;
  std::string refusal_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Messages> messages_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::map<int64_t, std::string>> logs_ ABSL_GUARDED_BY(mutex_);
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// Whether an exit of the member with this outcome is among the messages.
bool HasExit(const FakeCoordinator::Messages& messages, const std::string& job, int64_t generation,
             v1::MemberExit::Outcome outcome);
// The first exit of the member.
v1::MemberExit ExitOf(const FakeCoordinator::Messages& messages, const std::string& job);
// Whether the last heartbeat shows the member in this phase.
bool ShowsPhase(const FakeCoordinator::Messages& messages, const std::string& job,
                v1::MemberStatus::Phase phase);
// The numbers of all reported steps, in the order of their coming.
std::vector<int64_t> StepsOf(const FakeCoordinator::Messages& messages, const std::string& job);

}  // namespace weft::worker

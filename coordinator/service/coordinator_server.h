// The whole coordinator in one process: store, driver, archive, services, health and metrics, and
// the order in which they start and stop.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/archive/step_history.h"
#include "coordinator/core/policy.h"
#include "coordinator/store/job_store.h"

namespace weft::coordinator {

class CoordinatorServer {
 public:
  struct Options {
    std::string state_directory;  // exists; holds the step history
    std::string log_directory;    // of the jobs' logs; empty: in the state directory
    std::string listen = "127.0.0.1:0";
    std::shared_ptr<grpc::ServerCredentials> credentials;  // null: not encrypted
    std::string certificate;                               // the file of ours; empty: none
    std::string metrics_listen = "127.0.0.1:0";
    std::string checkpoint_root;
    std::string version;
    Policy policy;
    int64_t log_bytes_per_job = int64_t{64} << 20;
    int64_t steps_kept_per_job = 20000;
    // Opens the step history once the store is found; null: a file in the state directory.
    std::function<absl::StatusOr<std::unique_ptr<StepHistory>>(StepHistory::Options)> open_steps;
    absl::Duration hang_timeout = absl::Minutes(1);  // a loop stuck for longer is not alive
    // Another coordinator has taken over, or the store is broken: the process should end. From the
    // loop.
    std::function<void(const absl::Status&)> stepped_down;
  };

  // Tells why this coordinator stands by, from any thread.
  using Tell = std::function<void(const std::string&)>;
  // Finds the store, and may wait until this coordinator is the one to use it. While it waits the
  // coordinator is alive and not ready, for the reason that was told last.
  using FindStore = absl::AnyInvocable<absl::StatusOr<std::unique_ptr<JobStore>>(const Tell&)>;

  // Answers probes, then finds and loads the store, and serves. Errors say what is wrong: kDataLoss
  // (a damaged file), kUnavailable (a port in use), kInvalidArgument (an address that is none), and
  // those of `find`.
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(Options options, FindStore find);
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(Options options,
                                                                  std::unique_ptr<JobStore> store);
  // Stops, if that has not been done.
  ~CoordinatorServer();
  CoordinatorServer(const CoordinatorServer&) = delete;
  CoordinatorServer& operator=(const CoordinatorServer&) = delete;

  // "host:port" as bound.
  [[nodiscard]] const std::string& address() const;
  [[nodiscard]] const std::string& metrics_address() const;

  // Says NOT_SERVING, ends all streams, answers all calls, commits what is decided, then ends the
  // threads. Idempotent; not from a thread of the server.
  void Stop();

 private:
  class Parts;
  explicit CoordinatorServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace weft::coordinator

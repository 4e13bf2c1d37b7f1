// TestCluster: the real programs on loopback, for tests that submit, train, kill and look. Every
// process can be killed and started again by name; what they printed is shown when a test fails.
//
// Waits have deadlines and poll the cluster's own interface; nothing sleeps for a fixed time.
#pragma once

#include <grpcpp/channel.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/process/process_supervisor.h"
#include "common/tls/tls_files.h"
#include "tests/testing/temp_dir.h"
#include "weft/v1/checkpoint.grpc.pb.h"
#include "weft/v1/job.grpc.pb.h"
#include "weft/v1/queue.grpc.pb.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::testing {

// The folder of the programs under test: $WEFT_BIN_DIR, set by ctest.
std::string ProgramDirectory();

// A tiny causal language model on generated text: a few milliseconds a step.
v1::JobSpec TinySpec(const std::string& text_path, int64_t steps);

// The result of a program that ran to its end.
struct ProgramResult {
  int exit_code = 0;
  std::string output;  // standard output
  std::string errors;  // standard error
};

class TestCluster {
 public:
  TestCluster();
  ~TestCluster();
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  // Starts a coordinator (again) on the cluster's state and waits until it serves.
  absl::Status StartCoordinator(const std::vector<std::string>& flags = {});
  // Starts a worker (again), with one thread unless `flags` say, and waits until it has joined.
  absl::Status StartWorker(const std::string& name, const std::vector<std::string>& flags = {});
  // Starts a program of ours and does not wait for anything.
  absl::Status StartProgram(const std::string& name, const std::string& program,
                            const std::vector<std::string>& arguments);
  // Starts a coordinator (again) that shares a PostgreSQL database with others; each has a state
  // folder and an address of its own. Does not wait.
  absl::Status StartReplica(const std::string& name, const std::string& postgres,
                            const std::vector<std::string>& flags = {});
  // Waits until a replica other than `but` leads, and speaks to that one from now on.
  absl::StatusOr<std::string> AwaitLeader(const std::string& but = "");
  // A coordinator and workers w1 ... wN.
  absl::Status Start(int workers);

  // From now on our own calls and Cli speak TLS with these files; none: plain again.
  void UseTls(const TlsFiles& files);

  // SIGKILL, or another signal; returns when the process is gone.
  void Kill(const std::string& name, int signal);
  // The exit code of a process that ends by itself; -1 when it does not within the limit.
  int AwaitExit(const std::string& name, absl::Duration limit);
  [[nodiscard]] pid_t PidOf(const std::string& name);
  // Processes with this executable among the descendants of `name`.
  std::vector<pid_t> Descendants(const std::string& name, const std::string& program);

  // Runs a program to its end: one of ours by its name, any other by its path.
  ProgramResult RunProgram(const std::string& name, const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& environment = {});
  // `weft ARGUMENTS` against this cluster. This and RunProgram: any thread.
  ProgramResult Cli(const std::vector<std::string>& arguments);
  // A line for the shell, in which `weft` speaks to this cluster.
  ProgramResult Shell(const std::string& line);

  absl::StatusOr<v1::Job> Submit(const v1::JobSpec& spec);
  absl::StatusOr<v1::Job> GetJob(const std::string& name);
  // Polls until the job fulfils the condition; kDeadlineExceeded, with the job as it is, after
  // `limit`.
  absl::StatusOr<v1::Job> AwaitJob(const std::string& name,
                                   const std::function<bool(const v1::Job&)>& condition,
                                   absl::Duration limit = absl::Seconds(60));
  absl::StatusOr<v1::Job> AwaitState(const std::string& name, v1::Job::State state,
                                     absl::Duration limit = absl::Seconds(60));
  absl::StatusOr<v1::Job> AwaitStep(const std::string& name, int64_t step,
                                    absl::Duration limit = absl::Seconds(60));

  // Whether the coordinator's metrics come to hold this text within some seconds.
  bool AwaitMetric(const std::string& text);
  // The shared memory that this cluster's workers have made so far, by name.
  std::vector<std::string> SharedMemory();

  // Where a worker serves its metrics; waits until it says so.
  std::string WorkerMetrics(const std::string& name);

  // Of the coordinator that serves.
  [[nodiscard]] const std::string& address() const { return address_; }
  // The same; of replicas all, comma separated.
  [[nodiscard]] std::string addresses() const;
  [[nodiscard]] const std::string& coordinator_metrics() const { return metrics_address_; }
  [[nodiscard]] std::string state_directory() const {
    return (directory_.path() / "state").string();
  }
  [[nodiscard]] std::string directory() const { return directory_.path().string(); }
  // A text file for TinySpec.
  [[nodiscard]] std::string text_path() const { return (directory_.path() / "text").string(); }
  std::shared_ptr<grpc::Channel> channel();
  // What a process has printed on standard output, and on standard error.
  std::string OutputOf(const std::string& name);
  std::string ErrorsOf(const std::string& name);
  // Everything that the processes have printed.
  std::string Output();

 private:
  struct Process {
    ChildId child;
    bool running = false;
    ExitStatus exit;
    std::string output;
    std::string errors;
  };

  absl::Status Spawn(const std::string& name, const std::string& program,
                     std::vector<std::string> arguments,
                     const std::map<std::string, std::string>& environment);
  bool IsRunning(const std::string& name);
  // For `weft`.
  [[nodiscard]] std::map<std::string, std::string> CliEnvironment() const;

  const TempDir directory_;
  std::string address_;
  std::string metrics_address_;
  std::map<std::string, std::string> replicas_;  // addresses by name
  std::shared_ptr<grpc::Channel> channel_;
  TlsFiles tls_;
  std::atomic<int> programs_run_ = 0;
  std::vector<pid_t> worker_pids_;  // of all that were started
  absl::Mutex mutex_;
  std::map<std::string, Process> processes_;
  std::unique_ptr<ProcessSupervisor> supervisor_;  // last: its callbacks use what stands above
};

// GET http://ADDRESS/PATH over a plain socket; the body.
absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path);

}  // namespace weft::testing

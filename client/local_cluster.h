// LocalCluster: a coordinator and its workers as child processes of this one, on loopback. What
// `weft up` and `weft run` start.
//
// Threads: one thread uses it; callbacks of the children come from the supervisor's thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/process/process_supervisor.h"

namespace weft::client {

struct LocalClusterOptions {
  std::filesystem::path state_directory;
  int workers = 2;
  int threads_per_worker = 0;  // 0: the cores, shared out
  std::string listen = "127.0.0.1:0";
  // Worker i serves its metrics on the port after the i-th; port 0 lets the system choose all of
  // them.
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 0;
};

// Why a program ended: what it says of that itself behind its name ("weft-worker: ..."), without
// the log before it; else the last line that it has printed. Empty when it has printed nothing.
std::string LastWords(absl::string_view program, absl::string_view output);

class LocalCluster {
 public:
  // Returns when the coordinator serves and all workers have joined.
  //   kFailedPrecondition: another coordinator has the state directory.
  //   kInvalidArgument: an option is wrong.
  //   kInternal, kUnavailable: a process ended or did not come up; the text says why.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(const LocalClusterOptions& options);
  // Stops what Stop() did not.
  ~LocalCluster();

  [[nodiscard]] const std::string& address() const { return address_; }
  // Starts again what ended by itself, and says so on standard error. To be called about once a
  // second.
  absl::Status Revive();
  // Asks the workers to save and end, then the coordinator; kills what is left after `grace`.
  void Stop(absl::Duration grace);

 private:
  struct Process {
    std::string name;  // "coordinator", "w1": also of its log file
    ChildOptions options;
    ChildId child;
    bool running = false;
    ExitStatus exit;
    std::string tail;  // the last bytes of its output, for error texts
  };

  LocalCluster(const LocalClusterOptions& options, std::unique_ptr<ProcessSupervisor> supervisor);

  absl::Status StartAll();
  absl::Status Spawn(Process& process);
  absl::Status AwaitCoordinator(absl::Time deadline);
  absl::Status AwaitWorkers(absl::Time deadline);
  // Why a process that should run does not.
  absl::Status Died(const Process& process);
  [[nodiscard]] bool IsRunning(const Process& process);
  void AwaitEnd(const std::vector<Process*>& processes, absl::Time deadline);
  [[nodiscard]] Process MakeCoordinator() const;
  [[nodiscard]] Process MakeWorker(int index) const;

  const LocalClusterOptions options_;
  std::string address_;
  absl::Mutex mutex_;
  // The first one is the coordinator. The vector is fixed after construction; the fields that
  // change with the process's life (running, exit, tail) are under the mutex.
  std::vector<std::unique_ptr<Process>> processes_;
  // Last: no callback outlives the members above.
  std::unique_ptr<ProcessSupervisor> supervisor_;
};

}  // namespace weft::client

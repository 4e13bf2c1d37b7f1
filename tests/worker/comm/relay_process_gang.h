// RelayProcessGang: the real thing on one machine. mpirun, orted and weft-relay run as processes;
// in place of the agents stands a small one that runs what the remote shell asks for with `sh -c`,
// for all hosts.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/comm/exchange_gang.h"
#include "worker/comm/relay_exchange.h"
#include "worker/relay/relay_launcher.h"
#include "worker/relay/remote_shell.h"

namespace weft::testing {

class RelayProcessGang final : public ExchangeGang {
 public:
  // `hosts`: the number of ranks of each host. Needs weft-relay and weft-rsh in WEFT_BIN_DIR.
  explicit RelayProcessGang(std::vector<int> hosts);
  ~RelayProcessGang() override;

  [[nodiscard]] int ranks() const override { return static_cast<int>(exchanges_.size()); }
  [[nodiscard]] int hosts() const { return static_cast<int>(hosts_.size()); }
  void StartGeneration(int64_t generation) override;
  [[nodiscard]] worker::Membership MembershipOf(int rank) const override;
  worker::Exchange& exchange(int rank) override { return *exchanges_[static_cast<size_t>(rank)]; }

  // What an agent does at the end: tells the ranks, kills everything, removes everything.
  void EndGeneration();

  [[nodiscard]] pid_t mpirun() const { return mpirun_; }
  // The process of that program ("weft-relay", "orted") on that host; 0 when there is none.
  [[nodiscard]] pid_t ProcessOf(int host, const std::string& program) const;
  // Every process that belongs to the gang, zombies of this process not counted.
  [[nodiscard]] std::vector<pid_t> Processes() const;
  // What is left of the gang in /dev/shm and in the scratch folder.
  [[nodiscard]] std::vector<std::string> Leftovers() const;
  [[nodiscard]] const TempDir& scratch() const { return scratch_; }
  [[nodiscard]] const worker::RelayGang& gang() const { return gang_; }
  // What the agent does with requests of the remote shell; the default starts them.
  enum class Requests { kStart, kRefuse, kIgnore };
  void set_requests(Requests requests) { requests_ = requests; }

 private:
  void OnRequest(worker::RemoteShellServer::Session session, worker::RemoteShellRequest request);
  void OnHangup(worker::RemoteShellServer::Session session);
  void AbortSites(const absl::Status& why);
  pid_t Spawn(const worker::CommandLine& line);

  const std::vector<int> hosts_;
  TempDir scratch_;
  std::vector<std::string> environment_;
  std::optional<worker::RelayLauncher> launcher_;
  worker::RelayGang gang_;
  std::vector<std::unique_ptr<worker::Exchange>> exchanges_;
  std::vector<std::unique_ptr<worker::RelaySite>> sites_;
  std::vector<std::string> channels_;  // of all generations
  std::unique_ptr<worker::RemoteShellServer> server_;
  pid_t mpirun_ = 0;
  std::atomic<Requests> requests_{Requests::kStart};

  absl::Mutex mutex_;
  std::map<worker::RemoteShellServer::Session, pid_t> shells_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> waiters_ ABSL_GUARDED_BY(mutex_);
};

// Every process with an environment variable that starts so ("NAME=beginning of its value").
std::vector<pid_t> ProcessesWithVariable(const std::string& beginning);

// What this machine and build have; ends the test program when something is missing.
worker::RelayPrograms RequireRelayPrograms();

}  // namespace weft::testing

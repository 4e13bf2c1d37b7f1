// A seeded world around the real scheduling core, driver and store: workers, a network that loses,
// doubles, delays and reorders, clients that retry, and faults. What must always hold is checked
// after every event; then the faults stop, and every job has to reach its right end.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "coordinator/driver.h"
#include "coordinator/store/job_store.h"
#include "tests/simulation/sim_agent.h"
#include "tests/simulation/sim_loop.h"
#include "tests/simulation/sim_random.h"

namespace weft::simulation {

// Mistakes that a coordinator could have. The world makes them on its behalf, at its borders, to
// show that a simulation would notice.
enum class Plant {
  kNone,
  kNoFence,        // reports of older generations count for the present one
  kEdgeTriggered,  // a command is sent once and never again
  kKeptGang,       // a gang goes on after losing a member
  kLostCommit,     // a commit is confirmed and not stored
};

struct SimOptions {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  // No other fault than crashes of the coordinator, and a good network.
  bool only_coordinator_crashes = false;
  // Where to keep a real SQLite database; empty: a simulated disk.
  std::string sqlite_directory;
};

struct SimResult {
  std::string violation;  // empty: all went well
  uint64_t hash = 0;      // of everything that happened: equal for equal seeds
  int64_t events = 0;
  absl::Duration simulated;
  std::map<std::string, int64_t> situations;  // how often each was met
};

// Every situation that a long enough run must have met.
std::vector<std::string> NamedSituations();

SimResult RunSimulation(const SimOptions& options);

class SimWorld final : public SimSurroundings,
                       public coordinator::WorkerLink,
                       public coordinator::DriverObserver {
 public:
  explicit SimWorld(const SimOptions& options);
  SimResult Run();

  // SimSurroundings
  void Say(const WorkerName& from, coordinator::Event event) override;
  bool PeerWorks(const WorkerName& from, const GangMember& peer, JobId job,
                 Generation generation) override;
  void Finished(const WorkerName& worker, JobId job, Generation generation) override;
  // WorkerLink
  void Send(const coordinator::Command& command) override;
  // DriverObserver
  void OnFacts(absl::Span<const coordinator::Fact> facts,
               const coordinator::ClusterState& state) override;
  void OnCommit(const absl::Status& status, int64_t facts, absl::Duration took) override;
  void OnSteppedDown(const absl::Status& why) override;

 private:
  friend class SimStore;

  struct Coordinator {
    Coordinator(SimSchedule& schedule, Random& random);
    SimLoop loop;
    SimLoop store_loop;
    std::unique_ptr<coordinator::JobStore> store;
    std::unique_ptr<coordinator::Driver> driver;
  };
  struct Host {
    WorkerOffer offer;
    std::unique_ptr<SimAgent> agent;  // none while it is down
    int starts = 0;
    absl::Time cut_until = absl::InfinitePast();       // from the coordinator
    absl::Time data_cut_until = absl::InfinitePast();  // from its peers
    // Kept gang: what the coordinator is made to believe still runs here.
    std::vector<MemberReport> believed;
  };
  struct Client {  // one job's owner
    coordinator::JobRequest request;
    SimJobPlan plan;
    std::optional<JobId> job;  // once a submit was answered
    bool cancel_accepted = false;
  };

  // sim_world.cc: the life of the world
  void BuildWorkload();
  void StartCoordinator();
  void CrashCoordinator();
  void StartAgent(const WorkerName& name);
  void KillAgent(const WorkerName& name, absl::Duration down);
  void Tick();
  void Heal();
  [[nodiscard]] bool AllDone();

  // sim_network.cc: messages and requests
  using Reply = absl::AnyInvocable<void(absl::StatusOr<JobId>)>;
  void Request(coordinator::Event event, Reply reply);
  void Submit(size_t client);
  void Deliver(const WorkerName& from, coordinator::Event event);
  void Answer(const WorkerName& to, const Incarnation& incarnation, const coordinator::Event& event,
              const absl::StatusOr<JobId>& reply);
  // Runs `arrive` as often and as late as the network likes.
  void Carry(absl::AnyInvocable<void()> arrive);
  bool PlantOnTheWay(const WorkerName& from, coordinator::Event& event);
  bool PlantInCommand(const coordinator::Command& command);

  // sim_faults.cc
  void MaybeFault();
  void FaultAtClients();

  // sim_checks.cc
  void CheckFact(const coordinator::Fact& fact, const coordinator::ClusterState& state);
  void CheckFailure(const coordinator::GangReleased& released, const coordinator::Job& job);
  void CheckStart(const coordinator::StartMember& start);
  void CheckAccepted(const coordinator::ClusterState& state);
  void CheckEnd();
  void Violate(std::string what);
  void Meet(const std::string& situation) { ++result_.situations[situation]; }
  void Mix(uint64_t value);
  void Mix(absl::string_view text);

  const SimOptions options_;
  Random random_;
  SimSchedule schedule_;
  SimResult result_;

  std::map<WorkerName, Host> hosts_;
  std::vector<Client> clients_;
  std::unique_ptr<Coordinator> coordinator_;  // none while it is down
  int coordinator_starts_ = 0;
  // What the disk holds.
  coordinator::StoreVersion durable_version_;
  coordinator::ClusterState durable_;

  // The world's habits, drawn from the seed.
  int64_t loss_percent_ = 0;
  int64_t double_percent_ = 0;
  int64_t late_percent_ = 0;
  std::set<std::string> faults_;  // that happen in this world
  bool calm_ = false;             // the faults are over
  absl::Time store_refuses_until_ = absl::InfinitePast();
  absl::Time started_;

  std::set<std::tuple<WorkerName, JobId, Generation>> finished_;
  std::set<std::tuple<size_t, WorkerName, JobId, Generation>> sent_once_;
  std::map<JobId, Generation> running_before_crash_;
};

}  // namespace weft::simulation

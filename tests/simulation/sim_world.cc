#include "tests/simulation/sim_world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "coordinator/store/sqlite_job_store.h"

namespace weft::simulation {

using coordinator::ClusterState;
using coordinator::Driver;
using coordinator::Fact;
using coordinator::Job;
using coordinator::JobState;
using coordinator::JobStore;
using coordinator::StoredCluster;
using coordinator::StoreVersion;

namespace {
constexpr absl::Duration kFaultTime = absl::Seconds(45);
// Shorter than the policy's start_timeout: what only that would mend counts as never mended.
constexpr absl::Duration kCalmTime = absl::Minutes(8);
constexpr absl::Duration kTick = absl::Milliseconds(250);
constexpr int64_t kMostEvents = 2'000'000;
}  // namespace

// The store of one life of the coordinator. Behind it is the world's disk, or a SQLite database
// that the disk's content is held against.
class SimStore final : public JobStore {
 public:
  SimStore(SimWorld& world, std::unique_ptr<JobStore> real)
      : world_(world), real_(std::move(real)) {}

  absl::StatusOr<StoredCluster> Load() override {
    if (real_ == nullptr) {
      // Only what is durable survives: connections and reports do not.
      std::vector<Job> jobs;
      std::vector<coordinator::Worker> workers;
      std::vector<coordinator::QueueSettings> queues;
      for (const auto& [id, job] : world_.durable_.jobs) jobs.push_back(job);
      for (const auto& [name, worker] : world_.durable_.workers) workers.push_back(worker);
      for (const auto& [name, queue] : world_.durable_.queues) queues.push_back(queue.settings);
      return StoredCluster{world_.durable_version_,
                           coordinator::RestoreState(std::move(jobs), std::move(workers),
                                                     std::move(queues), world_.durable_.last_job)};
    }
    absl::StatusOr<StoredCluster> loaded = real_->Load();
    if (loaded.ok() && (loaded->version != world_.durable_version_ ||
                        loaded->state.jobs != world_.durable_.jobs)) {
      world_.Violate("the database does not hold what was committed");
    }
    return loaded;
  }

  absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                      absl::Span<const Fact> facts) override {
    if (world_.schedule_.Now() < world_.store_refuses_until_) {
      world_.Meet("a commit was refused");
      if (world_.random_.Percent(50)) return absl::UnavailableError("the disk is busy");
      return absl::ResourceExhaustedError("the disk is full");
    }
    if (world_.options_.plant == Plant::kLostCommit && world_.random_.Percent(5)) {
      ++lost_;
      return StoreVersion(expected.value() + 1);
    }
    const StoreVersion stored(expected.value() - lost_);
    if (real_ != nullptr) {
      absl::StatusOr<StoreVersion> next = real_->Commit(stored, facts);
      if (!next.ok()) return next;
    } else if (stored != world_.durable_version_) {
      return absl::AbortedError("another coordinator writes");
    }
    for (const Fact& fact : facts) Apply(world_.durable_, fact);
    world_.durable_version_ = stored.Next();
    return expected.Next();
  }

 private:
  SimWorld& world_;
  const std::unique_ptr<JobStore> real_;
  int64_t lost_ = 0;
};

SimWorld::Coordinator::Coordinator(SimSchedule& schedule, Random& random)
    : loop(schedule, [] { return absl::Microseconds(20); }), store_loop(schedule, [&random] {
        return random.Percent(3) ? random.Milliseconds(50, 800) : random.Milliseconds(1, 12);
      }) {}

SimWorld::SimWorld(const SimOptions& options)
    : options_(options), random_(options.seed), started_(schedule_.Now()) {
  if (options.only_coordinator_crashes) {
    faults_ = {"crash"};
  } else {
    // Each world has some of the faults: together they would hide each other.
    for (const char* fault :
         {"crash", "freeze", "agent", "host", "rank", "cut", "store", "drain", "pause", "cancel"}) {
      if (random_.Percent(40)) faults_.insert(fault);
    }
    if (random_.Percent(70)) loss_percent_ = random_.Between(1, 12);
    if (random_.Percent(50)) double_percent_ = random_.Between(1, 10);
    if (random_.Percent(50)) late_percent_ = random_.Between(1, 15);
  }
  BuildWorkload();
}

void SimWorld::BuildWorkload() {
  const int64_t hosts = random_.Between(2, 5);
  const bool two_classes = random_.Percent(25);
  const bool two_kinds = two_classes && random_.Percent(50);
  const bool two_slots = random_.Percent(25);
  for (int64_t i = 0; i < hosts; ++i) {
    Host& host = hosts_[absl::StrCat("w", i)];
    host.offer.device_kind = two_kinds && i % 2 == 1 ? "gpu" : "cpu";
    host.offer.device_class = two_classes && i % 2 == 1 ? "avx512" : "avx2";
    host.offer.slots = two_slots ? 2 : 1;
    host.offer.address = absl::StrCat("w", i, ":1");
  }
  const int64_t jobs = random_.Between(2, 6);
  for (int64_t i = 0; i < jobs; ++i) {
    Client client;
    client.plan.steps = random_.Between(4, 60);
    client.plan.checkpoint_every = random_.Between(2, 12);
    client.plan.user_error = !options_.only_coordinator_crashes && random_.Percent(7);
    client.request.name = "job";
    client.request.request_id = absl::StrCat("request-", i);
    client.request.device_kind = random_.Percent(15) ? coordinator::kAnyDeviceKind : "cpu";
    client.request.priority = static_cast<int32_t>(random_.Below(2));
    // What every class can give, so that the job can always end.
    const int64_t most = two_classes ? hosts / 2 : hosts;
    client.request.min_workers = static_cast<int32_t>(random_.Between(1, most));
    client.request.max_workers =
        static_cast<int32_t>(random_.Between(client.request.min_workers, hosts));
    client.request.slots_per_worker = static_cast<int32_t>(random_.Below(2));
    client.request.max_retries = static_cast<int32_t>(random_.Between(0, 6));
    client.request.spec = coordinator::SharedBytes(client.plan.Encode());
    clients_.push_back(std::move(client));
  }
}

void SimWorld::StartCoordinator() {
  if (coordinator_ != nullptr || !result_.violation.empty()) return;
  ++coordinator_starts_;
  coordinator_ = std::make_unique<Coordinator>(schedule_, random_);
  std::unique_ptr<JobStore> real;
  if (!options_.sqlite_directory.empty()) {
    auto opened = coordinator::SqliteJobStore::Open(options_.sqlite_directory);
    if (!opened.ok()) return Violate(absl::StrCat("store: ", opened.status().ToString()));
    real = *std::move(opened);
  }
  coordinator_->store = std::make_unique<SimStore>(*this, std::move(real));
  Driver::Options options;
  options.policy.adoption_grace = absl::Seconds(15);
  coordinator_->driver = std::make_unique<Driver>(coordinator_->loop, coordinator_->store_loop,
                                                  *coordinator_->store, *this, this, options);
  coordinator_->loop.Post([this] {
    absl::StatusOr<StoredCluster> loaded = coordinator_->store->Load();
    if (!loaded.ok()) return Violate(absl::StrCat("load: ", loaded.status().ToString()));
    if (const absl::Status whole = CheckInvariants(loaded->state); !whole.ok()) {
      return Violate(absl::StrCat("after loading: ", whole.ToString()));
    }
    CheckAccepted(loaded->state);
    coordinator_->driver->Start(*std::move(loaded));
  });
}

void SimWorld::CrashCoordinator() {
  if (coordinator_ == nullptr) return;
  Mix("crash");
  const Driver& driver = *coordinator_->driver;
  if (driver.pending() > 0) Meet("the coordinator crashed with a commit in flight");
  running_before_crash_.clear();
  for (const auto& [id, job] : driver.state().jobs) {
    if (job.state == JobState::kRunning) running_before_crash_[id] = job.generation;
  }
  coordinator_.reset();
  for (auto& [name, host] : hosts_) {
    if (host.agent == nullptr) continue;
    schedule_.After(random_.Milliseconds(1, 900),
                    [this, name = name, incarnation = host.agent->incarnation()] {
                      SimAgent* agent = hosts_[name].agent.get();
                      if (agent != nullptr && agent->incarnation() == incarnation) {
                        agent->OnStreamClosed();
                      }
                    });
  }
  schedule_.After(random_.Milliseconds(100, 9000), [this] { StartCoordinator(); });
}

void SimWorld::StartAgent(const WorkerName& name) {
  Host& host = hosts_[name];
  if (host.agent != nullptr) return;
  host.believed.clear();
  host.agent = std::make_unique<SimAgent>(name, absl::StrCat(name, "#", ++host.starts), host.offer,
                                          *this, random_);
}

void SimWorld::KillAgent(const WorkerName& name, absl::Duration down) {
  Host& host = hosts_[name];
  if (host.agent == nullptr) return;
  Mix(absl::StrCat("kill ", name));
  const Incarnation incarnation = host.agent->incarnation();
  if (host.agent->members_running() > 0) Meet("an agent died with ranks");
  host.agent.reset();
  // The connection usually breaks with the process; a host that loses power says nothing.
  if (random_.Percent(70)) {
    schedule_.After(random_.Milliseconds(1, 50), [this, name, incarnation] {
      Deliver(name, coordinator::WorkerLeft{name, incarnation});
    });
  }
  schedule_.After(down, [this, name] { StartAgent(name); });
}

void SimWorld::Tick() {
  for (auto& [name, host] : hosts_) {
    if (host.agent != nullptr) host.agent->Tick(schedule_.Now());
  }
  if (!calm_) MaybeFault();
  if (calm_) Heal();
  schedule_.After(kTick, [this] { Tick(); });
}

// Once the faults are over: people undo what they did, as often as it takes.
void SimWorld::Heal() {
  if (coordinator_ == nullptr || coordinator_->driver->pending() > 0) return;
  const ClusterState& state = coordinator_->driver->state();
  for (const auto& [name, worker] : state.workers) {
    if (worker.draining) Request(coordinator::UndrainRequested{name}, nullptr);
  }
  for (const auto& [id, job] : state.jobs) {
    if (job.state == JobState::kPaused) Request(coordinator::JobResumeRequested{id}, nullptr);
  }
}

bool SimWorld::AllDone() {
  if (coordinator_ == nullptr) return false;
  const ClusterState& state = coordinator_->driver->state();
  return std::all_of(clients_.begin(), clients_.end(), [&](const Client& client) {
    const Job* job = client.job.has_value() ? state.FindJob(*client.job) : nullptr;
    return job != nullptr && IsFinished(job->state);
  });
}

SimResult SimWorld::Run() {
  StartCoordinator();
  for (const auto& [name, host] : hosts_) {
    schedule_.After(random_.Milliseconds(0, 3000), [this, name = name] { StartAgent(name); });
  }
  for (size_t i = 0; i < clients_.size(); ++i) {
    schedule_.After(random_.Milliseconds(0, 20000), [this, i] { Submit(i); });
  }
  schedule_.After(kTick, [this] { Tick(); });
  schedule_.After(kFaultTime, [this] {
    calm_ = true;
    loss_percent_ = double_percent_ = late_percent_ = 0;
    store_refuses_until_ = absl::InfinitePast();
    for (auto& [name, host] : hosts_) {
      host.cut_until = host.data_cut_until = absl::InfinitePast();
    }
  });
  const absl::Time end = started_ + kFaultTime + kCalmTime;
  while (result_.violation.empty() && schedule_.RunNext(end)) {
    if (++result_.events > kMostEvents) Violate("the world does not come to rest");
    if (calm_ && AllDone()) break;
  }
  if (result_.violation.empty()) CheckEnd();
  result_.simulated = schedule_.Now() - started_;
  coordinator_.reset();
  return std::move(result_);
}

SimResult RunSimulation(const SimOptions& options) { return SimWorld(options).Run(); }

}  // namespace weft::simulation

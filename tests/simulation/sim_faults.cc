// What goes wrong in a SimWorld, drawn a few times a second.
#include <iterator>

#include "tests/simulation/sim_world.h"

namespace weft::simulation {

void SimWorld::MaybeFault() {
  const auto strikes = [this](const char* fault, int64_t percent) {
    return faults_.contains(fault) && random_.Percent(percent);
  };
  const auto any_host = [this] {
    return std::next(hosts_.begin(), random_.Below(static_cast<int64_t>(hosts_.size())))->first;
  };
  if (strikes("crash", 2)) CrashCoordinator();
  if (strikes("freeze", 1) && coordinator_ != nullptr) {
    Meet("the coordinator was stopped for seconds");
    coordinator_->loop.Freeze(schedule_.Now() + random_.Milliseconds(500, 12000));
  }
  if (strikes("agent", 2)) KillAgent(any_host(), random_.Milliseconds(100, 2500));
  if (strikes("host", 1)) KillAgent(any_host(), random_.Milliseconds(5000, 25000));
  if (strikes("rank", 3)) {
    SimAgent* agent = hosts_[any_host()].agent.get();
    if (agent != nullptr && agent->FailARank()) Meet("a rank crashed");
  }
  if (strikes("cut", 2)) {
    Host& host = hosts_[any_host()];
    host.cut_until = schedule_.Now() + random_.Milliseconds(300, 12000);
    if (random_.Percent(40)) host.data_cut_until = host.cut_until;
    Meet("a worker was cut off");
  }
  if (strikes("store", 1)) {
    store_refuses_until_ = schedule_.Now() + random_.Milliseconds(50, 9000);
  }
  FaultAtClients();
}

// People change their minds.
void SimWorld::FaultAtClients() {
  const auto strikes = [this](const char* fault, int64_t percent) {
    return faults_.contains(fault) && random_.Percent(percent);
  };
  Client& client =
      clients_[static_cast<size_t>(random_.Below(static_cast<int64_t>(clients_.size())))];
  if (client.job.has_value()) {
    if (strikes("pause", 3)) Request(coordinator::JobPauseRequested{*client.job}, nullptr);
    if (strikes("pause", 3)) Request(coordinator::JobResumeRequested{*client.job}, nullptr);
    if (strikes("cancel", 1)) {
      Request(coordinator::JobCancelRequested{*client.job},
              [this, &client](const absl::StatusOr<JobId>& reply) {
                if (!reply.ok()) return;
                client.cancel_accepted = true;
                Meet("a cancel was accepted");
              });
    }
  }
  const WorkerName worker =
      std::next(hosts_.begin(), random_.Below(static_cast<int64_t>(hosts_.size())))->first;
  if (strikes("drain", 2)) {
    const bool until_restart = random_.Below(2) == 0;
    Request(coordinator::DrainRequested{worker, "chance", until_restart}, nullptr);
  }
  if (strikes("drain", 2)) Request(coordinator::UndrainRequested{worker}, nullptr);
}

}  // namespace weft::simulation

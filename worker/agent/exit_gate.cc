#include "worker/agent/exit_gate.h"

#include <utility>

#include "worker/agent/agent_messages.h"

namespace weft::worker {

void ExitGate::Send(const Report& report) {
  if (Holds(report.id)) return;
  const bool again = report.id <= newest_;
  const auto job = JobIdOf(std::get<ExitReport>(report.content).key.job);
  if (again || shipper_.idle() || !job.ok()) {
    if (!again) newest_ = report.id;
    return send_(report);
  }
  newest_ = report.id;
  const TimerId limit =
      loop_.RunAt(loop_.clock().Now() + kLongestHold, [this, id = report.id] { Release(id); });
  held_.emplace(report.id, Held{report, limit});
  shipper_.WhenStored(*job, [this, id = report.id] { loop_.Post([this, id] { Release(id); }); });
}

void ExitGate::Release(ReportId id) {
  const auto found = held_.find(id);
  if (found == held_.end()) return;
  const Held held = std::move(found->second);
  held_.erase(found);
  loop_.Cancel(held.limit);
  send_(held.report);
}

}  // namespace weft::worker

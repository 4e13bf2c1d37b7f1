// ExitGate: what a member printed before it ended is stored at the coordinator before its end is
// told there. A job's followers stop reading at its end, and would miss the lines that say why.
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>

#include "absl/time/time.h"
#include "common/time/event_loop.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/log_shipper.h"

namespace weft::worker {

class ExitGate {
 public:
  // Less than AgentPolicy::farewell: an agent that ends has told all ends.
  static constexpr absl::Duration kLongestHold = absl::Milliseconds(1500);

  // All outlive the gate, which must outlive the threads of both loops.
  ExitGate(EventLoop& loop, LogShipper& shipper, std::function<void(const Report&)> send)
      : loop_(loop), shipper_(shipper), send_(std::move(send)) {}

  // Sends an end's report now or, where lines of its job are not stored, after kLongestHold at the
  // latest. One that is held back already is not sent twice. First calls come in the order of ids.
  void Send(const Report& report);
  [[nodiscard]] bool Holds(ReportId id) const { return held_.count(id) > 0; }

 private:
  struct Held {
    Report report;
    TimerId limit;
  };
  void Release(ReportId id);

  EventLoop& loop_;
  LogShipper& shipper_;
  const std::function<void(const Report&)> send_;
  std::map<ReportId, Held> held_;
  ReportId newest_;
};

}  // namespace weft::worker

#include "coordinator/core/policy.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weft::coordinator {

absl::Status Policy::Validate() const {
  std::vector<std::string> problems;
  const auto positive = [&](const char* name, absl::Duration value) {
    if (value <= absl::ZeroDuration() || value == absl::InfiniteDuration()) {
      problems.push_back(absl::StrCat(name, " is ", absl::FormatDuration(value),
                                      "; it must be positive and finite"));
    }
  };
  positive("heartbeat_interval", heartbeat_interval);
  positive("heartbeat_timeout", heartbeat_timeout);
  positive("reconnect_grace", reconnect_grace);
  positive("adoption_grace", adoption_grace);
  positive("start_timeout", start_timeout);
  positive("save_timeout", save_timeout);
  positive("release_timeout", release_timeout);
  positive("missing_grace", missing_grace);
  positive("forget_lost_worker", forget_lost_worker);
  positive("stall_tolerance", stall_tolerance);
  if (gather_time < absl::ZeroDuration()) problems.push_back("gather_time is negative");
  if (heartbeat_timeout < 2 * heartbeat_interval) {
    problems.push_back(absl::StrCat("heartbeat_timeout is ",
                                    absl::FormatDuration(heartbeat_timeout),
                                    "; it must be at least twice heartbeat_interval, which is ",
                                    absl::FormatDuration(heartbeat_interval)));
  }
  if (missing_grace < 2 * heartbeat_interval) {
    problems.push_back("missing_grace must be at least twice heartbeat_interval");
  }
  if (max_losses_without_progress < 0)
    problems.push_back("max_losses_without_progress is negative");
  if (max_queued_jobs < 1) problems.push_back("max_queued_jobs must be at least 1");
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
}

}  // namespace weft::coordinator

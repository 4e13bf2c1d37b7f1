// The filter of ListJobs: terms "field=value" joined by AND.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/core/job.h"

namespace weft::coordinator {

struct JobFilter {
  std::optional<JobState> state;
  std::optional<QueueName> queue;
  std::optional<std::string> spec_name;
  std::optional<bool> active;  // has not finished

  [[nodiscard]] bool Matches(const Job& job) const;
};

// kInvalidArgument names the term and what is allowed.
absl::StatusOr<JobFilter> ParseJobFilter(absl::string_view text);

}  // namespace weft::coordinator

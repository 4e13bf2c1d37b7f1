#include "coordinator/service/job_filter.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "common/rpc/field_violations.h"

namespace weft::coordinator {
namespace {

constexpr JobState kStates[] = {JobState::kQueued,    JobState::kStarting, JobState::kRunning,
                                JobState::kPausing,   JobState::kPaused,   JobState::kCancelling,
                                JobState::kSucceeded, JobState::kFailed,   JobState::kCancelled};

absl::Status BadTerm(absl::string_view term, absl::string_view allowed) {
  return InvalidField("filter", absl::StrCat("'", Utf8Prefix(term, 100), "': allowed: ", allowed));
}

absl::StatusOr<JobState> ParseState(absl::string_view term, absl::string_view value) {
  std::string allowed = "state=";
  for (const JobState state : kStates) {
    if (value == ToString(state)) return state;
    absl::StrAppend(&allowed, allowed.back() == '=' ? "" : ", ", ToString(state));
  }
  return BadTerm(term, allowed);
}

absl::Status AddTerm(absl::string_view term, JobFilter& filter) {
  const std::vector<absl::string_view> sides = absl::StrSplit(term, absl::MaxSplits('=', 1));
  const absl::string_view field = absl::StripAsciiWhitespace(sides.front());
  const absl::string_view value =
      sides.size() == 2 ? absl::StripAsciiWhitespace(sides.back()) : absl::string_view();
  if (sides.size() == 2 && !value.empty()) {
    if (field == "state" && !filter.state.has_value()) {
      WEFT_ASSIGN_OR_RETURN(filter.state, ParseState(term, value));
      return absl::OkStatus();
    }
    if (field == "queue" && !filter.queue.has_value()) {
      filter.queue = std::string(value);
      return absl::OkStatus();
    }
    if (field == "spec_name" && !filter.spec_name.has_value()) {
      filter.spec_name = std::string(value);
      return absl::OkStatus();
    }
    if (field == "active" && !filter.active.has_value()) {
      if (value != "true" && value != "false") return BadTerm(term, "active=true, active=false");
      filter.active = value == "true";
      return absl::OkStatus();
    }
  }
  return BadTerm(term,
                 "state=RUNNING, queue=default, spec_name=demo, active=true,"
                 " joined by AND, each field once");
}

}  // namespace

bool JobFilter::Matches(const Job& job) const {
  return (!state.has_value() || job.state == *state) &&
         (!queue.has_value() || job.request.queue == *queue) &&
         (!spec_name.has_value() || job.request.name == *spec_name) &&
         (!active.has_value() || *active != IsFinished(job.state));
}

absl::StatusOr<JobFilter> ParseJobFilter(absl::string_view text) {
  JobFilter filter;
  if (absl::StripAsciiWhitespace(text).empty()) return filter;
  for (const absl::string_view term : absl::StrSplit(text, " AND ")) {
    WEFT_RETURN_IF_ERROR(AddTerm(absl::StripAsciiWhitespace(term), filter));
  }
  return filter;
}

}  // namespace weft::coordinator

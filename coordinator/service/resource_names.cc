#include "coordinator/service/resource_names.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "common/rpc/field_violations.h"
#include "proto/spec/resolve.h"

namespace weft::coordinator {
namespace {

constexpr absl::string_view kCheckpoints = "/checkpoints/";

absl::Status BadName(absl::string_view field, absl::string_view resource,
                     absl::string_view allowed) {
  return InvalidField(
      field, absl::StrCat("'", Utf8Prefix(resource, 200), "' is no name; allowed: ", allowed));
}

// A positive number without sign or leading zeros: every name has one spelling.
std::optional<int64_t> ParseNumber(absl::string_view text) {
  int64_t value = 0;
  if (text.empty() || text.front() < '0' || text.front() > '9' || !absl::SimpleAtoi(text, &value)) {
    return std::nullopt;
  }
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  return value;
}

std::optional<JobName> ParseJobName(absl::string_view name) {
  const size_t dash = name.rfind('-');
  if (dash == absl::string_view::npos || !spec::IsName(name.substr(0, dash))) return std::nullopt;
  const std::optional<int64_t> number = ParseNumber(name.substr(dash + 1));
  if (!number.has_value() || *number < 1) return std::nullopt;
  return JobName{std::string(name), JobId(*number)};
}

absl::StatusOr<std::string> ParseSimple(absl::string_view field, absl::string_view resource,
                                        absl::string_view collection) {
  absl::string_view name = resource;
  if (absl::ConsumePrefix(&name, collection) && spec::IsName(name)) return std::string(name);
  return BadName(field, resource,
                 absl::StrCat(collection, "{name}, the name of ", spec::NameRule()));
}

}  // namespace

std::string JobResource(absl::string_view job_name) { return absl::StrCat(kJobs, job_name); }

std::string WorkerResource(absl::string_view worker) { return absl::StrCat(kWorkers, worker); }

std::string QueueResource(absl::string_view queue) { return absl::StrCat(kQueues, queue); }

std::string CheckpointResource(absl::string_view job_name, StepIndex step) {
  return absl::StrCat(kJobs, job_name, kCheckpoints, step.value());
}

absl::StatusOr<JobName> ParseJobResource(absl::string_view field, absl::string_view resource) {
  absl::string_view name = resource;
  if (absl::ConsumePrefix(&name, kJobs)) {
    if (auto job = ParseJobName(name); job.has_value()) return *std::move(job);
  }
  return BadName(field, resource, "jobs/{id}, for example jobs/demo-12");
}

absl::StatusOr<WorkerName> ParseWorkerResource(absl::string_view field,
                                               absl::string_view resource) {
  return ParseSimple(field, resource, kWorkers);
}

absl::StatusOr<QueueName> ParseQueueResource(absl::string_view field, absl::string_view resource) {
  return ParseSimple(field, resource, kQueues);
}

absl::StatusOr<CheckpointName> ParseCheckpointResource(absl::string_view field,
                                                       absl::string_view resource) {
  const size_t middle = resource.find(kCheckpoints);
  absl::StatusOr<JobName> job = ParseJobResource(field, resource.substr(0, middle));
  if (middle == absl::string_view::npos && job.ok()) return CheckpointName{*job, std::nullopt};
  if (middle != absl::string_view::npos && job.ok()) {
    const auto step = ParseNumber(resource.substr(middle + kCheckpoints.size()));
    if (step.has_value()) return CheckpointName{*job, StepIndex(*step)};
  }
  return BadName(
      field, resource,
      "jobs/{id} or jobs/{id}/checkpoints/{step}, for example jobs/demo-12/checkpoints/100");
}

}  // namespace weft::coordinator

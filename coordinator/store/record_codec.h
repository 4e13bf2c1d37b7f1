// Facts and current-state records as JSON text: readable with the sqlite3 shell, stable by the
// names of their keys. A key that is missing leaves the default (so that fields can be added
// without touching old databases); a value of the wrong type is kDataLoss. The spec of a job is
// kept beside its record.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/job.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

[[nodiscard]] std::string EncodeJob(const Job& job);  // without the spec
[[nodiscard]] absl::StatusOr<Job> DecodeJob(absl::string_view text);

[[nodiscard]] std::string EncodeWorker(const Worker& worker);  // its durable fields
[[nodiscard]] absl::StatusOr<Worker> DecodeWorker(absl::string_view text);

// The body of a durable fact, without its name; JobAdded without the spec.
[[nodiscard]] std::string EncodeFact(const Fact& fact);
// kDataLoss for an unknown name.
[[nodiscard]] absl::StatusOr<Fact> DecodeFact(absl::string_view name, absl::string_view text);

}  // namespace weft::coordinator

// The steps of all jobs, for curves. They are many, and losing the last second of them in a power
// cut harms nobody, so they are no facts and do not go through the job store. Kept where the jobs
// are: in an SQLite file beside those of one coordinator, or in the database that several share.
//
// Blocking; one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/core/ids.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

class StepHistory {
 public:
  // What a job's steps amount to; it survives the thinning of the history.
  struct Summary {
    v1::StepReport last;
    std::optional<double> first_loss;
    std::optional<double> validation_loss;
    std::vector<v1::StepMetric> validation_metrics;  // of the same evaluation
    int64_t furthest = 0;                            // the highest step ever reported

    void Add(const v1::StepReport& step);
    // As it is stored, `furthest` apart.
    [[nodiscard]] std::string Encode() const;
    // False: damaged.
    [[nodiscard]] bool Decode(absl::string_view bytes);
  };

  struct Options {
    // A job's history is thinned to half as soon as it has more points.
    int64_t max_points = 20000;
  };

  virtual ~StepHistory() = default;

  // Adds steps, or replaces those that were taken before (and are taken again after a restore).
  virtual absl::Status Append(JobId job, absl::Span<const v1::StepReport> steps) = 0;

  // Adds those of these steps that are not there: late news of a generation before the present one.
  // The summary stays.
  virtual absl::Status Fill(JobId job, absl::Span<const v1::StepReport> steps) = 0;

  // At most `limit` steps after `after`, oldest first. max_points > 0: of the whole history only so
  // many, evenly spread, the first and the last among them.
  virtual absl::StatusOr<std::vector<v1::StepReport>> Read(JobId job, int64_t after, int64_t limit,
                                                           int64_t max_points) = 0;

  // Of every job that has steps.
  [[nodiscard]] virtual const std::map<JobId, Summary>& summaries() const = 0;

  virtual absl::Status Delete(JobId job) = 0;
};

// What every kind of history does alike.

// Of `steps`, ascending, so many that are evenly spread, the first and the last among them; the
// last alone when there is room for one.
[[nodiscard]] std::vector<int64_t> SpreadSteps(std::vector<int64_t> steps, int64_t max_points);

// Steps that are no multiple of it go when a history of these steps is thinned to half of
// `max_points`. A power of two: of the points that an earlier thinning kept, all or every other one
// stay.
[[nodiscard]] int64_t ThinningStride(absl::Span<const int64_t> steps, int64_t max_points);

}  // namespace weft::coordinator

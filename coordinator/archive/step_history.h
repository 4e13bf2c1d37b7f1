// The steps of all jobs, in an SQLite file of their own: they are many, and losing the last second
// of them in a power cut harms nobody, so they do not go through the job store.
//
// Blocking; one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/core/ids.h"
#include "coordinator/store/sqlite_connection.h"
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
  };

  struct Options {
    // A job's history is thinned to half as soon as it has more points.
    int64_t max_points = 20000;
  };

  // kDataLoss when the file is damaged, kFailedPrecondition when a newer version wrote it; it is
  // left as it is.
  static absl::StatusOr<std::unique_ptr<StepHistory>> Open(const std::string& path,
                                                           Options options);

  // Adds steps, or replaces those that were taken before (and are taken again after a restore).
  absl::Status Append(JobId job, absl::Span<const v1::StepReport> steps);

  // At most `limit` steps after `after`, oldest first. max_points > 0: of the whole history only so
  // many, evenly spread, the first and the last among them.
  absl::StatusOr<std::vector<v1::StepReport>> Read(JobId job, int64_t after, int64_t limit,
                                                   int64_t max_points);

  // Of every job that has steps.
  [[nodiscard]] const std::map<JobId, Summary>& summaries() const { return summaries_; }

  absl::Status Delete(JobId job);

 private:
  StepHistory(std::unique_ptr<SqliteConnection> database, Options options);
  absl::Status Prepare();
  absl::Status ReadSummaries();
  absl::Status Store(JobId job, absl::Span<const v1::StepReport> steps);
  absl::Status StoreSummary(JobId job, absl::Span<const v1::StepReport> steps);
  absl::Status ThinWhenLong(JobId job);
  absl::StatusOr<std::vector<int64_t>> SpreadSteps(JobId job, int64_t max_points);

  const std::unique_ptr<SqliteConnection> database_;
  const Options options_;
  std::map<JobId, Summary> summaries_;  // as stored
};

}  // namespace weft::coordinator

// The step history of one coordinator: an SQLite file of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/archive/step_history.h"
#include "coordinator/store/sqlite_connection.h"

namespace weft::coordinator {

class SqliteStepHistory final : public StepHistory {
 public:
  // kDataLoss when the file is damaged, kFailedPrecondition when a newer version wrote it; it is
  // left as it is.
  static absl::StatusOr<std::unique_ptr<SqliteStepHistory>> Open(const std::string& path,
                                                                 Options options);

  absl::Status Append(JobId job, absl::Span<const v1::StepReport> steps) override;
  absl::Status Fill(JobId job, absl::Span<const v1::StepReport> steps) override;
  absl::StatusOr<std::vector<v1::StepReport>> Read(JobId job, int64_t after, int64_t limit,
                                                   int64_t max_points) override;
  [[nodiscard]] const std::map<JobId, Summary>& summaries() const override { return summaries_; }
  absl::Status Delete(JobId job) override;

 private:
  SqliteStepHistory(std::unique_ptr<SqliteConnection> database, Options options);
  absl::Status Prepare();
  absl::Status ReadSummaries();
  // `conflict`: what becomes of a step that is there, REPLACE or IGNORE (the new one).
  absl::Status Store(absl::string_view conflict, JobId job, absl::Span<const v1::StepReport> steps);
  absl::Status StoreSummary(JobId job, absl::Span<const v1::StepReport> steps);
  absl::Status ThinWhenLong(JobId job, int64_t added);
  // The end of a transaction that has added so many steps, at most, and has come to `status`.
  absl::Status End(JobId job, int64_t added, absl::Status status);
  absl::StatusOr<std::vector<int64_t>> StepsOf(JobId job);

  const std::unique_ptr<SqliteConnection> database_;
  const Options options_;
  std::map<JobId, Summary> summaries_;  // as stored
  // Of each job at most: steps taken again count twice. One not counted yet may have all.
  std::map<JobId, int64_t> points_;
};

}  // namespace weft::coordinator

#include "coordinator/archive/step_history.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kFormat = 1;

// `evaluated`: the step has a validation loss. They are few and wanted, so thinning spares them.
// `summary`: a weft.v1.Job of which only last_step, first_loss and what the last
// evaluation said are set.
constexpr char kSchema[] = R"(
  CREATE TABLE IF NOT EXISTS steps (
    job INTEGER NOT NULL, step INTEGER NOT NULL, evaluated INTEGER NOT NULL, report BLOB NOT NULL,
    PRIMARY KEY (job, step)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS summaries (
    job INTEGER PRIMARY KEY, furthest INTEGER NOT NULL, summary BLOB NOT NULL);
  PRAGMA user_version = 1;
)";

}  // namespace

void StepHistory::Summary::Add(const v1::StepReport& step) {
  if (!first_loss.has_value()) first_loss = step.loss();
  if (step.has_validation_loss()) {
    validation_loss = step.validation_loss();
    validation_metrics.assign(step.validation_metrics().begin(), step.validation_metrics().end());
  }
  furthest = std::max(furthest, step.step());
  last = step;
}

StepHistory::StepHistory(std::unique_ptr<SqliteConnection> database, Options options)
    : database_(std::move(database)), options_(options) {}

absl::StatusOr<std::unique_ptr<StepHistory>> StepHistory::Open(const std::string& path,
                                                               Options options) {
  WEFT_ASSIGN_OR_RETURN(auto database, SqliteConnection::Open(path));
  std::unique_ptr<StepHistory> history(new StepHistory(std::move(database), options));
  WEFT_RETURN_IF_ERROR(history->Prepare());
  WEFT_RETURN_IF_ERROR(history->ReadSummaries());
  return history;
}

absl::Status StepHistory::Prepare() {
  // Also the first look at the file: is it a database?
  WEFT_ASSIGN_OR_RETURN(const int64_t format, database_->QueryInt("PRAGMA user_version"));
  if (format > kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat(database_->path(), ": written by a newer version of weft-coordinator (format ",
                     format, ", this one knows ", kFormat, ")"));
  }
  // A power cut may lose the last commits, never tear one.
  WEFT_RETURN_IF_ERROR(database_->QueryText("PRAGMA journal_mode = WAL"));
  WEFT_RETURN_IF_ERROR(database_->Execute("PRAGMA synchronous = NORMAL"));
  WEFT_RETURN_IF_ERROR(database_->Execute("PRAGMA cache_size = -1024"));  // KiB
  return database_->Execute(kSchema);
}

absl::Status StepHistory::ReadSummaries() {
  WEFT_ASSIGN_OR_RETURN(SqliteStatement rows,
                        database_->Prepare("SELECT job, furthest, summary FROM summaries"));
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    v1::Job stored;
    if (!stored.ParseFromString(rows.Text(2))) {
      return absl::DataLossError(absl::StrCat(database_->path(), ": a summary is damaged"));
    }
    Summary& summary = summaries_[JobId(rows.Int(0))];
    summary.furthest = rows.Int(1);
    summary.last = stored.last_step();
    if (stored.has_first_loss()) summary.first_loss = stored.first_loss();
    if (stored.has_validation_loss()) summary.validation_loss = stored.validation_loss();
    summary.validation_metrics.assign(stored.validation_metrics().begin(),
                                      stored.validation_metrics().end());
  }
}

absl::Status StepHistory::Append(JobId job, absl::Span<const v1::StepReport> steps) {
  if (steps.empty()) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(database_->Execute("BEGIN"));
  absl::Status status = Store(job, steps);
  if (status.ok()) status = StoreSummary(job, steps);
  if (status.ok()) status = ThinWhenLong(job);
  if (status.ok()) status = database_->Execute("COMMIT");
  if (!status.ok()) database_->Execute("ROLLBACK").IgnoreError();  // it may be over already
  return status;
}

absl::Status StepHistory::Store(JobId job, absl::Span<const v1::StepReport> steps) {
  WEFT_ASSIGN_OR_RETURN(SqliteStatement insert,
                        database_->Prepare("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)"));
  for (const v1::StepReport& step : steps) {
    const std::string bytes = step.SerializeAsString();
    WEFT_RETURN_IF_ERROR(insert.BindInt(job.value())
                             .BindInt(step.step())
                             .BindInt(step.has_validation_loss() ? 1 : 0)
                             .BindBlob(bytes)
                             .Run());
  }
  return absl::OkStatus();
}

absl::Status StepHistory::StoreSummary(JobId job, absl::Span<const v1::StepReport> steps) {
  Summary& summary = summaries_[job];
  for (const v1::StepReport& step : steps) summary.Add(step);
  v1::Job stored;
  *stored.mutable_last_step() = summary.last;
  if (summary.first_loss.has_value()) stored.set_first_loss(*summary.first_loss);
  if (summary.validation_loss.has_value()) stored.set_validation_loss(*summary.validation_loss);
  *stored.mutable_validation_metrics() = {summary.validation_metrics.begin(),
                                          summary.validation_metrics.end()};
  const std::string bytes = stored.SerializeAsString();
  WEFT_ASSIGN_OR_RETURN(SqliteStatement replace,
                        database_->Prepare("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)"));
  return replace.BindInt(job.value()).BindInt(summary.furthest).BindBlob(bytes).Run();
}

absl::Status StepHistory::ThinWhenLong(JobId job) {
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement count,
      database_->Prepare(
          "SELECT count(*), sum(evaluated), min(step), max(step) FROM steps WHERE job = ?"));
  WEFT_RETURN_IF_ERROR(count.BindInt(job.value()).Step());
  const int64_t points = count.Int(0);
  if (points <= options_.max_points) return absl::OkStatus();
  const int64_t spare_evaluated = count.Int(1) <= options_.max_points / 4 ? 1 : 0;
  // Multiples of a power of two: of the points that an earlier thinning kept, all or every other
  // one stay.
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement kept,
      database_->Prepare("SELECT count(*) FROM steps WHERE job = ? AND step % ? = 0"));
  int64_t stride = 1;
  for (int64_t left = points; left > options_.max_points / 2 && stride < points * 2;) {
    stride *= 2;
    WEFT_RETURN_IF_ERROR(kept.BindInt(job.value()).BindInt(stride).Step());
    left = kept.Int(0);
    kept.Reset();
  }
  WEFT_ASSIGN_OR_RETURN(SqliteStatement thin, database_->Prepare(R"(
    DELETE FROM steps WHERE job = ? AND step % ? != 0 AND step != ? AND step != ?
      AND NOT (evaluated AND ?))"));
  return thin.BindInt(job.value())
      .BindInt(stride)
      .BindInt(count.Int(2))
      .BindInt(count.Int(3))
      .BindInt(spare_evaluated)
      .Run();
}

absl::StatusOr<std::vector<int64_t>> StepHistory::SpreadSteps(JobId job, int64_t max_points) {
  std::vector<int64_t> steps;
  WEFT_ASSIGN_OR_RETURN(SqliteStatement all,
                        database_->Prepare("SELECT step FROM steps WHERE job = ? ORDER BY step"));
  all.BindInt(job.value());
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, all.Step());
    if (!row) break;
    steps.push_back(all.Int(0));
  }
  const auto count = static_cast<int64_t>(steps.size());
  if (count <= max_points) return steps;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < max_points; ++i) {
    // The last one alone when there is room for one.
    const int64_t index = max_points == 1 ? count - 1 : i * (count - 1) / (max_points - 1);
    chosen.push_back(steps[static_cast<size_t>(index)]);
  }
  return chosen;
}

absl::StatusOr<std::vector<v1::StepReport>> StepHistory::Read(JobId job, int64_t after,
                                                              int64_t limit, int64_t max_points) {
  std::vector<int64_t> chosen;
  if (max_points > 0) {
    WEFT_ASSIGN_OR_RETURN(chosen, SpreadSteps(job, max_points));
  }
  std::vector<v1::StepReport> reports;
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement rows,
      database_->Prepare(
          "SELECT step, report FROM steps WHERE job = ? AND step > ? ORDER BY step"));
  rows.BindInt(job.value()).BindInt(after);
  while (static_cast<int64_t>(reports.size()) < limit) {
    WEFT_ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) break;
    if (max_points > 0 && !std::binary_search(chosen.begin(), chosen.end(), rows.Int(0))) {
      continue;
    }
    v1::StepReport report;
    if (!report.ParseFromString(rows.Text(1))) {
      return absl::DataLossError(absl::StrCat(database_->path(), ": a step report is damaged"));
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

absl::Status StepHistory::Delete(JobId job) {
  summaries_.erase(job);
  for (const char* const sql :
       {"DELETE FROM steps WHERE job = ?", "DELETE FROM summaries WHERE job = ?"}) {
    WEFT_ASSIGN_OR_RETURN(SqliteStatement remove, database_->Prepare(sql));
    WEFT_RETURN_IF_ERROR(remove.BindInt(job.value()).Run());
  }
  return absl::OkStatus();
}

}  // namespace weft::coordinator

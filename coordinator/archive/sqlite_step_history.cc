#include "coordinator/archive/sqlite_step_history.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kFormat = 1;

// `evaluated`: the step has a validation loss. They are few and wanted, so thinning spares them.
// `summary`: see Summary::Encode.
constexpr char kSchema[] = R"(
  CREATE TABLE IF NOT EXISTS steps (
    job INTEGER NOT NULL, step INTEGER NOT NULL, evaluated INTEGER NOT NULL, report BLOB NOT NULL,
    PRIMARY KEY (job, step)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS summaries (
    job INTEGER PRIMARY KEY, furthest INTEGER NOT NULL, summary BLOB NOT NULL);
  PRAGMA user_version = 1;
)";

}  // namespace

SqliteStepHistory::SqliteStepHistory(std::unique_ptr<SqliteConnection> database, Options options)
    : database_(std::move(database)), options_(options) {}

absl::StatusOr<std::unique_ptr<SqliteStepHistory>> SqliteStepHistory::Open(const std::string& path,
                                                                           Options options) {
  WEFT_ASSIGN_OR_RETURN(auto database, SqliteConnection::Open(path));
  std::unique_ptr<SqliteStepHistory> history(new SqliteStepHistory(std::move(database), options));
  WEFT_RETURN_IF_ERROR(history->Prepare());
  WEFT_RETURN_IF_ERROR(history->ReadSummaries());
  return history;
}

absl::Status SqliteStepHistory::Prepare() {
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

absl::Status SqliteStepHistory::ReadSummaries() {
  WEFT_ASSIGN_OR_RETURN(SqliteStatement rows,
                        database_->Prepare("SELECT job, furthest, summary FROM summaries"));
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    Summary& summary = summaries_[JobId(rows.Int(0))];
    summary.furthest = rows.Int(1);
    if (!summary.Decode(rows.Text(2))) {
      return absl::DataLossError(absl::StrCat(database_->path(), ": a summary is damaged"));
    }
  }
}

absl::Status SqliteStepHistory::Append(JobId job, absl::Span<const v1::StepReport> steps) {
  if (steps.empty()) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(database_->Execute("BEGIN"));
  absl::Status status = Store("REPLACE", job, steps);
  if (status.ok()) status = StoreSummary(job, steps);
  return End(job, static_cast<int64_t>(steps.size()), std::move(status));
}

absl::Status SqliteStepHistory::Fill(JobId job, absl::Span<const v1::StepReport> steps) {
  WEFT_RETURN_IF_ERROR(database_->Execute("BEGIN"));
  return End(job, static_cast<int64_t>(steps.size()), Store("IGNORE", job, steps));
}

absl::Status SqliteStepHistory::End(JobId job, int64_t added, absl::Status status) {
  if (status.ok()) status = ThinWhenLong(job, added);
  if (status.ok()) status = database_->Execute("COMMIT");
  if (!status.ok()) database_->Execute("ROLLBACK").IgnoreError();  // it may be over already
  return status;
}

absl::Status SqliteStepHistory::Store(absl::string_view conflict, JobId job,
                                      absl::Span<const v1::StepReport> steps) {
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement insert,
      database_->Prepare(absl::StrCat("INSERT OR ", conflict, " INTO steps VALUES (?, ?, ?, ?)")));
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

absl::Status SqliteStepHistory::StoreSummary(JobId job, absl::Span<const v1::StepReport> steps) {
  Summary& summary = summaries_[job];
  for (const v1::StepReport& step : steps) summary.Add(step);
  const std::string bytes = summary.Encode();
  WEFT_ASSIGN_OR_RETURN(SqliteStatement replace,
                        database_->Prepare("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)"));
  return replace.BindInt(job.value()).BindInt(summary.furthest).BindBlob(bytes).Run();
}

// Counts only when there may be too many: that takes as long as the history is.
absl::Status SqliteStepHistory::ThinWhenLong(JobId job, int64_t added) {
  const auto counted = points_.try_emplace(job, options_.max_points).first;
  counted->second += added;
  if (counted->second <= options_.max_points) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement count,
      database_->Prepare("SELECT count(*), sum(evaluated) FROM steps WHERE job = ?"));
  WEFT_RETURN_IF_ERROR(count.BindInt(job.value()).Step());
  counted->second = count.Int(0);
  if (counted->second <= options_.max_points) return absl::OkStatus();
  points_.erase(counted);  // counted by the next call
  const int64_t spare_evaluated = count.Int(1) <= options_.max_points / 4 ? 1 : 0;
  WEFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsOf(job));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement thin, database_->Prepare(R"(
    DELETE FROM steps WHERE job = ? AND step % ? != 0 AND step != ? AND step != ?
      AND NOT (evaluated AND ?))"));
  return thin.BindInt(job.value())
      .BindInt(ThinningStride(steps, options_.max_points))
      .BindInt(steps.front())
      .BindInt(steps.back())
      .BindInt(spare_evaluated)
      .Run();
}

absl::StatusOr<std::vector<int64_t>> SqliteStepHistory::StepsOf(JobId job) {
  std::vector<int64_t> steps;
  WEFT_ASSIGN_OR_RETURN(SqliteStatement all,
                        database_->Prepare("SELECT step FROM steps WHERE job = ? ORDER BY step"));
  all.BindInt(job.value());
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, all.Step());
    if (!row) return steps;
    steps.push_back(all.Int(0));
  }
}

absl::StatusOr<std::vector<v1::StepReport>> SqliteStepHistory::Read(JobId job, int64_t after,
                                                                    int64_t limit,
                                                                    int64_t max_points) {
  std::vector<int64_t> chosen;
  if (max_points > 0) {
    WEFT_ASSIGN_OR_RETURN(chosen, StepsOf(job));
    chosen = SpreadSteps(std::move(chosen), max_points);
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

absl::Status SqliteStepHistory::Delete(JobId job) {
  summaries_.erase(job);
  points_.erase(job);
  for (const char* const sql :
       {"DELETE FROM steps WHERE job = ?", "DELETE FROM summaries WHERE job = ?"}) {
    WEFT_ASSIGN_OR_RETURN(SqliteStatement remove, database_->Prepare(sql));
    WEFT_RETURN_IF_ERROR(remove.BindInt(job.value()).Run());
  }
  return absl::OkStatus();
}

}  // namespace weft::coordinator

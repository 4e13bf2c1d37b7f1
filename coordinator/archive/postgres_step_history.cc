#include "coordinator/archive/postgres_step_history.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"
#include "coordinator/store/postgres_connection.h"

namespace weft::coordinator {
namespace {

// A division by zero, and so the end of the transaction, once the term is another one's.
constexpr char kFence[] = "SELECT 1 / (term = $1::bigint)::integer FROM weft.meta";
constexpr char kFenced[] = "22012";

// A server that is silent takes the patience of whoever connects; those who wait behind fail at
// once for so long.
constexpr absl::Duration kReconnect = absl::Seconds(1);

struct Statement {
  const char* name;
  const char* sql;
};
constexpr Statement kStatements[] = {
    {"fence", kFence},
    {"put_step",
     "INSERT INTO weft.steps VALUES ($1, $2, $3, $4) ON CONFLICT (job, step) DO UPDATE "
     "SET evaluated = $3, report = $4"},
    {"fill_step", "INSERT INTO weft.steps VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"},
    {"put_summary",
     "INSERT INTO weft.step_summaries VALUES ($1, $2, $3) ON CONFLICT (job) DO UPDATE "
     "SET furthest = $2, summary = $3"},
    {"thin",
     "DELETE FROM weft.steps WHERE job = $1 AND step % $2::bigint != 0 AND step != $3 AND "
     "step != $4 AND NOT (evaluated AND $5::boolean)"},
    {"delete_steps", "DELETE FROM weft.steps WHERE job = $1"},
    {"delete_summary", "DELETE FROM weft.step_summaries WHERE job = $1"},
};

class PostgresStepHistory final : public StepHistory {
 public:
  PostgresStepHistory(PostgresOptions database, Options options)
      : database_(std::move(database)), options_(options) {}

  absl::Status Prepare() {
    WEFT_RETURN_IF_ERROR(Connect());
    WEFT_ASSIGN_OR_RETURN(term_, connection_->QueryInt("SELECT term FROM weft.meta"));
    return ReadSummaries();
  }

  absl::Status Append(JobId job, absl::Span<const v1::StepReport> steps) override;
  absl::Status Fill(JobId job, absl::Span<const v1::StepReport> steps) override;
  absl::StatusOr<std::vector<v1::StepReport>> Read(JobId job, int64_t after, int64_t limit,
                                                   int64_t max_points) override;
  [[nodiscard]] const std::map<JobId, Summary>& summaries() const override { return summaries_; }
  absl::Status Delete(JobId job) override;

 private:
  // The session, made anew if there is none.
  absl::Status Connect();
  absl::Status ReadSummaries();
  // In one transaction, if this coordinator still leads.
  absl::Status Write(std::vector<PostgresCall> calls);
  absl::StatusOr<std::vector<int64_t>> StepsOf(JobId job);
  absl::Status ThinWhenLong(JobId job, int64_t added);

  const PostgresOptions database_;
  const Options options_;
  std::unique_ptr<PostgresConnection> connection_;
  absl::Status failed_;  // why there is no session
  absl::Time next_try_ = absl::InfinitePast();
  int64_t term_ = 0;
  std::map<JobId, Summary> summaries_;  // as stored
  // Of each job at most: steps taken again count twice. One not counted yet may have all.
  std::map<JobId, int64_t> points_;
};

absl::Status PostgresStepHistory::Connect() {
  if (connection_ != nullptr && !connection_->lost()) return absl::OkStatus();
  if (absl::Now() < next_try_) return failed_;
  PostgresConnection::Options session;
  session.target = database_.target;
  session.password_file = database_.password_file;
  session.application_name = absl::StrCat("weft-coordinator steps ", database_.holder);
  session.patience = database_.lease / 2;
  absl::StatusOr<std::unique_ptr<PostgresConnection>> opened = PostgresConnection::Open(session);
  if (!opened.ok()) {
    failed_ = opened.status();
    next_try_ = absl::Now() + kReconnect;
    return failed_;
  }
  connection_ = *std::move(opened);
  // Nobody waits for a disk: the last moment may be lost.
  WEFT_RETURN_IF_ERROR(connection_->Execute(
      "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; "
      "SET synchronous_commit = off"));
  for (const Statement& statement : kStatements) {
    WEFT_RETURN_IF_ERROR(connection_->Prepare(statement.name, statement.sql));
  }
  return absl::OkStatus();
}

absl::Status PostgresStepHistory::ReadSummaries() {
  return connection_->Query(
      "SELECT job, furthest, summary FROM weft.step_summaries", {}, [this](const PostgresRow& row) {
        Summary& summary = summaries_[JobId(row.Int(0))];
        summary.furthest = row.Int(1);
        if (summary.Decode(row.Bytes(2))) return absl::OkStatus();
        return absl::DataLossError(absl::StrCat(connection_->name(), ": a summary is damaged"));
      });
}

absl::Status PostgresStepHistory::Write(std::vector<PostgresCall> calls) {
  WEFT_RETURN_IF_ERROR(Connect());
  calls.insert(calls.begin(), {"fence", PostgresValues().Int(term_)});
  absl::Status status = connection_->Run(calls);
  if (!status.ok() && !connection_->lost() && connection_->sqlstate() == kFenced) {
    return absl::AbortedError(
        absl::StrCat(connection_->name(), ": another coordinator leads by now"));
  }
  return status;
}

PostgresCall CallWith(const char* statement, JobId job, const v1::StepReport& step) {
  return {statement, PostgresValues()
                         .Int(job.value())
                         .Int(step.step())
                         .Int(step.has_validation_loss() ? 1 : 0)
                         .Bytes(step.SerializeAsString())};
}

absl::Status PostgresStepHistory::Append(JobId job, absl::Span<const v1::StepReport> steps) {
  if (steps.empty()) return absl::OkStatus();
  const auto known = summaries_.find(job);
  Summary summary = known == summaries_.end() ? Summary() : known->second;
  std::vector<PostgresCall> calls;
  for (const v1::StepReport& step : steps) {
    summary.Add(step);
    calls.push_back(CallWith("put_step", job, step));
  }
  calls.push_back(
      {"put_summary",
       PostgresValues().Int(job.value()).Int(summary.furthest).Bytes(summary.Encode())});
  WEFT_RETURN_IF_ERROR(Write(std::move(calls)));
  summaries_[job] = std::move(summary);
  return ThinWhenLong(job, static_cast<int64_t>(steps.size()));
}

absl::Status PostgresStepHistory::Fill(JobId job, absl::Span<const v1::StepReport> steps) {
  std::vector<PostgresCall> calls;
  for (const v1::StepReport& step : steps) calls.push_back(CallWith("fill_step", job, step));
  WEFT_RETURN_IF_ERROR(Write(std::move(calls)));
  return ThinWhenLong(job, static_cast<int64_t>(steps.size()));
}

absl::StatusOr<std::vector<int64_t>> PostgresStepHistory::StepsOf(JobId job) {
  std::vector<int64_t> steps;
  WEFT_RETURN_IF_ERROR(
      connection_->Query("SELECT step FROM weft.steps WHERE job = $1::bigint ORDER BY step",
                         PostgresValues().Int(job.value()), [&steps](const PostgresRow& row) {
                           steps.push_back(row.Int(0));
                           return absl::OkStatus();
                         }));
  return steps;
}

// Asks for the steps only when there may be too many.
absl::Status PostgresStepHistory::ThinWhenLong(JobId job, int64_t added) {
  const auto counted = points_.try_emplace(job, options_.max_points).first;
  counted->second += added;
  if (counted->second <= options_.max_points) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsOf(job));
  counted->second = static_cast<int64_t>(steps.size());
  if (counted->second <= options_.max_points) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(
      const int64_t evaluated,
      connection_->QueryInt("SELECT count(*) FROM weft.steps WHERE job = $1::bigint AND evaluated",
                            PostgresValues().Int(job.value())));
  WEFT_RETURN_IF_ERROR(Write({{"thin", PostgresValues()
                                           .Int(job.value())
                                           .Int(ThinningStride(steps, options_.max_points))
                                           .Int(steps.front())
                                           .Int(steps.back())
                                           .Int(evaluated <= options_.max_points / 4 ? 1 : 0)}}));
  points_.erase(counted);  // counted by the next call
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::StepReport>> PostgresStepHistory::Read(JobId job, int64_t after,
                                                                      int64_t limit,
                                                                      int64_t max_points) {
  WEFT_RETURN_IF_ERROR(Connect());
  PostgresValues values;
  values.Int(job.value()).Int(after).Int(limit);
  std::string chosen;
  if (max_points > 0) {
    WEFT_ASSIGN_OR_RETURN(std::vector<int64_t> steps, StepsOf(job));
    steps = SpreadSteps(std::move(steps), max_points);
    values.Text(absl::StrCat("{", absl::StrJoin(steps, ","), "}"));
    chosen = "AND step = ANY($4::bigint[]) ";
  }
  std::vector<v1::StepReport> reports;
  WEFT_RETURN_IF_ERROR(connection_->Query(
      absl::StrCat("SELECT report FROM weft.steps WHERE job = $1::bigint AND step > $2::bigint ",
                   chosen, "ORDER BY step LIMIT $3::bigint"),
      values, [&](const PostgresRow& row) {
        if (reports.emplace_back().ParseFromString(row.Bytes(0))) return absl::OkStatus();
        return absl::DataLossError(absl::StrCat(connection_->name(), ": a step report is damaged"));
      }));
  return reports;
}

absl::Status PostgresStepHistory::Delete(JobId job) {
  summaries_.erase(job);
  points_.erase(job);
  return Write({{"delete_steps", PostgresValues().Int(job.value())},
                {"delete_summary", PostgresValues().Int(job.value())}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<StepHistory>> OpenPostgresStepHistory(
    const PostgresOptions& database, StepHistory::Options options) {
  auto history = std::make_unique<PostgresStepHistory>(database, options);
  const absl::Status status = history->Prepare();
  if (absl::IsUnavailable(status)) return absl::AbortedError(status.message());
  if (!status.ok()) return status;
  return history;
}

}  // namespace weft::coordinator

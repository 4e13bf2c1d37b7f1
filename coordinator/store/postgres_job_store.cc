#include "coordinator/store/postgres_job_store.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/store/record_codec.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kSchemaVersion = 2;
constexpr int64_t kOldestServer = 140000;  // the first with idle_session_timeout
// The two numbers of the advisory lock: "weft", and the first lock of ours.
constexpr char kLock[] = "2003134068, 1";

constexpr char kSchema[] = R"sql(
CREATE TABLE weft.meta(
  id integer PRIMARY KEY CHECK (id = 1),
  schema_version bigint NOT NULL,
  version bigint NOT NULL,      -- commits so far: a writer that expects another one is fenced off
  last_job bigint NOT NULL,
  term bigint NOT NULL,         -- leaders so far: so is one that is not the last
  leader text NOT NULL);        -- the last one, for people
INSERT INTO weft.meta VALUES (1, 1, 0, 0, 0, '');
CREATE TABLE weft.facts(        -- history, oldest first
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version bigint NOT NULL,      -- of the commit
  name text NOT NULL,
  job bigint NOT NULL,          -- 0: about no job
  body text NOT NULL);
CREATE INDEX facts_by_job ON weft.facts(job) WHERE job != 0;
CREATE TABLE weft.jobs(         -- the columns before `record` are for people
  id bigint PRIMARY KEY,
  name text NOT NULL,
  queue text NOT NULL,
  state text NOT NULL,
  reason text NOT NULL,
  generation bigint NOT NULL,
  step bigint NOT NULL,
  created text NOT NULL,
  finished text NOT NULL,
  record text NOT NULL,
  spec bytea NOT NULL);
CREATE TABLE weft.workers(
  name text PRIMARY KEY,
  device_kind text NOT NULL,
  device_class text NOT NULL,
  slots bigint NOT NULL,
  address text NOT NULL,
  draining bigint NOT NULL,
  record text NOT NULL);
CREATE TABLE weft.queues(
  name text PRIMARY KEY,
  max_workers bigint NOT NULL);
)sql";

// Since schema 2: see coordinator/archive/postgres_step_history.cc, which fills them.
constexpr char kStepTables[] = R"sql(
CREATE TABLE weft.steps(        -- for curves; long histories are thinned
  job bigint NOT NULL,
  step bigint NOT NULL,
  evaluated boolean NOT NULL,   -- it has a validation loss
  report bytea NOT NULL,        -- weft.v1.StepReport
  PRIMARY KEY (job, step));
CREATE TABLE weft.step_summaries(
  job bigint PRIMARY KEY,
  furthest bigint NOT NULL,
  summary bytea NOT NULL);
UPDATE weft.meta SET schema_version = 2;
)sql";

// $1 $2: the version and the term that are expected. With others `version` would become NULL, which
// the table refuses: so a fenced commit is an error that undoes all, without a question before it.
// First in each transaction: its lock on the row lines up the writers.
constexpr char kFence[] = R"sql(
UPDATE weft.meta SET last_job = $4::bigint,
  version = CASE WHEN version = $1::bigint AND term = $2::bigint THEN $3::bigint END)sql";
constexpr char kFenced[] = "23502";  // not_null_violation

struct Statement {
  const char* name;
  const char* sql;
};
constexpr Statement kStatements[] = {
    {"fence", kFence},
    {"insert_fact", "INSERT INTO weft.facts(version, name, job, body) VALUES ($1, $2, $3, $4)"},
    {"trim_facts",
     "DELETE FROM weft.facts WHERE number <= (SELECT max(number) FROM weft.facts) - $1::bigint"},
    // The spec never changes: it is written once.
    {"insert_job", "INSERT INTO weft.jobs VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"},
    {"update_job",
     "UPDATE weft.jobs SET name = $2, queue = $3, state = $4, reason = $5, generation = $6, "
     "step = $7, created = $8, finished = $9, record = $10 WHERE id = $1"},
    {"delete_job", "DELETE FROM weft.jobs WHERE id = $1"},
    {"put_worker",
     "INSERT INTO weft.workers VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE "
     "SET device_kind = $2, device_class = $3, slots = $4, address = $5, draining = $6, "
     "record = $7"},
    {"delete_worker", "DELETE FROM weft.workers WHERE name = $1"},
    {"put_queue",
     "INSERT INTO weft.queues VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET max_workers = $2"},
    {"delete_queue", "DELETE FROM weft.queues WHERE name = $1"},
};

}  // namespace

PostgresJobStore::PostgresJobStore(std::unique_ptr<PostgresConnection> connection,
                                   PostgresOptions options)
    : connection_(std::move(connection)), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<PostgresJobStore>> PostgresJobStore::Open(PostgresOptions options) {
  PostgresConnection::Options session;
  session.target = options.target;
  session.password_file = options.password_file;
  session.application_name = absl::StrCat("weft-coordinator ", options.holder);
  session.patience = options.lease / 2;
  WEFT_ASSIGN_OR_RETURN(auto connection, PostgresConnection::Open(session));
  auto store = absl::WrapUnique(new PostgresJobStore(std::move(connection), std::move(options)));
  WEFT_RETURN_IF_ERROR(store->CheckServer());
  return store;
}

absl::Status PostgresJobStore::CheckServer() {
  WEFT_ASSIGN_OR_RETURN(const int64_t version,
                        connection_->QueryInt("SELECT current_setting('server_version_num')"));
  if (version < kOldestServer) {
    return absl::FailedPreconditionError(absl::StrCat(connection_->name(),
                                                      ": the server is of version ",
                                                      version / 10000, "; 14 or newer is needed"));
  }
  WEFT_ASSIGN_OR_RETURN(const std::string encoding,
                        connection_->QueryText("SELECT current_setting('server_encoding')"));
  if (encoding != "UTF8") {
    return absl::FailedPreconditionError(absl::StrCat(
        connection_->name(), ": its encoding is ", encoding, "; create it with ENCODING 'UTF8'"));
  }
  // Whatever the server's or the role's defaults are. Patience is ours; a commit that is answered
  // is on disk, and on those standby servers on which the operator wants it.
  return connection_->Execute(
      "SET statement_timeout = 0; SET lock_timeout = 0; "
      "SET default_transaction_isolation = 'read committed'; "
      "SELECT set_config('synchronous_commit', 'on', false) "
      "WHERE current_setting('synchronous_commit') = 'off'");
}

absl::StatusOr<bool> PostgresJobStore::TryLead() {
  WEFT_ASSIGN_OR_RETURN(const std::string taken, connection_->QueryText(absl::StrCat(
                                                     "SELECT pg_try_advisory_lock(", kLock, ")")));
  if (taken != "t") return false;
  const int64_t lease = absl::ToInt64Milliseconds(options_.lease);
  WEFT_RETURN_IF_ERROR(
      connection_->Execute(absl::StrCat("SET idle_session_timeout = ", lease,
                                        "; SET idle_in_transaction_session_timeout = ", lease)));
  WEFT_RETURN_IF_ERROR(PrepareSchema());
  WEFT_ASSIGN_OR_RETURN(
      term_,
      connection_->QueryInt("UPDATE weft.meta SET term = term + 1, leader = $1 RETURNING term",
                            PostgresValues().Text(options_.holder)));
  WEFT_RETURN_IF_ERROR(PrepareStatements());
  return true;
}

absl::StatusOr<std::string> PostgresJobStore::leader() {
  return connection_->QueryText(absl::StrCat(
      "SELECT coalesce(max(substr(application_name, 18)), '') FROM pg_stat_activity WHERE pid IN ("
      "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND "
      "(classid::bigint, objid::bigint) = (",
      kLock,
      ") AND database = "
      "(SELECT oid FROM pg_database WHERE datname = current_database()))"));
}

absl::Status PostgresJobStore::PrepareSchema() {
  WEFT_ASSIGN_OR_RETURN(
      const std::string schema,
      connection_->QueryText("SELECT coalesce(to_regnamespace('weft')::text, '')"));
  WEFT_ASSIGN_OR_RETURN(
      const int64_t tables,
      connection_->QueryInt("SELECT count(*) FROM pg_tables WHERE schemaname = 'weft'"));
  if (tables == 0) {  // the schema may have been made for us by somebody with the right to
    return connection_->Execute(
        absl::StrCat(schema.empty() ? "CREATE SCHEMA weft;" : "", kSchema, kStepTables));
  }
  WEFT_ASSIGN_OR_RETURN(
      const int64_t ours,
      connection_->QueryInt("SELECT count(*) FROM pg_attribute WHERE attname = 'schema_version' "
                            "AND attrelid = to_regclass('weft.meta')"));
  if (ours == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(connection_->name(), " has a schema weft, but not one of weft-coordinator"));
  }
  WEFT_ASSIGN_OR_RETURN(const int64_t version,
                        connection_->QueryInt("SELECT schema_version FROM weft.meta"));
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        connection_->name(), " was written by a newer weft-coordinator (its schema is ", version,
        ", this one knows ", kSchemaVersion, "); use that version or a copy from before"));
  }
  if (version == 1) return connection_->Execute(kStepTables);
  return absl::OkStatus();
}

absl::Status PostgresJobStore::PrepareStatements() {
  for (const Statement& statement : kStatements) {
    WEFT_RETURN_IF_ERROR(connection_->Prepare(statement.name, statement.sql));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Job>> PostgresJobStore::ReadJobs() {
  std::vector<Job> jobs;
  const auto read = [&](const PostgresRow& row) -> absl::Status {
    absl::StatusOr<Job> job = DecodeJob(row.Text(1));
    if (!job.ok()) {
      return Annotate(job.status(), absl::StrCat(connection_->name(), ": job ", row.Int(0)));
    }
    job->request.spec = SharedBytes(row.Bytes(2));
    jobs.push_back(*std::move(job));
    return absl::OkStatus();
  };
  WEFT_RETURN_IF_ERROR(
      connection_->Query("SELECT id, record, spec FROM weft.jobs ORDER BY id", {}, read));
  return jobs;
}

absl::StatusOr<std::vector<Worker>> PostgresJobStore::ReadWorkers() {
  std::vector<Worker> workers;
  const auto read = [&](const PostgresRow& row) -> absl::Status {
    absl::StatusOr<Worker> worker = DecodeWorker(row.Text(1));
    if (!worker.ok()) {
      return Annotate(worker.status(), absl::StrCat(connection_->name(), ": worker ", row.Text(0)));
    }
    workers.push_back(*std::move(worker));
    return absl::OkStatus();
  };
  WEFT_RETURN_IF_ERROR(connection_->Query("SELECT name, record FROM weft.workers", {}, read));
  return workers;
}

absl::StatusOr<std::vector<QueueSettings>> PostgresJobStore::ReadQueues() {
  std::vector<QueueSettings> queues;
  const auto read = [&](const PostgresRow& row) {
    queues.push_back({row.Text(0), static_cast<int32_t>(row.Int(1))});
    return absl::OkStatus();
  };
  WEFT_RETURN_IF_ERROR(connection_->Query("SELECT name, max_workers FROM weft.queues", {}, read));
  return queues;
}

absl::StatusOr<StoredCluster> PostgresJobStore::ReadRows() {
  WEFT_ASSIGN_OR_RETURN(const int64_t version,
                        connection_->QueryInt("SELECT version FROM weft.meta"));
  WEFT_ASSIGN_OR_RETURN(const int64_t last_job,
                        connection_->QueryInt("SELECT last_job FROM weft.meta"));
  WEFT_ASSIGN_OR_RETURN(std::vector<Job> jobs, ReadJobs());
  WEFT_ASSIGN_OR_RETURN(std::vector<Worker> workers, ReadWorkers());
  WEFT_ASSIGN_OR_RETURN(std::vector<QueueSettings> queues, ReadQueues());
  WEFT_ASSIGN_OR_RETURN(ClusterState state,
                        StateOfRows(connection_->name(), std::move(jobs), std::move(workers),
                                    std::move(queues), JobId(last_job)));
  return StoredCluster{StoreVersion(version), std::move(state)};
}

absl::StatusOr<StoredCluster> PostgresJobStore::Load() {
  mirror_.reset();
  absl::StatusOr<StoredCluster> loaded = ReadRows();
  if (!loaded.ok()) return AsLeader(loaded.status());
  mirror_ = *std::move(loaded);
  return *mirror_;
}

absl::Status PostgresJobStore::AsLeader(const absl::Status& status) const {
  if (!connection_->lost()) return status;
  return absl::AbortedError(
      absl::StrCat(status.message(), "; another coordinator may lead by now"));
}

absl::Status PostgresJobStore::Renew() {
  return AsLeader(connection_->QueryInt("SELECT 1").status());
}

absl::StatusOr<StoreVersion> PostgresJobStore::Commit(StoreVersion expected,
                                                      absl::Span<const Fact> facts) {
  if (!mirror_.has_value()) WEFT_RETURN_IF_ERROR(Load().status());
  // Whatever goes wrong below: nothing was stored, and the mirror is read again.
  absl::Cleanup undo = [this] { mirror_.reset(); };
  const StoreVersion next = expected.Next();
  const JobId known = mirror_->state.last_job;
  const RowChanges changes = ApplyFacts(mirror_->state, facts);
  std::vector<PostgresCall> calls;
  calls.push_back({"fence", PostgresValues()
                                .Int(expected.value())
                                .Int(term_)
                                .Int(next.value())
                                .Int(mirror_->state.last_job.value())});
  AddFacts(next, facts, calls);
  AddRows(changes, known, calls);
  const absl::Status stored = connection_->Run(calls);
  if (!stored.ok()) {
    if (!connection_->lost() && connection_->sqlstate() == kFenced) {
      return absl::AbortedError(absl::StrCat(connection_->name(), " is not at version ",
                                             expected.value(), " of term ", term_,
                                             ": another coordinator writes to it"));
    }
    return AsLeader(stored);
  }
  std::move(undo).Cancel();
  mirror_->version = next;
  return next;
}

void PostgresJobStore::AddFacts(StoreVersion version, absl::Span<const Fact> facts,
                                std::vector<PostgresCall>& calls) const {
  for (const Fact& fact : facts) {
    calls.push_back({"insert_fact", PostgresValues()
                                        .Int(version.value())
                                        .Text(FactName(fact))
                                        .Int(JobOf(fact).value())
                                        .Text(EncodeFact(fact))});
  }
  if (version.value() % options_.trim_every == 0) {
    calls.push_back({"trim_facts", PostgresValues().Int(options_.facts_kept)});
  }
}

void PostgresJobStore::AddRows(const RowChanges& changes, JobId known,
                               std::vector<PostgresCall>& calls) const {
  const ClusterState& state = mirror_->state;
  for (const JobId id : changes.jobs) {
    const Job* const job = state.FindJob(id);
    if (job == nullptr) {
      calls.push_back({"delete_job", PostgresValues().Int(id.value())});
      continue;
    }
    PostgresValues values;
    values.Int(id.value())
        .Text(job->name)
        .Text(job->request.queue)
        .Text(ToString(job->state))
        .Text(job->reason.text)
        .Int(job->generation.value())
        .Int(job->step.value())
        .Text(ReadableTime(job->created))
        .Text(ReadableTime(job->finished))
        .Text(EncodeJob(*job));
    // Ids grow: a job that is newer than those that were known has no row yet.
    const bool is_new = id > known;
    if (is_new) values.Bytes(job->request.spec.str());
    calls.push_back({is_new ? "insert_job" : "update_job", std::move(values)});
  }
  for (const WorkerName& name : changes.workers) {
    const Worker* const worker = state.FindWorker(name);
    if (worker == nullptr) {
      calls.push_back({"delete_worker", PostgresValues().Text(name)});
      continue;
    }
    calls.push_back({"put_worker", PostgresValues()
                                       .Text(name)
                                       .Text(worker->offer.device_kind)
                                       .Text(worker->offer.device_class)
                                       .Int(worker->offer.slots)
                                       .Text(worker->offer.address)
                                       .Int(worker->draining ? 1 : 0)
                                       .Text(EncodeWorker(*worker))});
  }
  for (const QueueName& name : changes.queues) {
    const Queue* const queue = state.FindQueue(name);
    if (queue == nullptr) {
      calls.push_back({"delete_queue", PostgresValues().Text(name)});
    } else {
      calls.push_back({"put_queue", PostgresValues().Text(name).Int(queue->settings.max_workers)});
    }
  }
}

}  // namespace weft::coordinator

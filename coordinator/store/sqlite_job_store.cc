#include "coordinator/store/sqlite_job_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/store/record_codec.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kApplicationId = 0x77656674;  // "weft"
constexpr int64_t kSchemaVersion = 1;
constexpr int64_t kPageBytes = 4096;

constexpr char kSchema[] = R"sql(
CREATE TABLE meta(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,   -- commits so far: a writer that expects another one is fenced off
  last_job INTEGER NOT NULL);
INSERT INTO meta VALUES (1, 0, 0);
CREATE TABLE facts(           -- history, oldest first
  number INTEGER PRIMARY KEY,
  version INTEGER NOT NULL,   -- of the commit
  name TEXT NOT NULL,
  job INTEGER NOT NULL,       -- 0: about no job
  body TEXT NOT NULL);
CREATE INDEX facts_by_job ON facts(job) WHERE job != 0;
CREATE TABLE jobs(            -- the columns before `record` are for people
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  queue TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  generation INTEGER NOT NULL,
  step INTEGER NOT NULL,
  created TEXT NOT NULL,
  finished TEXT NOT NULL,
  record TEXT NOT NULL,
  spec BLOB NOT NULL);
CREATE TABLE workers(
  name TEXT PRIMARY KEY,
  device_kind TEXT NOT NULL,
  device_class TEXT NOT NULL,
  slots INTEGER NOT NULL,
  address TEXT NOT NULL,
  draining INTEGER NOT NULL,
  record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE queues(
  name TEXT PRIMARY KEY,
  max_workers INTEGER NOT NULL) WITHOUT ROWID;
)sql";

// So that the new file's name survives a power cut.
absl::Status SyncDirectory(const std::string& directory) {
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", directory));
  const int failed = fsync(descriptor) == 0 ? 0 : errno;
  close(descriptor);
  if (failed != 0) return absl::ErrnoToStatus(failed, absl::StrCat("cannot sync ", directory));
  return absl::OkStatus();
}

absl::Status CreateSchema(SqliteConnection& connection) {
  WEFT_RETURN_IF_ERROR(connection.Execute(
      absl::StrCat("BEGIN IMMEDIATE;", kSchema, "PRAGMA application_id=", kApplicationId,
                   ";PRAGMA user_version=", kSchemaVersion, ";COMMIT;")));
  const std::string& path = connection.path();
  return SyncDirectory(path.substr(0, path.rfind('/')));
}

// Ours, of a version we know, and whole; an empty file is given the schema.
absl::Status CheckFile(SqliteConnection& connection) {
  WEFT_ASSIGN_OR_RETURN(const int64_t tables,
                        connection.QueryInt("SELECT count(*) FROM sqlite_schema"));
  WEFT_ASSIGN_OR_RETURN(const int64_t application, connection.QueryInt("PRAGMA application_id"));
  WEFT_ASSIGN_OR_RETURN(const int64_t version, connection.QueryInt("PRAGMA user_version"));
  if (tables == 0 && application == 0) return CreateSchema(connection);
  if (application != kApplicationId) {
    return absl::FailedPreconditionError(
        absl::StrCat(connection.path(), " is a SQLite database, but not one of weft-coordinator"));
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        connection.path(), " was written by a newer weft-coordinator (its schema is ", version,
        ", this one knows ", kSchemaVersion, "); use that version or a copy from before"));
  }
  WEFT_ASSIGN_OR_RETURN(const std::string found, connection.QueryText("PRAGMA quick_check(1)"));
  if (found != "ok") {
    return absl::DataLossError(
        absl::StrCat(connection.path(), " is damaged: ", found, "; restore it from a copy"));
  }
  return absl::OkStatus();
}

}  // namespace

SqliteJobStore::SqliteJobStore(DirectoryLock lock, std::unique_ptr<SqliteConnection> connection,
                               Options options)
    : lock_(std::move(lock)), connection_(std::move(connection)), options_(options) {}

absl::StatusOr<std::unique_ptr<SqliteJobStore>> SqliteJobStore::Open(const std::string& directory,
                                                                     Options options) {
  WEFT_ASSIGN_OR_RETURN(DirectoryLock lock, DirectoryLock::Take(directory));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SqliteConnection> connection,
                        SqliteConnection::Open(absl::StrCat(directory, "/", kFileName)));
  // Readers with a shell never block a WAL writer; a writing shell gets two seconds to finish.
  WEFT_RETURN_IF_ERROR(connection->Execute(
      "PRAGMA busy_timeout=2000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"));
  WEFT_RETURN_IF_ERROR(CheckFile(*connection));
  if (options.max_bytes > 0) {
    WEFT_RETURN_IF_ERROR(connection->Execute(
        absl::StrCat("PRAGMA max_page_count=", options.max_bytes / kPageBytes)));
  }
  auto store =
      absl::WrapUnique(new SqliteJobStore(std::move(lock), std::move(connection), options));
  WEFT_RETURN_IF_ERROR(store->Prepare());
  return store;
}

absl::Status SqliteJobStore::Prepare() {
  SqliteConnection& db = *connection_;
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement insert_fact,
      db.Prepare("INSERT INTO facts(version, name, job, body) VALUES (?, ?, ?, ?)"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement insert_job,
                        db.Prepare("INSERT INTO jobs(name, queue, state, reason, generation, step, "
                                   "created, finished, record, id, spec) "
                                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement update_job,
      db.Prepare("UPDATE jobs SET name=?, queue=?, state=?, reason=?, generation=?, step=?, "
                 "created=?, finished=?, record=? WHERE id=?"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement delete_job, db.Prepare("DELETE FROM jobs WHERE id=?"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement put_worker,
                        db.Prepare("REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?, ?)"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement delete_worker,
                        db.Prepare("DELETE FROM workers WHERE name=?"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement put_queue, db.Prepare("REPLACE INTO queues VALUES (?, ?)"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement delete_queue,
                        db.Prepare("DELETE FROM queues WHERE name=?"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement read_version, db.Prepare("SELECT version FROM meta"));
  WEFT_ASSIGN_OR_RETURN(SqliteStatement write_meta,
                        db.Prepare("UPDATE meta SET version=?, last_job=?"));
  WEFT_ASSIGN_OR_RETURN(
      SqliteStatement trim_facts,
      db.Prepare("DELETE FROM facts WHERE number <= (SELECT max(number) FROM facts) - ?"));
  statements_.emplace(
      Statements{std::move(insert_fact), std::move(insert_job), std::move(update_job),
                 std::move(delete_job), std::move(put_worker), std::move(delete_worker),
                 std::move(put_queue), std::move(delete_queue), std::move(read_version),
                 std::move(write_meta), std::move(trim_facts)});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Job>> SqliteJobStore::ReadJobs() {
  std::vector<Job> jobs;
  WEFT_ASSIGN_OR_RETURN(SqliteStatement select,
                        connection_->Prepare("SELECT id, record, spec FROM jobs ORDER BY id"));
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return jobs;
    absl::StatusOr<Job> job = DecodeJob(select.Text(1));
    if (!job.ok()) {
      return Annotate(job.status(), absl::StrCat(connection_->path(), ": job ", select.Int(0)));
    }
    job->request.spec = SharedBytes(select.Text(2));
    jobs.push_back(*std::move(job));
  }
}

absl::StatusOr<std::vector<Worker>> SqliteJobStore::ReadWorkers() {
  std::vector<Worker> workers;
  WEFT_ASSIGN_OR_RETURN(SqliteStatement select,
                        connection_->Prepare("SELECT name, record FROM workers ORDER BY name"));
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return workers;
    absl::StatusOr<Worker> worker = DecodeWorker(select.Text(1));
    if (!worker.ok()) {
      return Annotate(worker.status(),
                      absl::StrCat(connection_->path(), ": worker ", select.Text(0)));
    }
    workers.push_back(*std::move(worker));
  }
}

absl::StatusOr<std::vector<QueueSettings>> SqliteJobStore::ReadQueues() {
  std::vector<QueueSettings> queues;
  WEFT_ASSIGN_OR_RETURN(SqliteStatement select,
                        connection_->Prepare("SELECT name, max_workers FROM queues ORDER BY name"));
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return queues;
    queues.push_back({select.Text(0), static_cast<int32_t>(select.Int(1))});
  }
}

absl::StatusOr<StoredCluster> SqliteJobStore::ReadRows() {
  WEFT_ASSIGN_OR_RETURN(const int64_t version, connection_->QueryInt("SELECT version FROM meta"));
  WEFT_ASSIGN_OR_RETURN(const int64_t last_job, connection_->QueryInt("SELECT last_job FROM meta"));
  WEFT_ASSIGN_OR_RETURN(std::vector<Job> jobs, ReadJobs());
  WEFT_ASSIGN_OR_RETURN(std::vector<Worker> workers, ReadWorkers());
  WEFT_ASSIGN_OR_RETURN(std::vector<QueueSettings> queues, ReadQueues());
  WEFT_ASSIGN_OR_RETURN(ClusterState state,
                        StateOfRows(connection_->path(), std::move(jobs), std::move(workers),
                                    std::move(queues), JobId(last_job)));
  return StoredCluster{StoreVersion(version), std::move(state)};
}

absl::StatusOr<StoredCluster> SqliteJobStore::Load() {
  mirror_.reset();
  WEFT_ASSIGN_OR_RETURN(mirror_, ReadRows());
  jobs_with_row_.clear();
  for (const auto& [id, job] : mirror_->state.jobs) jobs_with_row_.insert(id);
  return *mirror_;
}

absl::StatusOr<StoreVersion> SqliteJobStore::Commit(StoreVersion expected,
                                                    absl::Span<const Fact> facts) {
  if (!mirror_.has_value()) WEFT_RETURN_IF_ERROR(Load().status());
  WEFT_RETURN_IF_ERROR(connection_->Execute("BEGIN IMMEDIATE"));
  // Whatever goes wrong below: the file stays as it was, and the mirror is read again from it.
  absl::Cleanup undo = [this] {
    mirror_.reset();
    connection_->Execute("ROLLBACK").IgnoreError();  // SQLite may have rolled back by itself
  };
  WEFT_ASSIGN_OR_RETURN(const bool row, statements_->read_version.Step());
  const StoreVersion present(row ? statements_->read_version.Int(0) : -1);
  statements_->read_version.Reset();
  if (present != expected) {
    return absl::AbortedError(absl::StrCat(connection_->path(), " is at version ", present.value(),
                                           ", not at ", expected.value(),
                                           ": another coordinator writes to it"));
  }
  const StoreVersion next = expected.Next();
  WEFT_RETURN_IF_ERROR(WriteFacts(next, facts));
  WEFT_RETURN_IF_ERROR(WriteRows(ApplyFacts(mirror_->state, facts)));
  WEFT_RETURN_IF_ERROR(
      statements_->write_meta.BindInt(next.value()).BindInt(mirror_->state.last_job.value()).Run());
  WEFT_RETURN_IF_ERROR(connection_->Execute("COMMIT"));
  std::move(undo).Cancel();
  mirror_->version = next;
  return next;
}

absl::Status SqliteJobStore::WriteFacts(StoreVersion version, absl::Span<const Fact> facts) {
  for (const Fact& fact : facts) {
    WEFT_RETURN_IF_ERROR(statements_->insert_fact.BindInt(version.value())
                             .BindText(FactName(fact))
                             .BindInt(JobOf(fact).value())
                             .BindText(EncodeFact(fact))
                             .Run());
  }
  if (version.value() % options_.trim_every != 0) return absl::OkStatus();
  return statements_->trim_facts.BindInt(options_.facts_kept).Run();
}

absl::Status SqliteJobStore::WriteRows(const RowChanges& changes) {
  const ClusterState& state = mirror_->state;
  for (const JobId id : changes.jobs) {
    if (const Job* job = state.FindJob(id)) {
      WEFT_RETURN_IF_ERROR(WriteJob(*job));
    } else {
      WEFT_RETURN_IF_ERROR(statements_->delete_job.BindInt(id.value()).Run());
      jobs_with_row_.erase(id);
    }
  }
  for (const WorkerName& name : changes.workers) {
    const Worker* worker = state.FindWorker(name);
    if (worker == nullptr) {
      WEFT_RETURN_IF_ERROR(statements_->delete_worker.BindText(name).Run());
      continue;
    }
    WEFT_RETURN_IF_ERROR(statements_->put_worker.BindText(name)
                             .BindText(worker->offer.device_kind)
                             .BindText(worker->offer.device_class)
                             .BindInt(worker->offer.slots)
                             .BindText(worker->offer.address)
                             .BindInt(worker->draining ? 1 : 0)
                             .BindText(EncodeWorker(*worker))
                             .Run());
  }
  for (const QueueName& name : changes.queues) {
    const Queue* queue = state.FindQueue(name);
    WEFT_RETURN_IF_ERROR(
        queue == nullptr
            ? statements_->delete_queue.BindText(name).Run()
            : statements_->put_queue.BindText(name).BindInt(queue->settings.max_workers).Run());
  }
  return absl::OkStatus();
}

absl::Status SqliteJobStore::WriteJob(const Job& job) {
  // The spec never changes: it is written once.
  const bool known = jobs_with_row_.contains(job.id);
  SqliteStatement& write = known ? statements_->update_job : statements_->insert_job;
  write.BindText(job.name)
      .BindText(job.request.queue)
      .BindText(ToString(job.state))
      .BindText(job.reason.text)
      .BindInt(job.generation.value())
      .BindInt(job.step.value())
      .BindText(ReadableTime(job.created))
      .BindText(ReadableTime(job.finished))
      .BindText(EncodeJob(job))
      .BindInt(job.id.value());
  if (!known) write.BindBlob(job.request.spec.str());
  WEFT_RETURN_IF_ERROR(write.Run());
  jobs_with_row_.insert(job.id);
  return absl::OkStatus();
}

}  // namespace weft::coordinator

#include "coordinator/archive/archive.h"

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/log/log.h"

namespace weft::coordinator {
namespace {
constexpr int64_t kMaxWaiting = 5000;
}  // namespace

bool Archive::Admit() {
  WEFT_CHECK(loop_.InLoopThread());
  if (waiting_ >= kMaxWaiting) return false;
  ++waiting_;
  return true;
}

template <class T>
void Archive::Run(absl::AnyInvocable<absl::StatusOr<T>()> work, Done<T> done) {
  if (!Admit()) {
    return done(
        absl::ResourceExhaustedError("the coordinator's disk is too slow: too many reads and "
                                     "writes of logs and histories wait"));
  }
  archive_loop_.Post([this, work = std::move(work), done = std::move(done)]() mutable {
    absl::StatusOr<T> result = absl::UnavailableError("the coordinator is stopping");
    if (!stopping_) result = work();
    loop_.Post([this, result = std::move(result), done = std::move(done)]() mutable {
      --waiting_;
      done(std::move(result));
    });
  });
}

void Archive::AppendSteps(JobId job, std::vector<v1::StepReport> steps, Done<bool> done) {
  auto keep = [this, job, steps = std::move(steps)] { return steps_.Append(job, steps); };
  KeepSteps(job, std::move(keep), std::move(done));
}

void Archive::FillSteps(JobId job, std::vector<v1::StepReport> steps, Done<bool> done) {
  auto keep = [this, job, steps = std::move(steps)] { return steps_.Fill(job, steps); };
  KeepSteps(job, std::move(keep), std::move(done));
}

void Archive::KeepSteps(JobId job, absl::AnyInvocable<absl::Status()> keep, Done<bool> done) {
  Run<bool>(
      [keep = std::move(keep)]() mutable -> absl::StatusOr<bool> {
        const absl::Status status = keep();
        if (!status.ok()) return status;
        return true;
      },
      [this, job, done = std::move(done)](absl::StatusOr<bool> kept) mutable {
        if (!kept.ok() && !stopping_) {
          LogWarning("archive", "steps not kept",
                     {{"job", job.value()}, {"error", kept.status().ToString()}});
        }
        done(std::move(kept));
      });
}

void Archive::ReadSteps(JobId job, int64_t after, int64_t limit, int64_t max_points,
                        Done<std::vector<v1::StepReport>> done) {
  Run<std::vector<v1::StepReport>>(
      [this, job, after, limit, max_points] { return steps_.Read(job, after, limit, max_points); },
      std::move(done));
}

void Archive::AppendLogs(std::string job, std::string worker, int64_t first,
                         std::vector<v1::LogLine> lines, Done<int64_t> done) {
  Run<int64_t>([this, job = std::move(job), worker = std::move(worker), first,
                lines = std::move(lines)] { return logs_.Append(job, worker, first, lines); },
               std::move(done));
}

void Archive::ReadLogs(std::string job, int64_t position, std::optional<int32_t> rank,
                       int64_t max_bytes, Done<LogStore::Chunk> done) {
  Run<LogStore::Chunk>([this, job = std::move(job), position, rank,
                        max_bytes] { return logs_.Read(job, position, rank, max_bytes); },
                       std::move(done));
}

void Archive::FindLogTail(std::string job, int64_t lines, std::optional<int32_t> rank,
                          Done<int64_t> done) {
  if (lines == 0) return done(0);
  Run<int64_t>(
      [this, job = std::move(job), lines, rank] { return logs_.FindTail(job, lines, rank); },
      std::move(done));
}

void Archive::Delete(JobId id, std::string name) {
  // Not subject to the limit: what is not deleted now never will be.
  archive_loop_.Post([this, id, name = std::move(name)] {
    absl::Status status = steps_.Delete(id);
    if (const absl::Status logs = logs_.Delete(name); !logs.ok()) status = logs;
    if (!status.ok()) {
      LogWarning("archive", "a deleted job leaves files",
                 {{"job", name}, {"error", status.ToString()}});
    }
  });
}

}  // namespace weft::coordinator

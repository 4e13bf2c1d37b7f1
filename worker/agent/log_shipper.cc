#include "worker/agent/log_shipper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

constexpr int64_t kBatchBytes = int64_t{256} << 10;
// Lines that come within this time travel together.
constexpr absl::Duration kCollect = absl::Milliseconds(50);
// A coordinator that does not answer is asked again, ever more rarely: its disk may be full, or the
// job deleted.
constexpr absl::Duration kFirstRetry = absl::Seconds(10);
constexpr absl::Duration kLongestRetry = absl::Minutes(5);

}  // namespace

LogShipper::LogShipper(std::string worker, EventLoop& loop, LogSpool& spool,
                       std::function<void(v1::LogBatch)> send)
    : worker_(std::move(worker)), loop_(loop), spool_(spool), send_(std::move(send)) {
  spool_.set_on_append([this](const std::string&) { OnAppended(); });
}

void LogShipper::OnConnected() {
  loop_.Post([this] {
    connected_ = true;
    Pump();
  });
}

void LogShipper::OnDisconnected() {
  loop_.Post([this] {
    connected_ = false;
    for (auto& [id, job] : jobs_) {
      const int64_t next = job.next;
      job = Job();
      job.next = next;
    }
  });
}

void LogShipper::OnStored(const std::string& job_id, int64_t next) {
  loop_.Post([this, job_id, next] {
    const auto found = jobs_.find(job_id);
    if (found == jobs_.end()) return;
    Job& job = found->second;
    job.next = next;
    job.known = true;
    job.in_flight = false;
    job.pause = absl::ZeroDuration();
    job.retry = absl::InfiniteFuture();
    Pump();
  });
}

void LogShipper::OnAppended() {
  ++appends_;
  if (pump_pending_.exchange(true)) return;
  loop_.Post([this] { loop_.RunAt(loop_.clock().Now() + kCollect, [this] { Pump(); }); });
}

void LogShipper::WhenStored(const std::string& job_id, std::function<void()> done) {
  loop_.Post([this, job_id, done = std::move(done)] {
    waiting_.push_back({job_id, spool_.End(job_id), done});
    Pump();
  });
}

void LogShipper::Pump() {
  pump_pending_ = false;
  const int64_t appends = appends_;
  bool all_stored = true;
  for (const std::string& id : spool_.Jobs()) {
    Job& job = jobs_[id];
    if (spool_.End(id) <= job.next) continue;
    all_stored = false;
    if (!connected_) continue;
    if (!job.in_flight || loop_.clock().Now() >= job.retry) SendBatch(id, job);
  }
  appends_stored_ = all_stored ? appends : -1;
  std::erase_if(waiting_, [this](const Waiting& waiting) {
    if (jobs_[waiting.job_id].next < waiting.end) return false;
    waiting.done();
    return true;
  });
}

void LogShipper::SendBatch(const std::string& id, Job& job) {
  // The first line alone asks what the coordinator has: it may have all of it, from the time before
  // this agent started.
  const LogSpool::Batch batch = spool_.Read(id, job.next, job.known ? kBatchBytes : 1);
  if (batch.lines.empty()) {
    job.next = spool_.End(id);  // files that have vanished
    return;
  }
  v1::LogBatch message;
  message.set_job(absl::StrCat("jobs/", id));
  message.set_first(batch.first);
  for (const SpooledLine& line : batch.lines) {
    v1::LogLine& entry = *message.add_lines();
    entry.mutable_time()->set_seconds(absl::ToUnixSeconds(line.time));
    entry.mutable_time()->set_nanos(
        static_cast<int32_t>((line.time - absl::FromUnixSeconds(absl::ToUnixSeconds(line.time))) /
                             absl::Nanoseconds(1)));
    entry.set_worker(worker_);
    entry.set_rank(line.rank);
    entry.set_generation(line.generation);
    entry.set_text(line.text);
  }
  job.in_flight = true;
  job.pause =
      job.pause == absl::ZeroDuration() ? kFirstRetry : std::min(2 * job.pause, kLongestRetry);
  job.retry = loop_.clock().Now() + job.pause;
  loop_.RunAt(job.retry, [this] { Pump(); });
  send_(std::move(message));
}

}  // namespace weft::worker

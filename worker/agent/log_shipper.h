// LogShipper: sends the spooled lines to the coordinator, one batch a job at a time, and goes on
// when the coordinator says what it has stored. After a lost connection it goes on from there, so
// nothing is lost; the coordinator drops what comes twice.
//
// Works on an event loop of its own, because reading the spool waits for the disk and the agent's
// loop must not. Methods may be called from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/time/event_loop.h"
#include "weft/v1/worker_link.pb.h"
#include "worker/agent/log_spool.h"

namespace weft::worker {

class LogShipper {
 public:
  // `send` is called on the loop's thread. All outlive the shipper, which must outlive the loop's
  // thread (stop the loop first).
  LogShipper(std::string worker, EventLoop& loop, LogSpool& spool,
             std::function<void(v1::LogBatch)> send);

  void OnConnected();
  void OnDisconnected();
  void OnStored(const std::string& job_id, int64_t next);
  // Lines were added: they are sent soon, together with others.
  void OnAppended();
  // Sends what the job has printed so far without delay, and calls `done` on the loop's thread once
  // the coordinator has stored it. That may be never.
  void WhenStored(const std::string& job_id, std::function<void()> done);

  // Whether everything that was written is stored at the coordinator, as far as it is known.
  [[nodiscard]] bool idle() const { return appends_stored_ == appends_; }

 private:
  struct Job {
    int64_t next = 0;        // the first line to send
    bool known = false;      // the coordinator has said what it has
    bool in_flight = false;  // a batch waits for LogsStored
    absl::Duration pause;    // before that batch is sent again
    absl::Time retry = absl::InfiniteFuture();
  };

  struct Waiting {
    std::string job_id;
    int64_t end = 0;  // one past the last line that must be stored
    std::function<void()> done;
  };

  void Pump();
  void SendBatch(const std::string& id, Job& job);

  const std::string worker_;
  EventLoop& loop_;
  LogSpool& spool_;
  const std::function<void(v1::LogBatch)> send_;
  std::map<std::string, Job> jobs_;
  std::vector<Waiting> waiting_;
  bool connected_ = false;
  std::atomic<bool> pump_pending_ = false;
  // Counted, so that a line which comes while all before it is found stored is not taken for one of
  // them.
  std::atomic<int64_t> appends_ = 0;
  std::atomic<int64_t> appends_stored_ = 0;  // -1: not all were, when it was looked at
};

}  // namespace weft::worker

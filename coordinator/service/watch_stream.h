// The stream of WatchJob: the job as it is, the steps that are kept, then every change and every
// step until the job has finished. A client that reads slowly gets fewer of the steps, never a
// stale state, and holds up nobody else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/service/loop_stream.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

class WatchStream final : public LoopWriter<v1::WatchJobResponse>, public JobWatcher {
 public:
  // Steps that wait for a slow client; beyond this every other one is dropped.
  static constexpr size_t kMaxPendingSteps = 1000;

  WatchStream(const ServiceContext& context, v1::WatchJobRequest request);

  void OnJobChanged() override;
  void OnSteps(absl::Span<const v1::StepReport> steps) override;

 private:
  void OnBegin() override;
  void OnWritten() override { Advance(); }
  void OnEnd() override;
  void OnClose() override;

  // Writes what there is to write, or ends when there will be nothing more.
  void Advance();
  void ReadHistory();
  void OnHistory(absl::StatusOr<std::vector<v1::StepReport>> steps);
  void Send(const Job& job, std::vector<v1::StepReport>& steps);

  const ServiceContext& context_;
  const v1::WatchJobRequest request_;
  std::optional<JobId> job_;
  bool changed_ = true;        // since the last message
  bool history_done_ = false;  // the kept steps were sent
  bool reading_ = false;       // the history
  int64_t history_sent_ = 0;   // last step from the history
  std::vector<v1::StepReport> history_;
  std::vector<v1::StepReport> pending_;
};

}  // namespace weft::coordinator

// A rank's whole run in one generation: restore, steps, evaluations, checkpoints, end. What happens
// on the way is told to an observer.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/time/clock.h"
#include "kernels/device/device.h"
#include "worker/checkpoint/checkpoint_store.h"
#include "worker/comm/exchange.h"
#include "worker/data/sample_source.h"
#include "worker/train/time_ledger.h"
#include "worker/train/train_config.h"
#include "worker/train/trainer.h"

namespace weft::worker {

enum class RunPhase : uint8_t {
  kStarting,   // until the ranks have met
  kRestoring,  // weights are drawn, or read from the checkpoint that rank 0 has found
  kTraining,
  kSaving,
};

struct StepSummary {
  StepResult result;
  int64_t tokens = 0;
  TimeByCause time = {};  // since the summary before; of the first step also the time to restore
  std::optional<TaskMetrics> validation = std::nullopt;  // when an evaluation followed this step
};

struct SavedCheckpoint {
  int64_t step = 0;
  std::string weights_sha256;
};

// Called on the run's thread, between steps.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void OnPhase(RunPhase phase, int64_t step) = 0;
  // After the evaluation and the checkpoint that belong to the step.
  virtual void OnStep(const StepSummary& summary) = 0;
  // On rank 0: the checkpoint is published.
  virtual void OnCheckpoint(const SavedCheckpoint& checkpoint) = 0;
  // Something a person should know, as one sentence.
  virtual void OnNotice(const std::string& notice) = 0;
};

// Where a run happens. All of it outlives the run.
struct RunContext {
  kernels::Device& device;
  const SampleSource& data;
  Exchange& exchange;
  const Membership& membership;
  CheckpointStore& checkpoints;
  const Clock& clock;
  RunObserver& observer;
  // Another thread sets it: after the present step all ranks save a checkpoint and end.
  const std::atomic<bool>& save_and_stop;
  std::string spec;  // the job's specification as text, for the checkpoints
  // How long ranks wait for each other while it is not known how long steps take, and behind
  // evaluations and checkpoints; otherwise ExchangePatience decides.
  absl::Duration exchange_timeout = absl::Minutes(5);
};

struct RunOutcome {
  enum class End : uint8_t {
    kFinished,  // all steps are done
    kSaved,     // stopped as asked; a checkpoint of this step exists
  };
  End end = End::kFinished;
  int64_t step = 0;
  std::string weights_sha256;
};

// Runs to the end. When it returns, with whatever result, the exchange is of no more use in this
// generation; after an error the other ranks have been told.
absl::StatusOr<RunOutcome> RunTraining(const TrainConfig& config, const RunContext& context);

}  // namespace weft::worker

// Gangs of ranks as threads of the test's process: a tiny model, data made up from a rule, real
// checkpoints in a temporary directory.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/file/file_system.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/ops/register.h"
#include "tests/testing/status_matchers.h"
#include "worker/checkpoint/training_checkpoint.h"
#include "worker/comm/in_process_exchange.h"
#include "worker/data/token_windows.h"
#include "worker/train/training_run.h"

namespace weft::worker::testing {

// Tokens that a model can learn: each follows from the two before it, with a little disorder.
class RuleTokens final : public TokenStream {
 public:
  explicit RuleTokens(int64_t size) : size_(size), fingerprint_(absl::StrCat("rule ", size)) {}
  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] int32_t vocabulary() const override { return kVocabulary; }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    for (size_t i = 0; i < into.size(); ++i) {
      const int64_t at = first + static_cast<int64_t>(i);
      into[i] = static_cast<int32_t>((at * at / 7 + at) % 5 + (at % 3) * 5);
    }
    return absl::OkStatus();
  }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }
  [[nodiscard]] std::string Describe() const override { return "tokens by a rule"; }

  static constexpr int32_t kVocabulary = 16;

 private:
  int64_t size_;
  std::string fingerprint_;
};

inline TrainConfig TinyRun(int64_t steps) {
  TrainConfig config;
  config.model = {.vocabulary = RuleTokens::kVocabulary,
                  .width = 16,
                  .hidden = 24,
                  .layers = {DeltaMixerConfig{.heads = 2},
                             SoftmaxMixerConfig{.heads = 2, .kv_heads = 1, .window = 6}}};
  config.batch = {.sequences = 12, .sequence_length = 16, .shards = 6, .micro_batch = 1};
  config.steps = steps;
  config.seed = 5;
  config.learning_rate = {
      .schedule = Schedule::kCosine, .peak = 2e-2, .warmup_steps = 2, .total_steps = steps};
  config.evaluation = {.every_steps = 5, .sequences = 7};
  config.checkpoint = {.every_steps = 0};
  return config;
}

inline std::unique_ptr<SampleSource> RuleSource(int64_t sequence, int64_t tokens) {
  auto source = NewTokenWindows(std::make_unique<RuleTokens>(tokens),
                                {.sequence = sequence, .validation_fraction = 0.1});
  WEFT_CHECK_MSG(source.ok(), source.status().ToString());
  return *std::move(source);
}

// What one rank's run has told.
struct RankRecord : RunObserver {
  void OnPhase(RunPhase phase, int64_t /*step*/) override { phases.push_back(phase); }
  void OnStep(const StepSummary& summary) override {
    steps.push_back(summary);
    if (after_step) after_step(summary.result.step);
  }
  void OnCheckpoint(const SavedCheckpoint& checkpoint) override {
    checkpoints.push_back(checkpoint);
  }
  void OnNotice(const std::string& notice) override { notices.push_back(notice); }

  std::function<void(int64_t step)> after_step;
  std::vector<RunPhase> phases;
  std::vector<StepSummary> steps;
  std::vector<SavedCheckpoint> checkpoints;
  std::vector<std::string> notices;
  absl::StatusOr<RunOutcome> outcome = absl::UnknownError("did not run");
};

struct GangOptions {
  int ranks = 1;
  int threads = 1;  // of each rank
  std::string checkpoint_root = {};
  int64_t generation = 1;
  int stopping_rank = -1;       // this one asks for save and stop ...
  int64_t stop_after_step = 0;  // ... when it has made this step
  int odd_rank = -1;            // this one has other data
  int starved_rank = -1;        // this one has no memory left after its second step
  // What to train on; null: RuleSource.
  std::function<std::unique_ptr<SampleSource>()> data = nullptr;
  // Where a rank sees its checkpoints; null: on the machine's own disk.
  std::function<FileSystem&(int rank)> files = nullptr;
  // Wraps a rank's exchange, to make it fail.
  std::function<std::unique_ptr<Exchange>(int rank, std::unique_ptr<Exchange>)> wrap_exchange =
      nullptr;
};

// Runs all ranks to their end.
inline std::vector<RankRecord> RunGang(const TrainConfig& config, const GangOptions& options) {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  auto hub = std::make_shared<InProcessHub>();
  std::vector<RankRecord> records(static_cast<size_t>(options.ranks));
  const RealClock clock;
  const auto run_rank = [&](int rank) {
    RankRecord& record = records[static_cast<size_t>(rank)];
    const std::unique_ptr<SampleSource> data =
        options.data
            ? options.data()
            : RuleSource(config.batch.sequence_length, rank == options.odd_rank ? 3000 : 4000);
    auto device = kernels::NewCpuDevice({.threads = options.threads});
    auto store =
        NewDirectoryCheckpointStore(options.files ? options.files(rank) : RealFileSystem(),
                                    {.root = options.checkpoint_root, .job = "tiny", .keep = 3});
    ASSERT_OK(device);
    ASSERT_OK(store);
    std::unique_ptr<Exchange> exchange = std::make_unique<InProcessExchange>(hub);
    if (options.wrap_exchange) exchange = options.wrap_exchange(rank, std::move(exchange));
    std::atomic<bool> stop{false};
    record.after_step = [&, rank](int64_t step) {
      if (rank == options.stopping_rank && step == options.stop_after_step) stop = true;
      if (rank == options.starved_rank && step == 2) throw std::bad_alloc();
    };
    const Membership membership = {.job = "jobs/tiny",
                                   .generation = Generation(options.generation),
                                   .rank = rank,
                                   .ranks = options.ranks,
                                   .local_rank = rank,
                                   .relay_channel = ""};
    try {
      record.outcome = RunTraining(config, {.device = **device,
                                            .data = *data,
                                            .exchange = *exchange,
                                            .membership = membership,
                                            .checkpoints = **store,
                                            .clock = clock,
                                            .observer = record,
                                            .save_and_stop = stop,
                                            .spec = "spec",
                                            .exchange_timeout = absl::Minutes(1)});
    } catch (const std::bad_alloc& error) {
      record.outcome = absl::ResourceExhaustedError(error.what());
    }
    record.after_step = nullptr;
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(options.ranks));
  for (int rank = 0; rank < options.ranks; ++rank) threads.emplace_back(run_rank, rank);
  for (std::thread& thread : threads) thread.join();
  return records;
}

}  // namespace weft::worker::testing

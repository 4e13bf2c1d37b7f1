// A whole training step of the demo's models on CPU, without other ranks: tokens per second, and
// how near the step comes to the matrix library's own speed.
//
//   build/dev/bench/training_bench
//
// gemm_share: FLOPs of the model's matrix products (the recurrences, attention, norms and the
// optimizer count for nothing) per second of processor time, over those of the library's product of
// 1024 x 1024 matrices. Processor time, because then a busy machine changes little.
#include <benchmark/benchmark.h>

#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cpu/gemm.h"
#include "kernels/ops/register.h"
#include "worker/comm/local_exchange.h"
#include "worker/data/token_windows.h"
#include "worker/train/trainer.h"

namespace weft::worker {
namespace {

template <typename T>
T Must(absl::StatusOr<T> result) {
  WEFT_CHECK_MSG(result.ok(), result.status().ToString());
  return *std::move(result);
}

// Of all threads of this process.
double ProcessorSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// FLOPs per second of one thread of the matrix library.
double LibraryRate() {
  constexpr int64_t size = 1024;
  const std::vector<float> a(size * size, 0.5F);
  const std::vector<float> b(size * size, 0.25F);
  std::vector<float> c(size * size);
  double best = 1e9;
  for (int repetition = 0; repetition < 6; ++repetition) {
    const double start = ProcessorSeconds();
    kernels::Gemm(kernels::Transpose::kNo, kernels::Transpose::kYes, size, size, size, 1.0F,
                  a.data(), size, b.data(), size, 0.0F, c.data(), size);
    best = std::min(best, ProcessorSeconds() - start);
  }
  return 2.0 * size * size * size / best;
}

class Noise final : public TokenStream {
 public:
  [[nodiscard]] int64_t size() const override { return 1 << 20; }
  [[nodiscard]] int32_t vocabulary() const override { return 256; }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    for (size_t i = 0; i < into.size(); ++i) {
      into[i] = static_cast<int32_t>((first + static_cast<int64_t>(i)) * 2654435761 >> 13 & 0xFF);
    }
    return absl::OkStatus();
  }
  [[nodiscard]] const std::string& fingerprint() const override { return name_; }
  [[nodiscard]] std::string Describe() const override { return name_; }

 private:
  const std::string name_ = "noise";
};

std::vector<MixerConfig> Delta() {
  return std::vector<MixerConfig>(4, DeltaMixerConfig{.heads = 4});
}
std::vector<MixerConfig> WindowHybrid() {
  const SoftmaxMixerConfig window{.heads = 4, .kv_heads = 4, .window = 128};
  return {DeltaMixerConfig{.heads = 4}, window, DeltaMixerConfig{.heads = 4}, window};
}

TrainConfig DemoConfig(std::vector<MixerConfig> layers) {
  TrainConfig config;
  config.model = {.vocabulary = 256, .width = 256, .hidden = 768, .layers = std::move(layers)};
  config.batch = {.sequences = 16, .sequence_length = 256, .shards = 8, .micro_batch = 2};
  config.steps = 1'000'000;
  config.learning_rate.total_steps = config.steps;
  return config;
}

void TrainingStep(benchmark::State& state, std::vector<MixerConfig> (*layers)()) {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  const TrainConfig config = DemoConfig(layers());
  const auto data =
      Must(NewTokenWindows(std::make_unique<Noise>(), {.sequence = config.batch.sequence_length}));
  const auto device = Must(kernels::NewCpuDevice({.threads = static_cast<int>(state.range(0))}));
  LocalExchange exchange;
  const RealClock clock;
  WEFT_CHECK(exchange
                 .Prepare({.job = "bench", .generation = Generation(1), .relay_channel = ""},
                          absl::InfiniteFuture())
                 .ok());
  TimeLedger time(clock, TimeCause::kCompute);
  const auto trainer = Must(Trainer::Create(
      config, *data, {.device = *device, .exchange = exchange, .time = time, .clock = clock}));
  Must(trainer->RunStep(false));  // allocates what is allocated once

  const double library_rate = LibraryRate();
  const double start = ProcessorSeconds();
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    Must(trainer->RunStep(false));
  }
  const double processor_seconds = ProcessorSeconds() - start;
  const auto tokens = static_cast<double>(state.iterations() * TokensOfStep(config));
  const double flops = tokens * static_cast<double>(trainer->model().TrainingMatmulFlopsPerToken());
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsRate);
  state.counters["library_GFLOP/s"] = library_rate * 1e-9;
  state.counters["gemm_share"] = flops / processor_seconds / library_rate;
}

BENCHMARK_CAPTURE(TrainingStep, delta, &Delta)
    ->Arg(1)
    ->Arg(2)
    ->ArgName("threads")
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(TrainingStep, window_hybrid, &WindowHybrid)
    ->Arg(2)
    ->ArgName("threads")
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weft::worker

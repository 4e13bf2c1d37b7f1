// Whole training steps on one GPU, in bf16: tokens per second, the share of the GPU's matrix
// arithmetic that the model's products take, and the most memory that was in use; start_s, the
// seconds until a trainer is ready, most of which its weights are drawn.
//
//   build/dev/bench/gpu_training_bench
//
// The shapes are those that others have published numbers for: GPT-2 124M with sequences of 1024
// tokens (llm.c, 524,288 tokens a step) and DeltaNet 1.3B with sequences of 4096, eight of them a
// step (flash-linear-attention). Tokens are noise: time does not depend on them.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "kernels/attention/register.h"
#include "kernels/device/cuda/cuda_device.h"
#include "kernels/ops/register.h"
#include "worker/comm/local_exchange.h"
#include "worker/data/token_windows.h"
#include "worker/train/gpu_bench_models.h"
#include "worker/train/trainer.h"

namespace weft::worker {
namespace {

// Dense bf16 by NVIDIA's data sheet; measured products reach about 790.
constexpr double kPeakFlops = 989e12;

// One sequence, computed slice by slice: memory hardly grows with it.
TrainConfig Slices(MixerConfig mixer, int64_t tokens) {
  TrainConfig config;
  config.model = {.vocabulary = 32000,
                  .width = 1024,
                  .hidden = 2816,
                  .layers = std::vector<MixerConfig>(8, std::move(mixer)),
                  .weights = WeightScheme::kTorch};
  config.batch = {.sequences = 1, .sequence_length = tokens, .shards = 1, .micro_batch = 1};
  config.slice_length = 16384;
  return config;
}

void Steps(benchmark::State& state, TrainConfig config) {
  kernels::RegisterCudaKernels();
  kernels::RegisterCudaAttention();
  config.steps = 1'000'000;
  config.learning_rate.total_steps = config.steps;
  absl::StatusOr<std::unique_ptr<kernels::Device>> device = kernels::NewCudaDevice({});
  if (!device.ok()) return state.SkipWithError(device.status().ToString().c_str());
  const auto data =
      Must(NewTokenWindows(std::make_unique<Noise>(static_cast<int32_t>(config.model.vocabulary)),
                           {.sequence = config.batch.sequence_length}));
  LocalExchange exchange;
  const RealClock clock;
  WEFT_CHECK(exchange
                 .Prepare({.job = "bench", .generation = Generation(1), .relay_channel = ""},
                          absl::InfiniteFuture())
                 .ok());
  TimeLedger time(clock, TimeCause::kCompute);
  const absl::Time begin = clock.Now();
  const auto trainer = Must(Trainer::Create(
      config, *data, {.device = **device, .exchange = exchange, .time = time, .clock = clock}));
  const double start = absl::ToDoubleSeconds(clock.Now() - begin);
  double first_loss = 0;
  for (int warm_up = 0; warm_up < 2; ++warm_up) first_loss = Must(trainer->RunStep(false)).loss;
  double loss = 0;
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    loss = Must(trainer->RunStep(false)).loss;
  }
  const auto tokens = static_cast<double>(state.iterations() * TokensOfStep(config));
  const double flops = tokens * static_cast<double>(trainer->model().TrainingMatmulFlopsPerToken());
  const kernels::CudaMemory memory = Must(kernels::CudaMemoryOf(**device));
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(flops / kPeakFlops, benchmark::Counter::kIsRate);
  state.counters["GiB"] =
      static_cast<double>(memory.total_bytes - memory.free_bytes) / (1024.0 * 1024.0 * 1024.0);
  state.counters["start_s"] = start;
  state.counters["first_loss"] = first_loss;
  state.counters["loss"] = loss;
}

BENCHMARK_CAPTURE(Steps, gpt2_124m, Gpt2())
    ->Iterations(5)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Steps, deltanet_1300m_4k, DeltaNet(4096, 8, 4))
    ->Iterations(5)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Steps, deltanet_1300m_32k, DeltaNet(32768, 1, 1))
    ->Iterations(5)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

BENCHMARK_CAPTURE(Steps, delta_slices_64k, Slices(DeltaMixerConfig{.heads = 8}, 65536))
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Steps, delta_slices_1m, Slices(DeltaMixerConfig{.heads = 8}, 1048576))
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Steps, slim_slices_64k, Slices(SlimMixerConfig{.heads = 8}, 65536))
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Steps, slim_slices_1m, Slices(SlimMixerConfig{.heads = 8}, 1048576))
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weft::worker

// Whole training steps of one job on one GPU and on all of this machine, in bf16: how much faster a
// gang is, and what exact sums cost beside sums in floating point.
//
//   build/dev/bench/gpu_gang_bench
//
// The ranks are threads that meet in memory; NCCL carries gradients. A shard of the job for each
// GPU, so that one GPU alone computes all of them in turn. Times are medians of steps. Rows of GPUs
// `apart` do the same but for the exchange of gradients, and tell of the slowest: what they take
// less is what the exchange costs, and no gang of theirs can be faster.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/attention/register.h"
#include "kernels/device/cuda/cuda_device.h"
#include "kernels/ops/register.h"
#include "worker/comm/gpu_exchange.h"
#include "worker/comm/in_process_exchange.h"
#include "worker/comm/local_exchange.h"
#include "worker/train/gpu_bench_models.h"
#include "worker/train/trainer.h"

namespace weft::worker {
namespace {

constexpr int kWarmUps = 3;
constexpr int kSteps = 9;

int GpuCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

struct GangModel {
  std::string name;
  TrainConfig config;  // of one shard
};

std::vector<GangModel> Models() {
  TrainConfig small = DeltaNet(2048, 32, 8);
  small.model.width = 1024;
  small.model.hidden = 2816;
  small.model.layers.assign(24, DeltaMixerConfig{.heads = 8});
  return {
      {"deltanet_374m", small}, {"gpt2_124m", Gpt2()}, {"deltanet_1300m", DeltaNet(4096, 8, 4)}};
}

struct Run {
  TrainConfig config;
  int ranks = 1;
  bool apart = false;
  std::shared_ptr<InProcessHub> hub;
};

std::unique_ptr<Exchange> ExchangeOf(const Run& run, kernels::Device& device, int rank) {
  if (run.ranks == 1 || run.apart) return std::make_unique<LocalExchange>();
  return Must(NewGpuExchange(std::make_unique<InProcessExchange>(run.hub), device, rank));
}

// The seconds of each step behind the warm-ups, as this rank saw them.
std::vector<double> TrainAsRank(const Run& run, int rank) {
  const auto device = Must(kernels::NewCudaDevice({.ordinal = rank}));
  const auto vocabulary = static_cast<int32_t>(run.config.model.vocabulary);
  const auto data = Must(NewTokenWindows(std::make_unique<Noise>(vocabulary),
                                         {.sequence = run.config.batch.sequence_length}));
  const RealClock clock;
  const auto exchange = ExchangeOf(run, *device, rank);
  const Membership membership = {.job = "bench",
                                 .generation = Generation(1),
                                 .rank = run.apart ? 0 : rank,
                                 .ranks = run.apart ? 1 : run.ranks,
                                 .relay_channel = ""};
  WEFT_CHECK(exchange->Prepare(membership, clock.Now() + absl::Minutes(1)).ok());
  TimeLedger time(clock, TimeCause::kCompute);
  const auto trainer = Must(Trainer::Create(run.config, *data,
                                            {.device = *device,
                                             .exchange = *exchange,
                                             .rank = rank,
                                             .ranks = run.ranks,
                                             .time = time,
                                             .clock = clock}));
  std::vector<double> seconds;
  for (int step = 0; step < kWarmUps + kSteps; ++step) {
    const absl::Time begin = clock.Now();
    Must(trainer->RunStep(false));
    if (step >= kWarmUps) seconds.push_back(absl::ToDoubleSeconds(clock.Now() - begin));
  }
  return seconds;
}

void Steps(benchmark::State& state, TrainConfig config, int ranks, bool apart) {
  kernels::RegisterCudaKernels();
  kernels::RegisterCudaAttention();
  config.steps = 1'000'000;
  config.learning_rate.total_steps = config.steps;
  config.batch.shards = GpuCount();
  config.batch.sequences *= config.batch.shards;
  const Run run = {config, ranks, apart, std::make_shared<InProcessHub>()};
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    std::vector<std::vector<double>> seconds(static_cast<size_t>(ranks));
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back(
          [&, rank] { seconds[static_cast<size_t>(rank)] = TrainAsRank(run, rank); });
    }
    for (std::thread& thread : threads) thread.join();
    double slowest = 0;
    for (std::vector<double>& of_rank : seconds) {
      std::sort(of_rank.begin(), of_rank.end());
      slowest = std::max(slowest, of_rank[kSteps / 2]);
    }
    state.SetIterationTime(slowest);
  }
  const auto tokens = static_cast<double>(state.iterations() * TokensOfStep(config));
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsRate);
}

void Register(const std::string& name, TrainConfig config, int ranks, Reproducibility kind,
              bool apart = false) {
  config.reproducibility = kind;
  const std::string sums = kind == Reproducibility::kExact ? "exact" : "fixed_gang";
  benchmark::RegisterBenchmark(
      absl::StrCat("Gang/", name, "/", sums, apart ? "_apart" : "", "/gpus:", ranks).c_str(),
      [config, ranks, apart](benchmark::State& state) { Steps(state, config, ranks, apart); })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) {
  using weft::worker::Reproducibility;
  const int gpus = weft::worker::GpuCount();
  for (const weft::worker::GangModel& model : weft::worker::Models()) {
    if (gpus < 2) continue;
    weft::worker::Register(model.name, model.config, 1, Reproducibility::kExact);
    for (const auto kind : {Reproducibility::kExact, Reproducibility::kFixedGang}) {
      weft::worker::Register(model.name, model.config, gpus, kind);
      weft::worker::Register(model.name, model.config, gpus, kind, /*apart=*/true);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (gpus < 2)
    std::fprintf(stderr, "nothing is measured: a gang needs two GPUs, here are %d\n", gpus);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

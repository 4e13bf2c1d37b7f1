#include "kernels/bench/gpu_attention_bench.h"

#include <benchmark/benchmark.h>

#include "absl/strings/str_cat.h"
#include "kernels/attention/register.h"

namespace weft::kernels {
namespace {

using MakeCalls = std::function<AttentionCalls(Gpu&, const AttentionShape&)>;

void Run(benchmark::State& state, const MakeCalls& make, const AttentionShape& shape, bool both) {
  Gpu gpu;
  if (!gpu.status().ok()) return state.SkipWithError(gpu.status().ToString().c_str());
  RegisterCudaAttention();
  const AttentionCalls calls = make(gpu, shape);
  const absl::Status first = calls.forward();
  if (!first.ok()) return state.SkipWithError(first.ToString().c_str());
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    state.SetIterationTime(gpu.Time([&] {
      const absl::Status status = calls.forward();
      return both && status.ok() ? calls.backward() : status;
    }));
  }
}

}  // namespace

bool AddGpuAttention(const std::string& mechanism, MakeCalls make) {
  constexpr int64_t kTokens = 32768, kWidth = 2048;
  for (const int64_t head_dim : {128, 64}) {
    for (const int64_t tokens : {2048, 8192, 32768}) {
      for (const bool both : {false, true}) {
        const AttentionShape shape = {kTokens / tokens, tokens, kWidth / head_dim, head_dim};
        const std::string name =
            absl::StrCat("Attention/", mechanism, "/d", head_dim, "/", shape.batch, "x", tokens,
                         "/", both ? "both" : "forward");
        benchmark::RegisterBenchmark(
            name.c_str(), [=](benchmark::State& state) { Run(state, make, shape, both); })
            ->UseManualTime()
            ->Iterations(3)
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  return true;
}

}  // namespace weft::kernels

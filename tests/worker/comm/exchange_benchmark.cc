// How long an all-reduce over real relays takes: gangs of hosts on this machine, over its loopback.
// For comparison, sizes are those of the buckets of gradients (25 MiB) and of tiny tensors.

#include <benchmark/benchmark.h>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "tests/worker/comm/host_tensor.h"
#include "tests/worker/comm/relay_process_gang.h"

namespace weft::testing {
namespace {

// Arguments: hosts (one rank each), elements. Timed is rank 0's call, all ranks in step.
void BM_ReduceOverRelays(benchmark::State& state) {
  const auto hosts = static_cast<int>(state.range(0));
  const int64_t elements = state.range(1);
  RelayProcessGang gang(std::vector<int>(static_cast<size_t>(hosts), 1));
  const auto body = [&](int rank, worker::Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = NewHostTensor(kernels::DType::kI32, {elements});
    kernels::Tensor again = HostTensorOf<int32_t>(kernels::DType::kI32, {0});
    while (true) {
      *again.data<int32_t>() = rank == 0 && state.KeepRunning() ? 1 : 0;
      absl::Status done = exchange.Broadcast(again, 0, Soon());
      if (!done.ok() || *again.data<int32_t>() == 0) return done;
      const absl::Time start = absl::Now();
      done = exchange.Reduce(bucket, worker::ReduceOp::kSum, Soon());
      if (!done.ok()) return done;
      if (rank == 0) state.SetIterationTime(absl::ToDoubleSeconds(absl::Now() - start));
    }
  };
  for (const absl::Status& result : gang.RunGeneration(1, body)) {
    WEFT_CHECK_MSG(result.ok(), result.ToString());
  }
  state.SetBytesProcessed(state.iterations() * elements * 4);
}
BENCHMARK(BM_ReduceOverRelays)
    ->ArgNames({"hosts", "elements"})
    ->ArgsProduct({{2, 3}, {1, 1 << 16, 6'553'600}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weft::testing

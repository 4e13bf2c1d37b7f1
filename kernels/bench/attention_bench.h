// What the benchmarks of attention share: a device with operands on it, and time per token and head
// beside the share of the speed of a plain matrix product on as many threads.
//
// Work is counted as the algorithm needs it (a causal softmax half of the square, a delta chunk's
// full products), so the share says what is left to gain.
#pragma once

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "common/base/check.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {

inline constexpr int64_t kHeads = 4;

// Seconds: of one thread those of the processor, since other programs may run beside it, else those
// of the clock on the wall.
inline double Seconds(int threads) {
  timespec now = {};
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// FLOP/s of 128 x 128 x 128 products on one thread: the measure of the others.
inline double ProductRate() {
  static const double rate = [] {
    constexpr int64_t size = 128;
    const std::vector<float> a(size * size, 0.5F);
    const std::vector<float> b(size * size, 0.25F);
    std::vector<float> c(size * size);
    double best = 1e9;
    for (int repetition = 0; repetition < 20; ++repetition) {
      constexpr int products = 100;
      const double start = Seconds(1);
      for (int i = 0; i < products; ++i) {
        Gemm(Transpose::kNo, Transpose::kNo, size, size, size, 1.0F, a.data(), size, b.data(), size,
             0.0F, c.data(), size);
      }
      best = std::min(best, (Seconds(1) - start) / products);
    }
    return 2.0 * size * size * size / best;
  }();
  return rate;
}

class Run {
 public:
  explicit Run(int threads) {
    RegisterCpuAttention();
    device_ = NewCpuDevice({.threads = threads, .isa = {}}).value();
    stream_ = device_->NewStream().value();
  }
  Device& device() { return *device_; }
  Stream& stream() { return *stream_; }

  // Numbers in [-size, size], always the same.
  Tensor Filled(const Shape& shape, double size) {
    Tensor tensor = NewTensor(*device_, DType::kF32, shape).value();
    auto* const x = tensor.data<float>();
    uint32_t state = 1;
    for (int64_t i = 0; i < tensor.count(); ++i) {
      state = 1664525U * state + 1013904223U;
      x[i] = static_cast<float>(size * (state / 2147483648.0 - 1.0));
    }
    return tensor;
  }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

// Runs `work` for the benchmark's iterations, each over `tokens` of kHeads heads for `flops`.
template <typename Work>
void Measure(benchmark::State& state, int64_t tokens, double flops, int threads, Work work) {
  const double product_rate = ProductRate() * threads;
  const double start = Seconds(threads);
  for (auto _ : state) WEFT_CHECK(work().ok());
  const double taken = Seconds(threads) - start;
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["ns/token/head"] =
      taken * 1e9 / (iterations * static_cast<double>(tokens * kHeads));
  state.counters["GFLOP/s"] = iterations * flops / taken * 1e-9;
  state.counters["share"] = iterations * flops / taken / product_rate;
}

}  // namespace weft::kernels

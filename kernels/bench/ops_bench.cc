// Speed of the ops at the shapes of small models, and of the matrix library alone.
//
//   build/dev/bench/ops_bench --benchmark_filter=Linear
//
// The first argument of a benchmark is the number of threads. "flop/s" counts multiplications and
// additions; "bytes/s" what a perfect cache would read and write.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cpu/gemm.h"
#include "kernels/ops/adamw/adamw.h"
#include "kernels/ops/fixed_point/fixed_point.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/register.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/short_conv/short_conv.h"
#include "kernels/ops/swiglu/swiglu.h"
#include "kernels/random/philox.h"

namespace weft::kernels {
namespace {

class Bench {
 public:
  explicit Bench(benchmark::State& state) {
    RegisterCpuKernels();
    absl::StatusOr<std::unique_ptr<Device>> device =
        NewCpuDevice({.threads = static_cast<int>(state.range(0))});
    WEFT_CHECK(device.ok());
    device_ = std::move(device).value();
    absl::StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    WEFT_CHECK(stream.ok());
    stream_ = std::move(stream).value();
  }

  Tensor Zero(DType dtype, const Shape& shape) {
    absl::StatusOr<Tensor> tensor = NewTensor(*device_, dtype, shape);
    WEFT_CHECK(tensor.ok());
    return std::move(tensor).value();
  }
  Tensor Random(const Shape& shape) {
    Tensor tensor = Zero(DType::kF32, shape);
    std::vector<double> values(static_cast<size_t>(tensor.count()));
    FillNormal(1, {}, 0, 0, absl::MakeSpan(values));
    std::vector<float> floats(values.begin(), values.end());
    WEFT_CHECK(device_->CopyFromHost(tensor, floats.data(), *stream_).ok());
    return tensor;
  }
  Stream& stream() { return *stream_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

void Check(const absl::Status& status) { WEFT_CHECK_MSG(status.ok(), status.ToString()); }

void Flops(benchmark::State& state, double flops_of_one) {
  state.counters["flop/s"] =
      benchmark::Counter(flops_of_one, benchmark::Counter::kIsIterationInvariantRate);
}

double ProductFlops(const benchmark::State& state) {
  return 2.0 * static_cast<double>(state.range(1)) * static_cast<double>(state.range(2)) *
         static_cast<double>(state.range(3));
}

// One call of the library for the whole product: what tiles could reach at best on one thread.
void LibraryProduct(benchmark::State& state) {
  Bench bench(state);
  const int64_t r = state.range(1), k = state.range(2), n = state.range(3);
  Tensor x = bench.Random({r, k}), w = bench.Random({n, k}), y = bench.Random({r, n});
  for (auto _ : state) {
    Gemm(Transpose::kNo, Transpose::kYes, r, n, k, 1, x.data<float>(), k, w.data<float>(), k, 0,
         y.data<float>(), n);
  }
  Flops(state, ProductFlops(state));
}

void LinearForwardBench(benchmark::State& state) {
  Bench bench(state);
  const int64_t r = state.range(1), k = state.range(2), n = state.range(3);
  Tensor x = bench.Random({r, k}), w = bench.Random({n, k}), y = bench.Random({r, n});
  for (auto _ : state) Check(LinearForward(bench.stream(), x, w, Tensor(), Tensor(), y));
  Flops(state, ProductFlops(state));
}

void LinearBackwardInputBench(benchmark::State& state) {
  Bench bench(state);
  const int64_t r = state.range(1), k = state.range(2), n = state.range(3);
  Tensor dx = bench.Random({r, k}), w = bench.Random({n, k}), dy = bench.Random({r, n});
  for (auto _ : state) Check(LinearBackwardInput(bench.stream(), dy, w, dx, Accumulate::kNo));
  Flops(state, ProductFlops(state));
}

void LinearBackwardWeightBench(benchmark::State& state) {
  Bench bench(state);
  const int64_t r = state.range(1), k = state.range(2), n = state.range(3);
  Tensor x = bench.Random({r, k}), dw = bench.Random({n, k}), dy = bench.Random({r, n});
  for (auto _ : state) Check(LinearBackwardWeight(bench.stream(), dy, x, dw));
  Flops(state, ProductFlops(state));
}

void ProductShapes(benchmark::internal::Benchmark* bench) {
  for (const int64_t threads : {1, 2}) {
    bench->Args({threads, 1024, 256, 256});
    bench->Args({threads, 1024, 256, 768});
    bench->Args({threads, 2048, 512, 512});
    bench->Args({threads, 2048, 1024, 1024});
  }
}
BENCHMARK(LibraryProduct)->UseRealTime()->Args({1, 1024, 256, 256})->Args({1, 2048, 1024, 1024});
BENCHMARK(LinearForwardBench)->UseRealTime()->Apply(ProductShapes);
BENCHMARK(LinearBackwardInputBench)->UseRealTime()->Apply(ProductShapes);
BENCHMARK(LinearBackwardWeightBench)->UseRealTime()->Apply(ProductShapes);

// Arguments: threads, rows, channels, vocabulary.
void CrossEntropyBench(benchmark::State& state) {
  Bench bench(state);
  const int64_t r = state.range(1), c = state.range(2), v = state.range(3);
  Tensor h = bench.Random({r, c}), w = bench.Random({v, c}), targets = bench.Zero(DType::kI32, {r});
  Tensor losses = bench.Random({r}), right = bench.Random({r});
  Tensor dh = bench.Random({r, c}), dw = bench.Random({v, c}), no_bias;
  for (auto _ : state) {
    Check(LinearCrossEntropyForwardBackward(bench.stream(), h, w, no_bias, targets, 1, losses,
                                            right, dh, dw, no_bias));
  }
  Flops(state, 3 * ProductFlops(state));
}
BENCHMARK(CrossEntropyBench)
    ->UseRealTime()
    ->Args({1, 1024, 256, 256})
    ->Args({2, 1024, 256, 256})
    ->Args({1, 1024, 256, 32000})
    ->Args({2, 1024, 256, 32000});

constexpr int64_t kRows = 4096;
constexpr int64_t kChannels = 256;
constexpr int64_t kCount = kRows * kChannels;

void Bytes(benchmark::State& state, int64_t tensors) {
  state.SetBytesProcessed(state.iterations() * tensors * kCount *
                          static_cast<int64_t>(sizeof(float)));
}

void RmsNormBench(benchmark::State& state) {
  Bench bench(state);
  Tensor x = bench.Random({kRows, kChannels}), w = bench.Random({kChannels});
  Tensor y = bench.Random({kRows, kChannels}), rstd = bench.Random({kRows});
  Tensor dx = bench.Random({kRows, kChannels}), dw = bench.Random({kChannels}), no_sums;
  for (auto _ : state) {
    Check(RmsNormForward(bench.stream(), x, w, 1e-6, y, rstd));
    Check(RmsNormBackward(bench.stream(), x, w, rstd, y, dx, Accumulate::kNo, dw, no_sums));
  }
  Bytes(state, 5);
}
BENCHMARK(RmsNormBench)->UseRealTime()->Arg(1)->Arg(2);

void ShortConvBench(benchmark::State& state) {
  Bench bench(state);
  const Shape shape = {4, kRows / 4, kChannels};
  Tensor x = bench.Random(shape), w = bench.Random({kChannels, 4});
  Tensor y = bench.Random(shape), dx = bench.Random(shape), dw = bench.Random({kChannels, 4});
  Tensor none;
  for (auto _ : state) {
    Check(ShortConvForward(bench.stream(), x, w, Tensor(), y));
    Check(ShortConvBackward(bench.stream(), x, w, Tensor(), y, dx, none, dw));
  }
  Bytes(state, 5);
}
BENCHMARK(ShortConvBench)->UseRealTime()->Arg(1)->Arg(2);

void SwigluBench(benchmark::State& state) {
  Bench bench(state);
  Tensor gate = bench.Random({kCount}), up = bench.Random({kCount}), y = bench.Random({kCount});
  Tensor dgate = bench.Random({kCount}), dup = bench.Random({kCount});
  for (auto _ : state) {
    Check(SwigluForward(bench.stream(), gate, up, y));
    Check(SwigluBackward(bench.stream(), gate, up, y, dgate, dup));
  }
  Bytes(state, 8);
}
BENCHMARK(SwigluBench)->UseRealTime()->Arg(1)->Arg(2);

void AdamWBench(benchmark::State& state) {
  Bench bench(state);
  Tensor gradient = bench.Random({kCount}), clip = bench.Random({1});
  Tensor parameter = bench.Random({kCount}), m = bench.Zero(DType::kF32, {kCount});
  Tensor v = bench.Zero(DType::kF32, {kCount});
  const AdamWOptions options = {.learning_rate = 1e-3};
  Tensor rounded;
  for (auto _ : state) {
    Check(AdamW(bench.stream(), options, gradient, clip, parameter, m, v, rounded));
  }
  Bytes(state, 7);
}
BENCHMARK(AdamWBench)->UseRealTime()->Arg(1)->Arg(2);

void FixedPointBench(benchmark::State& state) {
  Bench bench(state);
  Tensor x = bench.Random({kCount}), sum = bench.Zero(DType::kI32, {kCount});
  Tensor exponents = bench.Zero(DType::kI32, {FixedPointBlocks(kCount)});
  for (auto _ : state) {
    Check(BlockExponents(bench.stream(), x, Accumulate::kNo, exponents));
    Check(Quantize(bench.stream(), x, exponents, 20, Accumulate::kNo, sum));
    Check(Dequantize(bench.stream(), sum, exponents, 20, x));
  }
  Bytes(state, 5);
}
BENCHMARK(FixedPointBench)->UseRealTime()->Arg(1)->Arg(2);

}  // namespace
}  // namespace weft::kernels

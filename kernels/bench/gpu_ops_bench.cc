// Speed of the ops on a GPU in bf16, at the shapes of a 1.3B model: 32,768 tokens of width 2048.
//
//   build/dev/bench/gpu_ops_bench
//
// "bytes/s" counts each operand read once and each result written once; "of_limit" is the share of
// what this GPU was measured to do in the same run: Copy of a gigabyte for ops that move memory, a
// product of 8192 x 8192 matrices for matrix products. A call is timed over 20 of them between
// two waits for the GPU; the results rotate over buffers that are larger together than its cache.
#include <benchmark/benchmark.h>

#include <functional>
#include <vector>

#include "kernels/bench/gpu_bench.h"
#include "kernels/ops/adamw/adamw.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/conv_norm/conv_norm.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/fixed_point/fixed_point.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"
#include "kernels/ops/l2_norm/l2_norm.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/rotary/rotary.h"
#include "kernels/ops/short_conv/short_conv.h"
#include "kernels/ops/swiglu/swiglu.h"

namespace weft::kernels {
namespace {

constexpr int64_t kTokens = 32768, kWidth = 2048, kHeadWidth = 128, kHidden = 5632;

enum class Limit : uint8_t { kBytes, kFlops };

// `work`: bytes or FLOPs of a call.
void Report(benchmark::State& state, Gpu& gpu, Limit limit, double work,
            const std::function<absl::Status()>& call) {
  const double ceiling = limit == Limit::kBytes ? gpu.CopyRate() : gpu.ProductRate();
  double seconds = 0;
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    seconds = gpu.Time(call);
    state.SetIterationTime(seconds);
  }
  state.counters[limit == Limit::kBytes ? "bytes/s" : "flop/s"] = work / seconds;
  state.counters["of_limit"] = work / seconds / ceiling;
}

using Body = std::function<void(benchmark::State&, Gpu&)>;

void With(benchmark::State& state, const Body& body) {
  Gpu gpu;
  if (!gpu.status().ok()) return state.SkipWithError(gpu.status().ToString().c_str());
  body(state, gpu);
}

void BenchLinear(benchmark::State& state, int64_t inputs, int64_t outputs) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {kTokens, inputs}),
                 w = gpu.Random(DType::kBf16, {outputs, inputs}),
                 dy = gpu.Random(DType::kBf16, {kTokens, outputs});
    Tensor y = gpu.New(DType::kBf16, dy.shape()), dx = gpu.New(DType::kBf16, x.shape());
    Tensor dw = gpu.New(DType::kF32, w.shape());
    Report(s, gpu, Limit::kFlops, 6.0 * kTokens * static_cast<double>(inputs * outputs), [&] {
      Check(LinearForward(gpu.stream(), x, w, Tensor(), Tensor(), y));
      Check(LinearBackwardInput(gpu.stream(), dy, w, dx, Accumulate::kYes));
      return LinearBackwardWeight(gpu.stream(), dy, x, dw);
    });
  });
}

// What a forward product does besides: nothing, add a residual, or apply GELU.
enum class Ends : uint8_t { kPlain, kResidual, kGelu };

void BenchForwardEnds(benchmark::State& state, Ends ends, int64_t inputs, int64_t outputs) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {kTokens, inputs}),
                 w = gpu.Random(DType::kBf16, {outputs, inputs}),
                 bias = gpu.Random(DType::kBf16, {outputs}),
                 residual = gpu.Random(DType::kBf16, {kTokens, outputs});
    Tensor y = gpu.New(DType::kBf16, residual.shape());
    Tensor before = gpu.New(DType::kBf16, residual.shape());
    Report(s, gpu, Limit::kFlops, 2.0 * kTokens * static_cast<double>(inputs * outputs), [&] {
      if (ends == Ends::kGelu) return LinearGeluForward(gpu.stream(), x, w, bias, before, y);
      return LinearForward(gpu.stream(), x, w, bias, ends == Ends::kPlain ? Tensor() : residual, y);
    });
  });
}

void BenchBackwardEnds(benchmark::State& state, Ends ends, int64_t inputs, int64_t outputs) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor dy = gpu.Random(DType::kBf16, {kTokens, outputs}),
                 w = gpu.Random(DType::kBf16, {outputs, inputs}),
                 before = gpu.Random(DType::kBf16, {kTokens, inputs});
    Tensor dx = gpu.New(DType::kBf16, before.shape()), dbias = gpu.New(DType::kF32, {inputs});
    Report(s, gpu, Limit::kFlops, 2.0 * kTokens * static_cast<double>(inputs * outputs), [&] {
      if (ends == Ends::kGelu) return LinearBackwardGelu(gpu.stream(), dy, w, before, dx, dbias);
      return LinearBackwardInput(gpu.stream(), dy, w, dx,
                                 ends == Ends::kPlain ? Accumulate::kNo : Accumulate::kYes);
    });
  });
}

void BenchCrossEntropy(benchmark::State& state, int64_t width, int64_t vocabulary) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor h = gpu.Random(DType::kBf16, {kTokens, width}),
                 w = gpu.Random(DType::kBf16, {vocabulary, width});
    const Tensor targets = gpu.New(DType::kI32, {kTokens});
    Tensor losses = gpu.New(DType::kF32, {kTokens}), right = gpu.New(DType::kF32, {kTokens});
    Tensor dh = gpu.New(DType::kBf16, h.shape()), dw = gpu.New(DType::kF32, w.shape()), none;
    Report(s, gpu, Limit::kFlops, 6.0 * kTokens * static_cast<double>(width * vocabulary), [&] {
      return LinearCrossEntropyForwardBackward(gpu.stream(), h, w, none, targets, 1e-5, losses,
                                               right, dh, dw, none);
    });
  });
}

// The backward passes add to their result, the last one sums it as it was as well.
enum class NormPass : uint8_t { kForward, kBackward, kLayerBackward, kLayerBackwardSums };

void BenchNorms(benchmark::State& state, int64_t rows, int64_t width, NormPass pass) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {rows, width}),
                 dy = gpu.Random(DType::kBf16, x.shape()), w = gpu.Random(DType::kBf16, {width});
    Tensor y = gpu.New(DType::kBf16, x.shape()), rstd = gpu.Random(DType::kF32, {rows}),
           mean = gpu.Random(DType::kF32, {rows}), dw = gpu.New(DType::kF32, {width}),
           db = gpu.New(DType::kF32, {width}), sums;
    if (pass == NormPass::kLayerBackwardSums) sums = gpu.New(DType::kF32, {width});
    const int operands = pass == NormPass::kForward ? 2 : 4;
    Report(s, gpu, Limit::kBytes, static_cast<double>(x.bytes()) * operands, [&] {
      if (pass == NormPass::kForward) return RmsNormForward(gpu.stream(), x, w, 1e-6, y, rstd);
      if (pass == NormPass::kBackward) {
        return RmsNormBackward(gpu.stream(), x, w, rstd, dy, y, Accumulate::kYes, dw, sums);
      }
      return LayerNormBackward(gpu.stream(), x, w, mean, rstd, dy, y, Accumulate::kYes, dw, db,
                               sums);
    });
  });
}

void BenchConv(benchmark::State& state, bool backward) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {8, kTokens / 8, kWidth}),
                 dy = gpu.Random(DType::kBf16, x.shape()),
                 w = gpu.Random(DType::kBf16, {kWidth, 4});
    Tensor y = gpu.New(DType::kBf16, x.shape()), dw = gpu.New(DType::kF32, w.shape()), none;
    Report(s, gpu, Limit::kBytes, static_cast<double>(x.bytes()) * (backward ? 3 : 2), [&] {
      if (!backward) return ShortConvForward(gpu.stream(), x, w, Tensor(), y);
      return ShortConvBackward(gpu.stream(), x, w, Tensor(), dy, y, none, dw);
    });
  });
}

void BenchConvNorm(benchmark::State& state, bool backward) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const int64_t heads = kWidth / kHeadWidth;
    const Tensor x = gpu.Random(DType::kBf16, {8, kTokens / 8, kWidth}),
                 w = gpu.Random(DType::kBf16, {kWidth, 4}),
                 dy = gpu.Random(DType::kBf16, {8, kTokens / 8, heads, kHeadWidth});
    Tensor y = gpu.Random(DType::kBf16, dy.shape()), dx = gpu.New(DType::kBf16, x.shape()),
           space = gpu.New(DType::kBf16, x.shape()), dw = gpu.New(DType::kF32, w.shape()),
           inverse = gpu.Random(DType::kF32, {kTokens * heads}), none;
    Report(s, gpu, Limit::kBytes, static_cast<double>(x.bytes()) * (backward ? 3 : 2), [&] {
      if (!backward) return ConvNormForward(gpu.stream(), x, w, Tensor(), 1e-6, 0.1, y, inverse);
      return ConvNormBackward(gpu.stream(), x, w, Tensor(), 0.1, y, inverse, dy, space, dx, none,
                              dw);
    });
  });
}

void BenchL2(benchmark::State& state, bool backward) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {kTokens, kWidth / kHeadWidth, kHeadWidth}),
                 dy = gpu.Random(DType::kBf16, x.shape());
    Tensor y = gpu.New(DType::kBf16, x.shape()),
           inverse = gpu.Random(DType::kF32, {x.count() / kHeadWidth});
    Report(s, gpu, Limit::kBytes, static_cast<double>(x.bytes()) * (backward ? 3 : 2), [&] {
      if (!backward) return L2NormForward(gpu.stream(), x, 1e-6, 0.1, y, inverse);
      return L2NormBackward(gpu.stream(), x, inverse, 0.1, dy, y);
    });
  });
}

void BenchSwiglu(benchmark::State& state, bool backward) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor gate = gpu.Random(DType::kBf16, {kTokens, kHidden}),
                 up = gpu.Random(DType::kBf16, gate.shape()),
                 dy = gpu.Random(DType::kBf16, gate.shape());
    Tensor y = gpu.New(DType::kBf16, gate.shape()), dup = gpu.New(DType::kBf16, gate.shape());
    Report(s, gpu, Limit::kBytes, static_cast<double>(gate.bytes()) * (backward ? 5 : 3), [&] {
      if (!backward) return SwigluForward(gpu.stream(), gate, up, y);
      return SwigluBackward(gpu.stream(), gate, up, dy, y, dup);
    });
  });
}

void BenchEmbeddingBackward(benchmark::State& state, int32_t used) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    Tensor tokens = gpu.New(DType::kI32, {kTokens});
    std::vector<double> ids(kTokens);
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<double>((i * 2654435761U >> 7) % static_cast<size_t>(used));
    }
    Check(WriteValues(tokens, ids, gpu.stream()));
    const Tensor dy = gpu.Random(DType::kBf16, {kTokens, kWidth});
    Tensor dtable = gpu.New(DType::kF32, {32000, kWidth});
    Report(s, gpu, Limit::kBytes, static_cast<double>(dy.bytes()) + 8.0 * used * kWidth,
           [&] { return EmbeddingBackward(gpu.stream(), tokens, dy, dtable); });
  });
}

void BenchBias(benchmark::State& state, int64_t rows, int64_t width, bool backward) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {rows, width}),
                 bias = gpu.Random(DType::kBf16, {width});
    Tensor y = gpu.New(DType::kBf16, x.shape()), dbias = gpu.New(DType::kF32, {width});
    Report(s, gpu, Limit::kBytes, static_cast<double>(x.bytes()) * (backward ? 1 : 2), [&] {
      if (!backward) return BiasForward(gpu.stream(), x, bias, y);
      return BiasBackward(gpu.stream(), x, dbias);
    });
  });
}

void BenchRotary(benchmark::State& state) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kBf16, {8, kTokens / 8, kWidth / kHeadWidth, kHeadWidth});
    Tensor y = gpu.New(DType::kBf16, x.shape());
    Report(s, gpu, Limit::kBytes, 2.0 * static_cast<double>(x.bytes()),
           [&] { return RotaryForward(gpu.stream(), x, 10000, 0, y); });
  });
}

constexpr int64_t kParameters = int64_t{1} << 27;

void BenchAdamW(benchmark::State& state) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor gradient = gpu.Random(DType::kF32, {kParameters});
    Tensor clip = gpu.New(DType::kF32, {1}), p = gpu.Random(DType::kF32, {kParameters}),
           m = gpu.New(DType::kF32, {kParameters}), v = gpu.New(DType::kF32, {kParameters}),
           rounded = gpu.New(DType::kBf16, {kParameters});
    Check(Fill(gpu.stream(), clip, 1));
    Report(s, gpu, Limit::kBytes, 30.0 * kParameters, [&] {
      return AdamW(gpu.stream(), {.learning_rate = 1e-6}, gradient, clip, p, m, v, rounded);
    });
  });
}

// What a step adds to turn one shard's gradient into exact integers and back.
void BenchFixedPoint(benchmark::State& state) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kF32, {kParameters});
    Tensor sum = gpu.New(DType::kI32, {kParameters}), mean = gpu.New(DType::kF32, {kParameters});
    Tensor exponents = gpu.New(DType::kI32, {FixedPointBlocks(kParameters)});
    Report(s, gpu, Limit::kBytes, 20.0 * kParameters, [&] {
      Check(BlockExponents(gpu.stream(), x, Accumulate::kNo, exponents));
      Check(Quantize(gpu.stream(), x, exponents, 20, Accumulate::kNo, sum));
      return Dequantize(gpu.stream(), sum, exponents, 20, mean);
    });
  });
}

void BenchSumOfSquares(benchmark::State& state) {
  With(state, [=](benchmark::State& s, Gpu& gpu) {
    const Tensor x = gpu.Random(DType::kF32, {kParameters});
    Tensor out = gpu.New(DType::kF64, {1});
    Report(s, gpu, Limit::kBytes, 4.0 * kParameters,
           [&] { return SumOfSquares(gpu.stream(), x, out); });
  });
}

#define WEFT_GPU_BENCH(...) \
  BENCHMARK_CAPTURE(__VA_ARGS__)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond)
WEFT_GPU_BENCH(BenchLinear, 2048x2048, 2048, 2048);
WEFT_GPU_BENCH(BenchLinear, 2048x5632, 2048, 5632);
WEFT_GPU_BENCH(BenchLinear, 768x768, 768, 768);
WEFT_GPU_BENCH(BenchLinear, 768x3072, 768, 3072);
WEFT_GPU_BENCH(BenchLinear, 2048x16, 2048, 16);
WEFT_GPU_BENCH(BenchForwardEnds, plain_768x3072, Ends::kPlain, 768, 3072);
WEFT_GPU_BENCH(BenchForwardEnds, gelu_768x3072, Ends::kGelu, 768, 3072);
WEFT_GPU_BENCH(BenchForwardEnds, plain_3072x768, Ends::kPlain, 3072, 768);
WEFT_GPU_BENCH(BenchForwardEnds, residual_3072x768, Ends::kResidual, 3072, 768);
WEFT_GPU_BENCH(BenchBackwardEnds, plain_3072x768, Ends::kPlain, 3072, 768);
WEFT_GPU_BENCH(BenchBackwardEnds, gelu_3072x768, Ends::kGelu, 3072, 768);
WEFT_GPU_BENCH(BenchBackwardEnds, plain_768x768, Ends::kPlain, 768, 768);
WEFT_GPU_BENCH(BenchBackwardEnds, added_768x768, Ends::kResidual, 768, 768);
WEFT_GPU_BENCH(BenchCrossEntropy, 2048x32000, 2048, 32000);
WEFT_GPU_BENCH(BenchCrossEntropy, 768x50304, 768, 50304);
WEFT_GPU_BENCH(BenchNorms, forward, kTokens, kWidth, NormPass::kForward);
WEFT_GPU_BENCH(BenchNorms, backward, kTokens, kWidth, NormPass::kBackward);
WEFT_GPU_BENCH(BenchNorms, forward_768, 2 * kTokens, 768, NormPass::kForward);
WEFT_GPU_BENCH(BenchNorms, backward_768, 2 * kTokens, 768, NormPass::kBackward);
WEFT_GPU_BENCH(BenchNorms, layer_backward_768, 2 * kTokens, 768, NormPass::kLayerBackward);
WEFT_GPU_BENCH(BenchNorms, layer_sums_768, 2 * kTokens, 768, NormPass::kLayerBackwardSums);
WEFT_GPU_BENCH(BenchNorms, layer_backward, kTokens, kWidth, NormPass::kLayerBackward);
WEFT_GPU_BENCH(BenchNorms, layer_sums, kTokens, kWidth, NormPass::kLayerBackwardSums);
WEFT_GPU_BENCH(BenchNorms, forward_heads, kTokens * 16, kHeadWidth, NormPass::kForward);
WEFT_GPU_BENCH(BenchNorms, backward_heads, kTokens * 16, kHeadWidth, NormPass::kBackward);
WEFT_GPU_BENCH(BenchConv, forward, false);
WEFT_GPU_BENCH(BenchConv, backward, true);
WEFT_GPU_BENCH(BenchConvNorm, forward, false);
WEFT_GPU_BENCH(BenchConvNorm, backward, true);
WEFT_GPU_BENCH(BenchL2, forward, false);
WEFT_GPU_BENCH(BenchL2, backward, true);
WEFT_GPU_BENCH(BenchSwiglu, forward, false);
WEFT_GPU_BENCH(BenchSwiglu, backward, true);
WEFT_GPU_BENCH(BenchBias, forward, kTokens, kWidth, false);
WEFT_GPU_BENCH(BenchBias, backward, kTokens, kWidth, true);
WEFT_GPU_BENCH(BenchBias, backward_768, 2 * kTokens, 768, true);
WEFT_GPU_BENCH(BenchEmbeddingBackward, even, 32000);
WEFT_GPU_BENCH(BenchEmbeddingBackward, few_tokens, 16);
BENCHMARK(BenchRotary)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond);
BENCHMARK(BenchAdamW)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond);
BENCHMARK(BenchFixedPoint)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond);
BENCHMARK(BenchSumOfSquares)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace weft::kernels

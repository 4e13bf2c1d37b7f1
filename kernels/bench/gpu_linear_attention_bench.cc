// Linear attention of squares (slim, and performer with square features) and of what else has no
// projection; the performer's random features.
#include <cmath>
#include <memory>

#include "kernels/attention/linear_attention/linear_attention.h"
#include "kernels/bench/gpu_attention_bench.h"

namespace weft::kernels {
namespace {

struct LinearOperands {
  LinearOperands(Gpu& gpu, const LinearAttentionProblem& p) : problem(p), stream(gpu.stream()) {
    const Shape rows = {p.batch, p.tokens, p.heads, p.key_dim};
    for (Tensor* input : {&inputs.q, &inputs.k, &inputs.v, &d_o}) {
      *input = gpu.Random(DType::kBf16, rows);
    }
    for (Tensor* output : {&o, &d_q, &d_k, &d_v}) *output = gpu.New(DType::kBf16, rows);
    if (p.features.rows > 0) {
      inputs.projection = gpu.Random(DType::kBf16, {p.features.rows, p.key_dim});
    }
    saved = NewLinearAttentionSaved(stream.device(), p).value();
  }

  LinearAttentionProblem problem;
  Stream& stream;
  LinearAttentionInputs inputs;
  Tensor d_o, o, d_q, d_k, d_v;
  Tensor absent;
  LinearAttentionSaved saved;
};

AttentionCalls Linear(Gpu& gpu, const AttentionShape& shape, const FeatureMap& features) {
  auto x = std::make_shared<LinearOperands>(gpu, LinearAttentionProblem{.batch = shape.batch,
                                                                        .tokens = shape.tokens,
                                                                        .heads = shape.heads,
                                                                        .key_dim = shape.head_dim,
                                                                        .value_dim = shape.head_dim,
                                                                        .features = features});
  return {.forward =
              [x] {
                return LinearAttentionForward(x->stream, x->problem, x->inputs, Tensor(), x->o,
                                              x->absent, x->saved);
              },
          .backward =
              [x] {
                return LinearAttentionBackward(x->stream, x->problem, x->inputs, x->o, x->saved,
                                               x->d_o, Tensor(), x->d_q, x->d_k, x->d_v, x->absent);
              }};
}

AttentionCalls Slim(Gpu& gpu, const AttentionShape& shape) {
  return Linear(gpu, shape, {.feature = Feature::kSquare});
}
AttentionCalls Performer(Gpu& gpu, const AttentionShape& shape) {
  return Linear(gpu, shape,
                {.feature = Feature::kExponential,
                 .rows = 256,
                 .scale = std::pow(static_cast<double>(shape.head_dim), -0.25),
                 .floor = 1e-6});
}

const bool registered = AddGpuAttention("slim", Slim) && AddGpuAttention("performer", Performer);

}  // namespace
}  // namespace weft::kernels

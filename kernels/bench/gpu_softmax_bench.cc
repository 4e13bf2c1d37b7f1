// Causal softmax attention.
#include <cmath>
#include <memory>

#include "kernels/attention/softmax/softmax.h"
#include "kernels/bench/gpu_attention_bench.h"

namespace weft::kernels {
namespace {

struct SoftmaxOperands {
  SoftmaxOperands(Gpu& gpu, const SoftmaxProblem& p) : problem(p), stream(gpu.stream()) {
    const Shape rows = {p.batch, p.queries, p.heads, p.head_dim};
    for (Tensor* input : {&q, &k, &v, &d_o}) *input = gpu.Random(DType::kBf16, rows);
    for (Tensor* output : {&o, &d_q, &d_k, &d_v}) *output = gpu.New(DType::kBf16, rows);
    lse = gpu.New(DType::kF32, {p.batch, p.heads, p.queries});
  }

  SoftmaxProblem problem;
  Stream& stream;
  Tensor q, k, v, d_o, o, lse, d_q, d_k, d_v;
};

AttentionCalls Softmax(Gpu& gpu, const AttentionShape& shape) {
  auto x = std::make_shared<SoftmaxOperands>(
      gpu, SoftmaxProblem{.batch = shape.batch,
                          .queries = shape.tokens,
                          .keys = shape.tokens,
                          .heads = shape.heads,
                          .kv_heads = shape.heads,
                          .head_dim = shape.head_dim,
                          .scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim))});
  return {.forward =
              [x] {
                return SoftmaxForward(x->stream, x->problem, x->q, x->k, x->v, Tensor(), x->o,
                                      x->lse);
              },
          .backward =
              [x] {
                return SoftmaxBackward(x->stream, x->problem, x->q, x->k, x->v, Tensor(), x->o,
                                       x->lse, x->d_o, x->d_q, x->d_k, x->d_v);
              }};
}

const bool registered = AddGpuAttention("softmax", Softmax);

}  // namespace
}  // namespace weft::kernels

// The delta rule, keys and queries of length one.
#include <memory>

#include "kernels/attention/delta/delta.h"
#include "kernels/bench/gpu_attention_bench.h"
#include "kernels/ops/l2_norm/l2_norm.h"

namespace weft::kernels {
namespace {

struct DeltaOperands {
  DeltaOperands(Gpu& gpu, const DeltaProblem& p) : problem(p), stream(gpu.stream()) {
    const Shape keys = {p.batch, p.tokens, p.heads, p.key_dim};
    const Shape values = {p.batch, p.tokens, p.heads, p.value_dim};
    const Shape gates = {p.batch, p.tokens, p.heads};
    for (Tensor* input : {&q, &k}) {
      *input = gpu.Random(DType::kBf16, keys);
      Tensor inverse_norm = gpu.New(DType::kF32, gates);
      status.Update(L2NormForward(stream, *input, 1e-6, 1.0, *input, inverse_norm));
    }
    for (Tensor* input : {&v, &d_o}) *input = gpu.Random(DType::kBf16, values);
    for (Tensor* output : {&d_q, &d_k}) *output = gpu.New(DType::kBf16, keys);
    for (Tensor* output : {&o, &d_v}) *output = gpu.New(DType::kBf16, values);
    for (Tensor* of : {&beta, &d_beta}) *of = gpu.New(DType::kF32, gates);
    status.Update(Fill(stream, beta, 0.5));
    saved = *NewDeltaSaved(stream.device(), p);
  }

  DeltaProblem problem;
  Stream& stream;
  absl::Status status;
  Tensor q, k, v, beta, d_o, o, d_q, d_k, d_v, d_beta, absent;
  DeltaSaved saved;
};

AttentionCalls Delta(Gpu& gpu, const AttentionShape& shape) {
  auto x = std::make_shared<DeltaOperands>(gpu, DeltaProblem{.batch = shape.batch,
                                                             .tokens = shape.tokens,
                                                             .heads = shape.heads,
                                                             .key_dim = shape.head_dim,
                                                             .value_dim = shape.head_dim});
  return {.forward =
              [x] {
                if (!x->status.ok()) return x->status;
                return DeltaForward(x->stream, x->problem, x->q, x->k, x->v, x->beta, x->absent,
                                    x->o, x->absent, x->saved);
              },
          .backward =
              [x] {
                return DeltaBackward(x->stream, x->problem, x->q, x->k, x->beta, x->saved, x->d_o,
                                     x->absent, x->d_q, x->d_k, x->d_v, x->d_beta, x->absent);
              }};
}

const bool registered = AddGpuAttention("delta", Delta);

}  // namespace
}  // namespace weft::kernels

// Polynomial attention with exact blocks of 1024 tokens and sketches beyond them: the attention
// alone
// ("polysketch_r32"), and with the networks that make the features of queries and keys
// ("polysketch_learned_r32").
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/learned_sketch.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/bench/gpu_attention_bench.h"

namespace weft::kernels {
namespace {

// Weights as wide as those of a model that begins, or their gradients.
LearnedSketchWeights NewNetwork(Gpu& gpu, const LearnedSketchProblem& p, bool gradients) {
  const auto make = [&](const Shape& shape) {
    return gradients ? gpu.New(DType::kF32, shape) : gpu.Random(DType::kBf16, shape);
  };
  LearnedSketchWeights weights;
  int64_t inputs = p.input_dim;
  for (SketchStage& stage : weights) {
    stage = {.norm_weight = make({2, inputs}),
             .norm_bias = make({2, inputs}),
             .expand = make({2, p.hidden_dim, inputs}),
             .contract = make({2, p.sketch_dim, p.hidden_dim})};
    inputs = p.sketch_dim;
  }
  return weights;
}

struct Operands {
  Operands(Gpu& gpu, const PolysketchProblem& p)
      : problem(p),
        network{
            .input_dim = p.head_dim, .sketch_dim = p.sketch_dim, .hidden_dim = 8 * p.sketch_dim},
        stream(gpu.stream()),
        weights(NewNetwork(gpu, network, /*gradients=*/false)),
        d_weights(NewNetwork(gpu, network, /*gradients=*/true)),
        saved(NewPolysketchSaved(stream.device(), p).value()),
        q_sketch(NewSketchSaved(p)),
        k_sketch(NewSketchSaved(p)) {
    const Shape rows = {p.batch, p.queries, p.heads, p.head_dim};
    const Shape features = {p.batch, p.queries, p.heads, p.sketch_dim};
    for (Tensor* input : {&in.q, &in.k, &in.v, &d_o}) *input = gpu.Random(DType::kBf16, rows);
    for (Tensor* phi : {&in.phi_q, &in.phi_k}) *phi = gpu.Random(DType::kBf16, features);
    for (Tensor* output : {&o, &d.q, &d.k, &d.v}) *output = gpu.New(DType::kBf16, rows);
    for (Tensor* d_phi : {&d.phi_q, &d.phi_k}) *d_phi = gpu.New(DType::kBf16, features);
  }

  absl::Status Features() {
    WEFT_RETURN_IF_ERROR(LearnedSketchForward(stream, network, in.q, weights, in.phi_q, q_sketch));
    return LearnedSketchForward(stream, network, in.k, weights, in.phi_k, k_sketch);
  }
  absl::Status Forward() {
    return PolysketchForward(stream, problem, in, nothing, o, nothing, saved);
  }
  absl::Status Backward() {
    return PolysketchBackward(stream, problem, in, nothing, o, saved, d_o, nothing, d, nothing);
  }
  absl::Status FeaturesBackward() {
    WEFT_RETURN_IF_ERROR(LearnedSketchBackward(stream, network, in.q, weights, in.phi_q, q_sketch,
                                               d.phi_q, d.q, Accumulate::kYes, d_weights));
    return LearnedSketchBackward(stream, network, in.k, weights, in.phi_k, k_sketch, d.phi_k, d.k,
                                 Accumulate::kYes, d_weights);
  }
  [[nodiscard]] LearnedSketchSaved NewSketchSaved(const PolysketchProblem& p) const {
    return NewLearnedSketchSaved(stream.device(), network, p.batch * p.queries * p.heads).value();
  }

  PolysketchProblem problem;
  LearnedSketchProblem network;
  Stream& stream;
  LearnedSketchWeights weights, d_weights;
  PolysketchInputs in;
  PolysketchGradients d;
  PolysketchState nothing;
  PolysketchSaved saved;
  LearnedSketchSaved q_sketch, k_sketch;
  Tensor d_o, o;
};

AttentionCalls Polysketch(Gpu& gpu, const AttentionShape& shape, int64_t sketch, bool learned) {
  auto x = std::make_shared<Operands>(
      gpu, PolysketchProblem{.weights = PolysketchWeights::kMixed,
                             .batch = shape.batch,
                             .queries = shape.tokens,
                             .keys = shape.tokens,
                             .heads = shape.heads,
                             .head_dim = shape.head_dim,
                             .sketch_dim = sketch,
                             .block = 1024,
                             .kappa = static_cast<double>(shape.head_dim)});
  return {.forward = [x, learned]() -> absl::Status {
            if (learned) WEFT_RETURN_IF_ERROR(x->Features());
            return x->Forward();
          },
          .backward = [x, learned]() -> absl::Status {
            WEFT_RETURN_IF_ERROR(x->Backward());
            return learned ? x->FeaturesBackward() : absl::OkStatus();
          }};
}

bool Add(int64_t sketch, bool learned) {
  return AddGpuAttention(absl::StrCat("polysketch", learned ? "_learned" : "", "_r", sketch),
                         [=](Gpu& gpu, const AttentionShape& shape) {
                           return Polysketch(gpu, shape, sketch, learned);
                         });
}

const bool registered = Add(32, false) && Add(64, false) && Add(32, true) && Add(64, true);

}  // namespace
}  // namespace weft::kernels

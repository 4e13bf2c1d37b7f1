// Scatterbrain with supports of several densities: how its time follows the exact pairs. 64
// features.
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "kernels/attention/scatterbrain/scatterbrain.h"
#include "kernels/bench/gpu_attention_bench.h"

namespace weft::kernels {
namespace {

struct ScatterbrainOnGpu {
  ScatterbrainOnGpu(Gpu& gpu, const ScatterbrainProblem& p) : problem(p), stream(gpu.stream()) {
    const Shape rows = {p.batch, p.queries, p.heads, p.key_dim};
    for (Tensor* input : {&in.q, &in.k, &in.v, &d_o}) *input = gpu.Random(DType::kBf16, rows);
    for (Tensor* output : {&o, &d_q, &d_k, &d_v}) *output = gpu.New(DType::kBf16, rows);
    in.w = gpu.Random(DType::kBf16, {p.feature_rows(), p.key_dim});
    saved = *NewScatterbrainSaved(stream.device(), p);
    if (const auto* hash = std::get_if<HashSupport>(&p.support)) {
      projections = gpu.Random(DType::kF32, {hash->rounds, p.key_dim + 2});
      in.buckets = *NewHashBuckets(stream.device(), p);
    }
  }

  absl::Status Forward() {
    if (projections.present()) {
      const absl::Status hashed =
          HashBuckets(stream, problem, in.q, in.k, projections, Tensor(), in.buckets);
      if (!hashed.ok()) return hashed;
    }
    return ScatterbrainForward(stream, problem, in, o, saved);
  }
  absl::Status Backward() {
    return ScatterbrainBackward(stream, problem, in, o, saved, d_o, d_q, d_k, d_v);
  }

  ScatterbrainProblem problem;
  Stream& stream;
  ScatterbrainOperands in;
  ScatterbrainSaved saved;
  Tensor projections, d_o, o, d_q, d_k, d_v;
};

ExactSupport BlocksOf(int64_t window, int64_t tokens) {
  return BlockSupport{*NewBlockLayout({.block = 64, .window = window, .global = 1}, tokens, tokens,
                                      /*causal=*/true, 0, {})};
}

bool Add(const std::string& name, const std::function<ExactSupport(int64_t tokens)>& support) {
  return AddGpuAttention("scatterbrain-" + name, [=](Gpu& gpu, const AttentionShape& shape) {
    auto x = std::make_shared<ScatterbrainOnGpu>(
        gpu, ScatterbrainProblem{.batch = shape.batch,
                                 .queries = shape.tokens,
                                 .keys = shape.tokens,
                                 .heads = shape.heads,
                                 .key_dim = shape.head_dim,
                                 .value_dim = shape.head_dim,
                                 .scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim)),
                                 .causal = true,
                                 .features = 64,
                                 .support = support(shape.tokens)});
    return AttentionCalls{.forward = [x] { return x->Forward(); },
                          .backward = [x] { return x->Backward(); }};
  });
}

bool AddSupports() {
  for (const int64_t width : {64, 512, 2048}) {
    Add(absl::StrCat("window-", width), [=](int64_t) { return WindowSupport{width}; });
  }
  for (const int64_t bucket : {32, 64, 256}) {
    Add(absl::StrCat("hash-2x", bucket), [=](int64_t) { return HashSupport{2, bucket, bucket}; });
  }
  for (const int64_t window : {3, 15}) {
    Add(absl::StrCat("blocks-", window), [=](int64_t tokens) { return BlocksOf(window, tokens); });
  }
  return true;
}

const bool registered = AddSupports();

}  // namespace
}  // namespace weft::kernels

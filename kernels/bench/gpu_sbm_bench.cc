// SBM attention at several densities: how its time follows the edges. sbm-<density> draws the graph
// and attends along it, sbm-given-<density> attends along a graph that is there.
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "kernels/attention/sbm/sbm.h"
#include "kernels/bench/gpu_attention_bench.h"
#include "kernels/ops/elementwise/elementwise.h"

namespace weft::kernels {
namespace {

constexpr int64_t kClusters = 32;

struct SbmOperands {
  SbmOperands(Gpu& gpu, const SbmProblem& p, double density) : problem(p), stream(gpu.stream()) {
    const Shape rows = {p.batch, p.queries, p.heads, p.head_dim};
    for (Tensor* input : {&saved.q, &saved.k, &saved.v, &d_o}) {
      *input = gpu.Random(DType::kBf16, rows);
    }
    for (Tensor* output : {&saved.o, &d_q, &d_k, &d_v}) *output = gpu.New(DType::kBf16, rows);
    const Shape memberships = {p.batch, p.heads, p.queries, kClusters};
    const Shape affinity = {p.heads, kClusters, kClusters};
    saved.lse = gpu.New(DType::kF32, {p.batch, p.heads, p.queries});
    for (SbmMemberships* of : {&saved.memberships, &d_memberships}) {
      of->query = gpu.New(DType::kF32, memberships);
      of->key = gpu.New(DType::kF32, memberships);
      of->affinity = gpu.New(DType::kF32, affinity);
    }
    // Every pair alike: p is the square of the memberships.
    status.Update(Fill(stream, saved.memberships.query, std::sqrt(density)));
    status.Update(Fill(stream, saved.memberships.key, std::sqrt(density)));
    status.Update(Fill(stream, saved.memberships.affinity, 1.0 / (kClusters * kClusters)));
    saved.graph = *NewSbmGraph(stream.device(), p);
    status.Update(Draw());
  }

  absl::Status Draw() {
    return SbmSampleGraph(stream, problem, {.seed = 1}, saved.memberships, Tensor(), saved.graph);
  }
  absl::Status Forward() {
    return SbmForward(stream, problem, saved.q, saved.k, saved.v, saved.graph, saved.o, saved.lse);
  }

  SbmProblem problem;
  Stream& stream;
  absl::Status status;
  SbmSaved saved;
  Tensor d_o, d_q, d_k, d_v;
  SbmMemberships d_memberships;
};

AttentionCalls Sbm(Gpu& gpu, const AttentionShape& shape, double density, bool draws) {
  auto x = std::make_shared<SbmOperands>(
      gpu,
      SbmProblem{.batch = shape.batch,
                 .queries = shape.tokens,
                 .keys = shape.tokens,
                 .heads = shape.heads,
                 .head_dim = shape.head_dim,
                 .clusters = kClusters,
                 .scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim)),
                 .causal = true,
                 .exploration = 0.0},
      density);
  return {.forward =
              [x, draws] {
                if (!x->status.ok()) return x->status;
                const absl::Status drawn = draws ? x->Draw() : absl::OkStatus();
                return drawn.ok() ? x->Forward() : drawn;
              },
          .backward =
              [x] {
                return SbmBackward(x->stream, x->problem, x->saved, x->d_o, x->d_q, x->d_k, x->d_v,
                                   x->d_memberships);
              }};
}

bool AddDensities() {
  for (const double density : {0.25, 0.05, 0.01, 0.002}) {
    for (const bool draws : {true, false}) {
      AddGpuAttention(
          absl::StrCat(draws ? "sbm-" : "sbm-given-", density),
          [=](Gpu& gpu, const AttentionShape& shape) { return Sbm(gpu, shape, density, draws); });
    }
  }
  return true;
}

const bool registered = AddDensities();

}  // namespace
}  // namespace weft::kernels

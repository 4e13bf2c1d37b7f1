#include "kernels/attention/sbm/sbm.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<absl::Status(const SbmProblem&)> limits("SBM limits");
constinit OpTable<decltype(SbmSampleGraph)> sample_kernels("SBM graph");
constinit OpTable<decltype(SbmForward)> forward_kernels("SBM attention forward");
constinit OpTable<decltype(SbmBackward)> backward_kernels("SBM attention backward");

struct Shapes {
  explicit Shapes(const SbmProblem& p)
      : queries{p.batch, p.queries, p.heads, p.head_dim},
        keys{p.batch, p.keys, p.heads, p.head_dim},
        lse{p.batch, p.heads, p.queries},
        query_memberships{p.batch, p.heads, p.queries, p.clusters},
        key_memberships{p.batch, p.heads, p.keys, p.clusters},
        affinity{p.heads, p.clusters, p.clusters},
        bits{p.batch, p.heads, p.queries, (p.keys + 63) / 64 * 2},
        copies{p.batch, p.heads, p.queries, (p.keys + 3) / 4},
        density{p.batch, p.heads} {}

  void Check(OperandCheck& check, const SbmMemberships& memberships) const {
    check.SumShaped("query memberships", memberships.query, query_memberships)
        .SumShaped("key memberships", memberships.key, key_memberships)
        .SumShaped("affinity", memberships.affinity, affinity);
  }
  void Check(OperandCheck& check, const SbmProblem& p, const SbmGraph& graph) const {
    check.Typed("bits", graph.bits, DType::kI32, bits).SumShaped("density", graph.density, density);
    if (p.sampler == SbmSampler::kPoissonCopies) {
      check.Typed("copies", graph.copies, DType::kI32, copies);
    }
  }

  Shape queries, keys, lse;
  Shape query_memberships, key_memberships, affinity;
  Shape bits, copies, density;
};

absl::Status CheckSizes(const SbmProblem& p) {
  if (p.batch < 1 || p.queries < 0 || p.heads < 1 || p.head_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat("SBM: batch ", p.batch, ", queries ", p.queries,
                                                   ", heads ", p.heads, ", head_dim ", p.head_dim,
                                                   ": all must be positive (queries may be 0)"));
  }
  if (p.keys < p.queries || p.keys > kMaxSbmKeys) {
    return absl::InvalidArgumentError(absl::StrCat("SBM: keys ", p.keys, " outside [queries ",
                                                   p.queries, ", ", kMaxSbmKeys, "]"));
  }
  if (p.clusters < 1 || p.clusters > kMaxSbmClusters) {
    return absl::InvalidArgumentError(
        absl::StrCat("SBM: clusters ", p.clusters, " outside [1, ", kMaxSbmClusters, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckProblem(const SbmProblem& p) {
  WEFT_RETURN_IF_ERROR(CheckSizes(p));
  if (!(p.scale > 0.0) || !std::isfinite(p.scale)) {
    return absl::InvalidArgumentError(
        absl::StrCat("SBM: scale ", p.scale, " is not positive and finite"));
  }
  if (!(p.exploration >= 0.0 && p.exploration <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrCat("SBM: exploration ", p.exploration, " outside [0, 0.5]"));
  }
  WEFT_RETURN_IF_ERROR(CheckDropout("SBM", p.dropout, p.batch, p.heads));
  if (!(p.clip > 0.0)) {
    return absl::InvalidArgumentError(absl::StrCat("SBM: clip ", p.clip, " is not positive"));
  }
  if (!std::isfinite(p.density_gradient)) {
    return absl::InvalidArgumentError(
        absl::StrCat("SBM: density_gradient ", p.density_gradient, " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckDraws(const SbmProblem& p, const SbmDraws& draws) {
  if (draws.step >> 28 != 0 || draws.layer >> 12 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("SBM: step ", draws.step, " or layer ",
                                                   draws.layer, " outside 28 or 12 bits"));
  }
  constexpr int64_t kMost = int64_t{1} << 20;
  if (draws.first_sequence < 0 || draws.first_sequence > kMost ||
      (draws.first_sequence + p.batch) * p.heads > kMost) {
    return absl::InvalidArgumentError(absl::StrCat(
        "SBM: ", p.heads, " heads of sequences ", draws.first_sequence, " to ",
        draws.first_sequence + p.batch - 1, ": at most ", kMost, " can be told apart"));
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterSbm(DeviceKind kind, const SbmKernels& kernels) {
  limits.Set(kind, kernels.supports);
  sample_kernels.Set(kind, kernels.sample);
  forward_kernels.Set(kind, kernels.forward);
  backward_kernels.Set(kind, kernels.backward);
}

absl::Status Supports(const Device& device, const SbmProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(sample_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  const auto covers = limits.Find(device.kind());
  return covers.ok() ? (*covers)(problem) : absl::OkStatus();
}

absl::StatusOr<SbmGraph> NewSbmGraph(Device& device, const SbmProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  const Shapes shapes(problem);
  SbmGraph graph;
  WEFT_ASSIGN_OR_RETURN(graph.bits, NewTensor(device, DType::kI32, shapes.bits));
  if (problem.sampler == SbmSampler::kPoissonCopies) {
    WEFT_ASSIGN_OR_RETURN(graph.copies, NewTensor(device, DType::kI32, shapes.copies));
  }
  WEFT_ASSIGN_OR_RETURN(graph.density, NewTensor(device, device.sum_dtype(), shapes.density));
  return graph;
}

absl::Status SbmSampleGraph(Stream& stream, const SbmProblem& problem, const SbmDraws& draws,
                            const SbmMemberships& memberships, const Tensor& valid,
                            SbmGraph& graph) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(CheckDraws(problem, draws));
  const Shapes shapes(problem);
  OperandCheck check("SbmSampleGraph", stream);
  shapes.Check(check, memberships);
  if (valid.present()) {
    check.Typed("valid", valid, DType::kI32, {problem.batch, problem.keys});
  }
  shapes.Check(check, problem, graph);
  WEFT_RETURN_IF_ERROR(check.status());
  return sample_kernels.Call(stream, problem, draws, memberships, valid, graph);
}

absl::Status SbmForward(Stream& stream, const SbmProblem& problem, const Tensor& q, const Tensor& k,
                        const Tensor& v, const SbmGraph& graph, Tensor& o, Tensor& lse) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  const Shapes shapes(problem);
  OperandCheck check("SbmForward", stream);
  check.Shaped("q", q, shapes.queries).Shaped("k", k, shapes.keys).Shaped("v", v, shapes.keys);
  shapes.Check(check, problem, graph);
  check.Shaped("o", o, shapes.queries).SumShaped("lse", lse, shapes.lse);
  WEFT_RETURN_IF_ERROR(check.status());
  return forward_kernels.Call(stream, problem, q, k, v, graph, o, lse);
}

absl::Status SbmBackward(Stream& stream, const SbmProblem& problem, const SbmSaved& saved,
                         const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                         SbmMemberships& d_memberships) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  const Shapes shapes(problem);
  OperandCheck check("SbmBackward", stream);
  check.Shaped("q", saved.q, shapes.queries)
      .Shaped("k", saved.k, shapes.keys)
      .Shaped("v", saved.v, shapes.keys)
      .Shaped("o", saved.o, shapes.queries)
      .SumShaped("lse", saved.lse, shapes.lse);
  shapes.Check(check, saved.memberships);
  if (saved.valid.present()) {
    check.Typed("valid", saved.valid, DType::kI32, {problem.batch, problem.keys});
  }
  shapes.Check(check, problem, saved.graph);
  check.Shaped("d_o", d_o, shapes.queries)
      .Shaped("d_q", d_q, shapes.queries)
      .Shaped("d_k", d_k, shapes.keys)
      .Shaped("d_v", d_v, shapes.keys)
      .SumShaped("gradient of query memberships", d_memberships.query, shapes.query_memberships)
      .SumShaped("gradient of key memberships", d_memberships.key, shapes.key_memberships)
      .SumShaped("gradient of affinity", d_memberships.affinity, shapes.affinity);
  WEFT_RETURN_IF_ERROR(check.status());
  return backward_kernels.Call(stream, problem, saved, d_o, d_q, d_k, d_v, d_memberships);
}

}  // namespace weft::kernels

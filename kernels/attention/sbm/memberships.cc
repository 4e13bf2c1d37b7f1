#include "kernels/attention/sbm/memberships.h"

#include "common/base/status_macros.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<decltype(SbmMembershipForward)> forward_kernels("SBM memberships forward");
constinit OpTable<decltype(SbmMembershipBackward)> backward_kernels("SBM memberships backward");
constinit OpTable<decltype(SbmAffinityForward)> affinity_forward_kernels("SBM affinity forward");
constinit OpTable<decltype(SbmAffinityBackward)> affinity_backward_kernels("SBM affinity backward");

// The extents that x [B, T, H, D] and the clusters [H, K, D] agree on, or a complaint.
absl::Status CheckOperands(OperandCheck& check, const Tensor& x, const SbmClusterModel& model) {
  check.Compute("x", x, 4).Compute("clusters", model.clusters, 3);
  WEFT_RETURN_IF_ERROR(check.status());
  const int64_t heads = x.dim(2);
  const int64_t dim = x.dim(3);
  check.Require(x.shape().rank() == 4, "x must have 4 dimensions")
      .Shaped("clusters", model.clusters, {heads, model.clusters.dim(1), dim})
      .Shaped("w1", model.w1, {dim, dim})
      .Shaped("b1", model.b1, {dim})
      .Shaped("w2", model.w2, {dim, dim})
      .Shaped("b2", model.b2, {dim});
  return check.status();
}

Shape MembershipShape(const Tensor& x, const SbmClusterModel& model) {
  return {x.dim(0), x.dim(2), x.dim(1), model.clusters.dim(1)};
}

absl::Status CheckAffinity(OperandCheck& check, const Tensor& clusters, const Tensor& affinity) {
  check.Compute("clusters", clusters, 3);
  WEFT_RETURN_IF_ERROR(check.status());
  check.Require(clusters.shape().rank() == 3, "clusters must have 3 dimensions")
      .SumShaped("affinity", affinity, {clusters.dim(0), clusters.dim(1), clusters.dim(1)});
  return check.status();
}

}  // namespace

void RegisterSbmMemberships(DeviceKind kind, const SbmMembershipKernels& kernels) {
  forward_kernels.Set(kind, kernels.forward);
  backward_kernels.Set(kind, kernels.backward);
  affinity_forward_kernels.Set(kind, kernels.affinity_forward);
  affinity_backward_kernels.Set(kind, kernels.affinity_backward);
}

absl::Status SbmMembershipForward(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                  Tensor& memberships) {
  OperandCheck check("SbmMembershipForward", stream);
  WEFT_RETURN_IF_ERROR(CheckOperands(check, x, model));
  check.SumShaped("memberships", memberships, MembershipShape(x, model));
  WEFT_RETURN_IF_ERROR(check.status());
  return forward_kernels.Call(stream, x, model, memberships);
}

absl::Status SbmMembershipBackward(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                   const Tensor& memberships, const Tensor& d_memberships,
                                   Tensor& d_x, Accumulate accumulate, SbmClusterModel& d_model) {
  OperandCheck check("SbmMembershipBackward", stream);
  WEFT_RETURN_IF_ERROR(CheckOperands(check, x, model));
  check.SumShaped("memberships", memberships, MembershipShape(x, model))
      .SumShaped("d_memberships", d_memberships, MembershipShape(x, model))
      .Shaped("d_x", d_x, x.shape())
      .SumShaped("d_clusters", d_model.clusters, model.clusters.shape())
      .SumShaped("d_w1", d_model.w1, model.w1.shape())
      .SumShaped("d_b1", d_model.b1, model.b1.shape())
      .SumShaped("d_w2", d_model.w2, model.w2.shape())
      .SumShaped("d_b2", d_model.b2, model.b2.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return backward_kernels.Call(stream, x, model, memberships, d_memberships, d_x, accumulate,
                               d_model);
}

absl::Status SbmAffinityForward(Stream& stream, const Tensor& clusters, Tensor& affinity) {
  OperandCheck check("SbmAffinityForward", stream);
  WEFT_RETURN_IF_ERROR(CheckAffinity(check, clusters, affinity));
  return affinity_forward_kernels.Call(stream, clusters, affinity);
}

absl::Status SbmAffinityBackward(Stream& stream, const Tensor& clusters, const Tensor& affinity,
                                 const Tensor& d_affinity, Tensor& d_clusters) {
  OperandCheck check("SbmAffinityBackward", stream);
  WEFT_RETURN_IF_ERROR(CheckAffinity(check, clusters, affinity));
  check.SumShaped("d_affinity", d_affinity, affinity.shape())
      .SumShaped("d_clusters", d_clusters, clusters.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return affinity_backward_kernels.Call(stream, clusters, affinity, d_affinity, d_clusters);
}

}  // namespace weft::kernels

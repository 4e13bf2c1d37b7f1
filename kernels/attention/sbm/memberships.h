// The stochastic block model that SBM attention draws its graphs from (sbm.h): memberships of
// tokens in clusters, and the affinity of the clusters. Cho et al. 2022.
//
//   f(x) = relu(x W1^T + b1) W2^T + b2    one map for queries and keys of all heads of a layer
//   memberships = sigmoid(f(x) C^T)       C: the embeddings of a head's clusters
//   affinity    = softmax over all K x K entries of C C^T
//
// Threads: as the stream (used by one thread at a time).
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// B batch, T tokens, H heads, D width of a head, K clusters. Parameters, of the device's compute
// type, or their gradients, of its sum type. Memberships and affinities, and their gradients, have
// the sum type too; x and its gradient the compute type.
struct SbmClusterModel {
  Tensor w1, w2;    // [D, D], output dimension first
  Tensor b1, b2;    // [D]
  Tensor clusters;  // [H, K, D]: C
};

// kInvalidArgument, naming the operand, on a wrong shape, type or device; kUnimplemented where the
// device has no such op. This holds for all four.

// x [B, T, H, D] -> memberships [B, H, T, K].
absl::Status SbmMembershipForward(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                  Tensor& memberships);

// d_x [B, T, H, D] as `accumulate` says; the gradients of the parameters are added to d_model.
absl::Status SbmMembershipBackward(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                   const Tensor& memberships, const Tensor& d_memberships,
                                   Tensor& d_x, Accumulate accumulate, SbmClusterModel& d_model);

// clusters [H, K, D] -> affinity [H, K, K].
absl::Status SbmAffinityForward(Stream& stream, const Tensor& clusters, Tensor& affinity);

// Added to d_clusters.
absl::Status SbmAffinityBackward(Stream& stream, const Tensor& clusters, const Tensor& affinity,
                                 const Tensor& d_affinity, Tensor& d_clusters);

}  // namespace weft::kernels

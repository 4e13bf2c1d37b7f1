// Memberships and affinities on a GPU: matrix products, and the few kernels of memberships.cu. Rows
// of tokens and heads [B T H, D] are the rows of x, and the heads of a token lie beside each other,
// so a product with each head's own clusters is a batch over heads.
#include "common/base/status_macros.h"
#include "kernels/attention/sbm/cuda/sbm_cuda.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/bias/bias_cuda.h"
#include "kernels/ops/relu/relu_cuda.h"

namespace weft::kernels {
namespace {

float* Floats(const Tensor& tensor) { return static_cast<float*>(tensor.address()); }

// Of one call. Tokens stand in the place of queries: there is one side.
struct Call {
  Call(Stream& stream, const Tensor& of, const SbmClusterModel& with)
      : cuda(AsCudaStream(stream)),
        model(with),
        type(stream.device().compute_dtype()),
        sizes{.batch = static_cast<int>(of.dim(0)),
              .queries = static_cast<int>(of.dim(1)),
              .keys = static_cast<int>(of.dim(1)),
              .heads = static_cast<int>(of.dim(2)),
              .dim = static_cast<int>(of.dim(3)),
              .clusters = static_cast<int>(with.clusters.dim(1))},
        tokens(of.dim(0) * of.dim(1)),
        rows(tokens * of.dim(2)),
        dim(of.dim(3)),
        x(of.address()) {}

  [[nodiscard]] absl::StatusOr<CudaScratch> Rows(int64_t width, DType of) const {
    return cuda.Scratch(rows * width * SizeOf(of));
  }

  // y[rows, D] = x m^T + bias
  absl::Status Affine(const void* from, const Tensor& m, const Tensor& bias, void* y) const {
    return Run(cuda, {.m = rows,
                      .n = dim,
                      .k = dim,
                      .a = from,
                      .a_stride = dim,
                      .b = m.address(),
                      .b_stride = dim,
                      .b_transposed = true,
                      .d = y,
                      .d_stride = dim,
                      .d_type = type,
                      .bias = bias.address()});
  }
  // hidden = relu(x W1^T + b1), f = hidden W2^T + b2
  absl::Status Map(void* hidden, void* f) const {
    WEFT_RETURN_IF_ERROR(Affine(x, model.w1, model.b1, hidden));
    WEFT_RETURN_IF_ERROR(CudaStatus(
        internal::LaunchReluForward(cuda.launch(), rows * dim, hidden, hidden), "SbmMembership"));
    return Affine(hidden, model.w2, model.b2, f);
  }
  // The gradients of Affine: of m and bias added, of its operand written, or added.
  absl::Status AffineBackward(const void* from, const Tensor& m, const void* dy, const Tensor& d_m,
                              const Tensor& d_bias, void* d_from, Accumulate accumulate) const {
    WEFT_RETURN_IF_ERROR(Run(cuda, {.m = dim,
                                    .n = dim,
                                    .k = rows,
                                    .a = dy,
                                    .a_stride = dim,
                                    .a_transposed = true,
                                    .b = from,
                                    .b_stride = dim,
                                    .d = d_m.address(),
                                    .d_stride = dim,
                                    .beta = 1.0F}));
    WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                          cuda.Scratch(internal::BiasPartials(rows, dim) * SizeOf(DType::kF32)));
    WEFT_RETURN_IF_ERROR(
        CudaStatus(internal::LaunchBiasBackward(cuda.launch(), rows, dim, dy, Floats(d_bias),
                                                partial.data<float>()),
                   "SbmMembership"));
    return Run(cuda, {.m = rows,
                      .n = dim,
                      .k = dim,
                      .a = dy,
                      .a_stride = dim,
                      .b = m.address(),
                      .b_stride = dim,
                      .d = d_from,
                      .d_stride = dim,
                      .d_type = type,
                      .beta = accumulate == Accumulate::kYes ? 1.0F : 0.0F});
  }

  CudaStream& cuda;
  const SbmClusterModel& model;
  DType type;
  sbm::Sizes sizes;
  int64_t tokens, rows, dim;
  const void* x;
};

sbm::Sizes SizesOf(const Tensor& clusters) {
  return {.heads = static_cast<int>(clusters.dim(0)),
          .dim = static_cast<int>(clusters.dim(2)),
          .clusters = static_cast<int>(clusters.dim(1))};
}

}  // namespace

absl::Status SbmMembershipForwardCuda(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                      Tensor& memberships) {
  const Call call(stream, x, model);
  const int64_t n = call.sizes.clusters;
  WEFT_ASSIGN_OR_RETURN(const CudaScratch hidden, call.Rows(call.dim, call.type));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch f, call.Rows(call.dim, call.type));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch logits, call.Rows(n, DType::kF32));
  WEFT_RETURN_IF_ERROR(call.Map(hidden.data<void>(), f.data<void>()));
  WEFT_RETURN_IF_ERROR(Run(call.cuda, {.m = call.tokens,
                                       .n = n,
                                       .k = call.dim,
                                       .a = f.data<void>(),
                                       .a_stride = call.sizes.heads * call.dim,
                                       .b = model.clusters.address(),
                                       .b_stride = call.dim,
                                       .b_transposed = true,
                                       .d = logits.data<void>(),
                                       .d_stride = call.sizes.heads * n,
                                       .batch = call.sizes.heads,
                                       .a_step = call.dim,
                                       .b_step = n * call.dim,
                                       .d_step = n}));
  return CudaStatus(
      sbm::Sigmoids(call.cuda.launch(), call.sizes, logits.data<float>(), Floats(memberships)),
      "SbmMembershipForward");
}

absl::Status SbmMembershipBackwardCuda(Stream& stream, const Tensor& x,
                                       const SbmClusterModel& model, const Tensor& memberships,
                                       const Tensor& d_memberships, Tensor& d_x,
                                       Accumulate accumulate, SbmClusterModel& d_model) {
  const Call call(stream, x, model);
  const int64_t n = call.sizes.clusters;
  const int64_t token_step = call.sizes.heads * call.dim;
  WEFT_ASSIGN_OR_RETURN(const CudaScratch hidden, call.Rows(call.dim, call.type));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch f, call.Rows(call.dim, call.type));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch d_logits, call.Rows(n, call.type));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch d_hidden, call.Rows(call.dim, call.type));
  WEFT_RETURN_IF_ERROR(call.Map(hidden.data<void>(), f.data<void>()));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::SigmoidGradients(call.cuda.launch(), call.sizes, Floats(memberships),
                                       Floats(d_memberships), d_logits.data<void>()),
                 "SbmMembershipBackward"));
  WEFT_RETURN_IF_ERROR(Run(call.cuda, {.m = n,
                                       .n = call.dim,
                                       .k = call.tokens,
                                       .a = d_logits.data<void>(),
                                       .a_stride = call.sizes.heads * n,
                                       .a_transposed = true,
                                       .b = f.data<void>(),
                                       .b_stride = token_step,
                                       .d = d_model.clusters.address(),
                                       .d_stride = call.dim,
                                       .beta = 1.0F,
                                       .batch = call.sizes.heads,
                                       .a_step = n,
                                       .b_step = call.dim,
                                       .d_step = n * call.dim}));
  // f is not needed any more: the gradient of f takes its place.
  WEFT_RETURN_IF_ERROR(Run(call.cuda, {.m = call.tokens,
                                       .n = call.dim,
                                       .k = n,
                                       .a = d_logits.data<void>(),
                                       .a_stride = call.sizes.heads * n,
                                       .b = model.clusters.address(),
                                       .b_stride = call.dim,
                                       .d = f.data<void>(),
                                       .d_stride = token_step,
                                       .d_type = call.type,
                                       .batch = call.sizes.heads,
                                       .a_step = n,
                                       .b_step = n * call.dim,
                                       .d_step = call.dim}));
  WEFT_RETURN_IF_ERROR(call.AffineBackward(hidden.data<void>(), model.w2, f.data<void>(),
                                           d_model.w2, d_model.b2, d_hidden.data<void>(),
                                           Accumulate::kNo));
  WEFT_RETURN_IF_ERROR(CudaStatus(
      internal::LaunchReluBackward(call.cuda.launch(), call.rows * call.dim, hidden.data<void>(),
                                   d_hidden.data<void>(), d_hidden.data<void>()),
      "SbmMembershipBackward"));
  return call.AffineBackward(x.address(), model.w1, d_hidden.data<void>(), d_model.w1, d_model.b1,
                             d_x.address(), accumulate);
}

absl::Status SbmAffinityForwardCuda(Stream& stream, const Tensor& clusters, Tensor& affinity) {
  return CudaStatus(sbm::Affinity(AsCudaStream(stream).launch(), SizesOf(clusters),
                                  clusters.address(), Floats(affinity)),
                    "SbmAffinityForward");
}

absl::Status SbmAffinityBackwardCuda(Stream& stream, const Tensor& clusters, const Tensor& affinity,
                                     const Tensor& d_affinity, Tensor& d_clusters) {
  CudaStream& cuda = AsCudaStream(stream);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch means,
                        cuda.Scratch(clusters.dim(0) * SizeOf(DType::kF32)));
  return CudaStatus(
      sbm::AffinityGradient(cuda.launch(), SizesOf(clusters), clusters.address(), Floats(affinity),
                            Floats(d_affinity), means.data<float>(), Floats(d_clusters)),
      "SbmAffinityBackward");
}

}  // namespace weft::kernels

// The delta rule on a GPU: tensors as the passes of delta_sm90.h take them.
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/delta/cuda/delta_sm90.h"
#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

using Bf16 = __nv_bfloat16;

DeltaCudaShape ShapeOf(const DeltaProblem& p) {
  return {.batch = static_cast<int>(p.batch),
          .tokens = static_cast<int>(p.tokens),
          .heads = static_cast<int>(p.heads),
          .key_dim = static_cast<int>(p.key_dim),
          .value_dim = static_cast<int>(p.value_dim)};
}

Bf16* Elements(const Tensor& tensor) { return static_cast<Bf16*>(tensor.address()); }
float* Sums(const Tensor& tensor) { return static_cast<float*>(tensor.address()); }

absl::Status CheckCovered(const Stream& stream, const DeltaCudaShape& shape) {
  if (stream.device().compute_dtype() != DType::kBf16) {
    return absl::UnimplementedError("delta on cuda computes in bf16 only");
  }
  if (!absl::StartsWith(stream.device().device_class(), "cuda-sm90")) {
    return absl::UnimplementedError(
        absl::StrCat("delta on cuda needs a Hopper GPU, this is ", stream.device().device_class()));
  }
  const char* reason = sm90::WhyNotCovered(shape);
  return reason == nullptr ? absl::OkStatus()
                           : absl::UnimplementedError(absl::StrCat("delta on cuda: ", reason));
}

}  // namespace

int64_t DeltaCudaRecordBytes(const DeltaProblem& problem) {
  const DeltaCudaShape shape = ShapeOf(problem);
  return int64_t{shape.batch} * shape.heads * ChunksOf(shape) * kRecordBytes;
}

absl::Status DeltaForwardCuda(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                              const Tensor& k, const Tensor& v, const Tensor& beta,
                              const Tensor& initial_state, Tensor& o, Tensor& final_state,
                              DeltaSaved& saved) {
  CudaStream& cuda = AsCudaStream(stream);
  const DeltaCudaShape shape = ShapeOf(problem);
  WEFT_RETURN_IF_ERROR(CheckCovered(stream, shape));
  std::optional<CudaScratch> scratch;
  auto* records = static_cast<uint8_t*>(saved.record.address());
  if (records == nullptr) {
    WEFT_ASSIGN_OR_RETURN(CudaScratch space, cuda.Scratch(DeltaCudaRecordBytes(problem)));
    records = space.data<uint8_t>();
    scratch.emplace(std::move(space));
  }
  return CudaStatus(sm90::DeltaForward({.shape = shape,
                                        .q = Elements(q),
                                        .k = Elements(k),
                                        .v = Elements(v),
                                        .beta = Sums(beta),
                                        .records = records,
                                        .initial_state = Sums(initial_state),
                                        .o = Elements(o),
                                        .errors = Elements(saved.errors),
                                        .final_state = Sums(final_state),
                                        .saved_state = Sums(saved.state)},
                                       cuda.launch().stream),
                    "DeltaForward");
}

absl::Status DeltaBackwardCuda(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                               const Tensor& k, const Tensor& /*beta*/, const DeltaSaved& saved,
                               const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q,
                               Tensor& d_k, Tensor& d_v, Tensor& d_beta, Tensor& d_initial_state) {
  CudaStream& cuda = AsCudaStream(stream);
  const DeltaCudaShape shape = ShapeOf(problem);
  WEFT_RETURN_IF_ERROR(CheckCovered(stream, shape));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, cuda.Scratch(sm90::BackwardScratchBytes(shape)));
  return CudaStatus(
      sm90::DeltaBackward({.shape = shape,
                           .q = Elements(q),
                           .k = Elements(k),
                           .records = static_cast<const uint8_t*>(saved.record.address()),
                           .errors = Elements(saved.errors),
                           .saved_state = Sums(saved.state),
                           .d_o = Elements(d_o),
                           .d_final_state = Sums(d_final_state),
                           .d_q = Elements(d_q),
                           .d_k = Elements(d_k),
                           .d_v = Elements(d_v),
                           .d_beta = Sums(d_beta),
                           .d_initial_state = Sums(d_initial_state),
                           .scratch = scratch.data<uint8_t>()},
                          cuda.launch().stream),
      "DeltaBackward");
}

}  // namespace weft::kernels

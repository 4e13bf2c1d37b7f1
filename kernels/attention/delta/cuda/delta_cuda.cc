// The delta rule on a GPU: tensors as the passes of delta_sm90.h take them, and those of
// delta_portable.h for what these do not cover.
#include <optional>

#include "absl/strings/match.h"
#include "common/base/status_macros.h"
#include "kernels/attention/delta/cuda/delta_portable.h"
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

bool RunsOnHopper(const Device& device, const DeltaCudaShape& shape) {
  return shape.tokens > 0 && device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90") && sm90::Covers(shape);
}

int64_t StateBytes(const DeltaProblem& p) {
  return p.batch * p.heads * p.key_dim * p.value_dim * SizeOf(DType::kF32);
}

// `to` becomes `from`, or zero where that is null.
absl::Status CopyState(CudaStream& cuda, const float* from, int64_t bytes, float* to) {
  if (from == to) return absl::OkStatus();
  const auto size = static_cast<size_t>(bytes);
  cudaStream_t stream = cuda.launch().stream;
  return CudaStatus(from == nullptr
                        ? cudaMemsetAsync(to, 0, size, stream)
                        : cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream),
                    "copying a state");
}

absl::Status ForwardOnHopper(CudaStream& cuda, const DeltaProblem& problem, const Tensor& q,
                             const Tensor& k, const Tensor& v, const Tensor& beta,
                             const Tensor& initial_state, Tensor& o, Tensor& final_state,
                             DeltaSaved& saved) {
  std::optional<CudaScratch> scratch;
  auto* records = static_cast<uint8_t*>(saved.record.address());
  if (records == nullptr) {
    WEFT_ASSIGN_OR_RETURN(CudaScratch space,
                          cuda.Scratch(DeltaCudaRecordBytes(cuda.device(), problem)));
    records = space.data<uint8_t>();
    scratch.emplace(std::move(space));
  }
  return CudaStatus(sm90::DeltaForward({.shape = ShapeOf(problem),
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

absl::Status BackwardOnHopper(CudaStream& cuda, const DeltaProblem& problem, const Tensor& q,
                              const Tensor& k, const DeltaSaved& saved, const Tensor& d_o,
                              const Tensor& d_final_state, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                              Tensor& d_beta, Tensor& d_initial_state) {
  const DeltaCudaShape shape = ShapeOf(problem);
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

}  // namespace

int64_t DeltaCudaRecordBytes(const Device& device, const DeltaProblem& problem) {
  const DeltaCudaShape shape = ShapeOf(problem);
  if (!RunsOnHopper(device, shape)) return 0;
  return int64_t{shape.batch} * shape.heads * ChunksOf(shape) * kRecordBytes;
}

absl::Status DeltaForwardCuda(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                              const Tensor& k, const Tensor& v, const Tensor& beta,
                              const Tensor& initial_state, Tensor& o, Tensor& final_state,
                              DeltaSaved& saved) {
  CudaStream& cuda = AsCudaStream(stream);
  if (RunsOnHopper(stream.device(), ShapeOf(problem))) {
    return ForwardOnHopper(cuda, problem, q, k, v, beta, initial_state, o, final_state, saved);
  }
  const int64_t bytes = StateBytes(problem);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, cuda.Scratch(bytes));
  const Tensor& home = final_state.present() ? final_state : saved.state;
  float* const state = home.present() ? Sums(home) : scratch.data<float>();
  WEFT_RETURN_IF_ERROR(CopyState(cuda, Sums(initial_state), bytes, state));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(portable::DeltaForward(cuda.launch(), {.shape = ShapeOf(problem),
                                                        .q = q.address(),
                                                        .k = k.address(),
                                                        .v = v.address(),
                                                        .beta = Sums(beta),
                                                        .state = state,
                                                        .o = o.address(),
                                                        .errors = saved.errors.address()}),
                 "DeltaForward"));
  return saved.state.present() ? CopyState(cuda, state, bytes, Sums(saved.state))
                               : absl::OkStatus();
}

absl::Status DeltaBackwardCuda(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                               const Tensor& k, const Tensor& beta, const DeltaSaved& saved,
                               const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q,
                               Tensor& d_k, Tensor& d_v, Tensor& d_beta, Tensor& d_initial_state) {
  CudaStream& cuda = AsCudaStream(stream);
  if (RunsOnHopper(stream.device(), ShapeOf(problem))) {
    return BackwardOnHopper(cuda, problem, q, k, saved, d_o, d_final_state, d_q, d_k, d_v, d_beta,
                            d_initial_state);
  }
  const int64_t bytes = StateBytes(problem);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch state, cuda.Scratch(bytes));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, cuda.Scratch(bytes));
  float* const d_state = d_initial_state.present() ? Sums(d_initial_state) : scratch.data<float>();
  WEFT_RETURN_IF_ERROR(CopyState(cuda, Sums(saved.state), bytes, state.data<float>()));
  WEFT_RETURN_IF_ERROR(CopyState(cuda, Sums(d_final_state), bytes, d_state));
  return CudaStatus(portable::DeltaBackward(cuda.launch(), {.shape = ShapeOf(problem),
                                                            .q = q.address(),
                                                            .k = k.address(),
                                                            .beta = Sums(beta),
                                                            .errors = saved.errors.address(),
                                                            .d_o = d_o.address(),
                                                            .state = state.data<float>(),
                                                            .d_state = d_state,
                                                            .d_q = d_q.address(),
                                                            .d_k = d_k.address(),
                                                            .d_v = d_v.address(),
                                                            .d_beta = Sums(d_beta)}),
                    "DeltaBackward");
}

}  // namespace weft::kernels

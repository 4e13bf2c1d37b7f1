// Polynomial attention on a GPU: which path computes a call.
#include <cmath>

#include "absl/strings/match.h"
#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/polysketch_sm90.h"
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

using Bf16 = __nv_bfloat16;

Bf16* Elements(const Tensor& tensor) { return static_cast<Bf16*>(tensor.address()); }
float* Sums(const Tensor& tensor) { return static_cast<float*>(tensor.address()); }

sm90::PolysketchCudaShape ShapeOf(const PolysketchProblem& p) {
  const double unit = std::pow(p.kappa, -static_cast<double>(p.degree));
  return {.batch = static_cast<int>(p.batch),
          .tokens = static_cast<int>(p.keys),
          .heads = static_cast<int>(p.heads),
          .width = static_cast<int>(p.head_dim),
          .sketch = static_cast<int>(p.sketch_dim),
          .block = static_cast<int>(p.block),
          .squarings = p.degree == 2   ? 1
                       : p.degree == 4 ? 2
                                       : 3,
          .scale = static_cast<float>(1.0 / p.kappa),
          .unit = static_cast<float>(unit),
          .c0 = static_cast<float>(p.c0 * unit)};
}

// Whether the kernels of Hopper compute this: a sequence as models train on it, without padding or
// states.
bool OnHopper(const Device& device, const PolysketchProblem& p) {
  return device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90") &&
         p.weights == PolysketchWeights::kMixed && p.queries == p.keys &&
         sm90::WhyNotCovered(ShapeOf(p)) == nullptr;
}
bool OnHopper(const Stream& stream, const PolysketchProblem& p, const PolysketchInputs& inputs,
              const PolysketchState& before, const PolysketchState& after) {
  return OnHopper(stream.device(), p) && !inputs.valid.present() && !before.values.present() &&
         !after.values.present();
}

// Working space of a call, and in it, where the caller keeps no record, that of the call.
struct Space {
  static absl::StatusOr<Space> Take(CudaStream& stream, const sm90::PolysketchCudaShape& shape,
                                    int64_t bytes, const PolysketchSaved& saved) {
    const bool keeps = saved.record.present();
    WEFT_ASSIGN_OR_RETURN(CudaScratch scratch,
                          stream.Scratch(bytes + (keeps ? 0 : sm90::PolysketchRecordBytes(shape))));
    uint8_t* const record =
        keeps ? static_cast<uint8_t*>(saved.record.address()) : scratch.data<uint8_t>() + bytes;
    return Space{std::move(scratch), record};
  }
  CudaScratch scratch;
  uint8_t* record;
};

}  // namespace

int64_t PolysketchCudaRecordBytes(const Device& device, const PolysketchProblem& problem) {
  return OnHopper(device, problem) ? sm90::PolysketchRecordBytes(ShapeOf(problem)) : 0;
}

absl::Status PolysketchForwardCuda(Stream& stream, const PolysketchProblem& problem,
                                   const PolysketchInputs& inputs, const PolysketchState& initial,
                                   Tensor& o, PolysketchState& final, PolysketchSaved& saved) {
  const bool on_hopper = OnHopper(stream, problem, inputs, initial, final);
  saved.recorded = on_hopper && saved.record.present();
  if (!on_hopper) {
    return portable::Forward(stream, problem, inputs, initial, o, final, saved);
  }
  CudaStream& cuda = AsCudaStream(stream);
  const sm90::PolysketchCudaShape shape = ShapeOf(problem);
  WEFT_ASSIGN_OR_RETURN(const Space space,
                        Space::Take(cuda, shape, sm90::PolysketchForwardBytes(shape), saved));
  return CudaStatus(sm90::PolysketchForward({.shape = shape,
                                             .q = Elements(inputs.q),
                                             .k = Elements(inputs.k),
                                             .phi_q = Elements(inputs.phi_q),
                                             .phi_k = Elements(inputs.phi_k),
                                             .v = Elements(inputs.v),
                                             .o = Elements(o),
                                             .total = Sums(saved.total),
                                             .far = Sums(saved.far),
                                             .record = space.record,
                                             .scratch = space.scratch.data<uint8_t>()},
                                            cuda.launch().stream),
                    "PolysketchForward");
}

absl::Status PolysketchBackwardCuda(Stream& stream, const PolysketchProblem& problem,
                                    const PolysketchInputs& inputs, const PolysketchState& initial,
                                    const Tensor& o, const PolysketchSaved& saved,
                                    const Tensor& d_o, const PolysketchState& d_final,
                                    PolysketchGradients& gradients, PolysketchState& d_initial) {
  if (!OnHopper(stream, problem, inputs, initial, d_final) || d_initial.values.present()) {
    return portable::Backward(stream, problem, inputs, initial, o, saved, d_o, d_final, gradients,
                              d_initial);
  }
  CudaStream& cuda = AsCudaStream(stream);
  const sm90::PolysketchCudaShape shape = ShapeOf(problem);
  WEFT_ASSIGN_OR_RETURN(const Space space,
                        Space::Take(cuda, shape, sm90::PolysketchBackwardBytes(shape), saved));
  return CudaStatus(sm90::PolysketchBackward({.shape = shape,
                                              .q = Elements(inputs.q),
                                              .k = Elements(inputs.k),
                                              .phi_q = Elements(inputs.phi_q),
                                              .phi_k = Elements(inputs.phi_k),
                                              .v = Elements(inputs.v),
                                              .o = Elements(o),
                                              .total = Sums(saved.total),
                                              .far = Sums(saved.far),
                                              .record = space.record,
                                              .recorded = saved.recorded,
                                              .d_o = Elements(d_o),
                                              .d_q = Elements(gradients.q),
                                              .d_k = Elements(gradients.k),
                                              .d_phi_q = Elements(gradients.phi_q),
                                              .d_phi_k = Elements(gradients.phi_k),
                                              .d_v = Elements(gradients.v),
                                              .scratch = space.scratch.data<uint8_t>()},
                                             cuda.launch().stream),
                    "PolysketchBackward");
}

absl::Status PolysketchUndoCuda(Stream& stream, const PolysketchProblem& problem,
                                const PolysketchInputs& inputs, PolysketchState& state) {
  return portable::Undo(stream, problem, inputs, state);
}

}  // namespace weft::kernels

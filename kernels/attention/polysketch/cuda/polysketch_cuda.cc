// Polynomial attention on a GPU: which path computes a call.
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"

namespace weft::kernels {

absl::Status PolysketchForwardCuda(Stream& stream, const PolysketchProblem& problem,
                                   const PolysketchInputs& inputs, const PolysketchState& initial,
                                   Tensor& o, PolysketchState& final, PolysketchSaved& saved) {
  return portable::Forward(stream, problem, inputs, initial, o, final, saved);
}

absl::Status PolysketchBackwardCuda(Stream& stream, const PolysketchProblem& problem,
                                    const PolysketchInputs& inputs, const PolysketchState& initial,
                                    const Tensor& o, const PolysketchSaved& saved,
                                    const Tensor& d_o, const PolysketchState& d_final,
                                    PolysketchGradients& gradients, PolysketchState& d_initial) {
  return portable::Backward(stream, problem, inputs, initial, o, saved, d_o, d_final, gradients,
                            d_initial);
}

absl::Status PolysketchUndoCuda(Stream& stream, const PolysketchProblem& problem,
                                const PolysketchInputs& inputs, PolysketchState& state) {
  return portable::Undo(stream, problem, inputs, state);
}

}  // namespace weft::kernels

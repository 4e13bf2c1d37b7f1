// Learned sketches on a GPU: which path computes a call.
#include <algorithm>

#include "absl/strings/match.h"
#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/learned_sketch_sm90.h"
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/cuda/row_pieces.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

using Bf16 = __nv_bfloat16;

bool OnHopper(const Stream& stream, const LearnedSketchProblem& p) {
  return stream.device().compute_dtype() == DType::kBf16 &&
         absl::StartsWith(stream.device().device_class(), "cuda-sm90") &&
         sm90::CoversLearnedSketch(p.input_dim, p.sketch_dim, p.hidden_dim);
}

sm90::LearnedSketchCudaShape ShapeOf(const CudaStream& stream, const LearnedSketchProblem& p,
                                     int64_t rows) {
  return {.rows = static_cast<int>(rows),
          .inputs = static_cast<int>(p.input_dim),
          .sketch = static_cast<int>(p.sketch_dim),
          .epsilon = static_cast<float>(p.epsilon),
          .multiprocessors = stream.launch().multiprocessors};
}

Bf16* Elements(const Tensor& tensor, int64_t row = 0) {
  return reinterpret_cast<Bf16*>(RowOf(tensor, row));
}
float* Sums(const Tensor& tensor) { return static_cast<float*>(tensor.address()); }

sm90::SketchStageWeights StageOf(const SketchStage& stage) {
  return {.norm_weight = Elements(stage.norm_weight),
          .norm_bias = Elements(stage.norm_bias),
          .expand = Elements(stage.expand),
          .contract = Elements(stage.contract)};
}
sm90::SketchStageGradients GradientsOf(const SketchStage& stage) {
  return {.norm_weight = Sums(stage.norm_weight),
          .norm_bias = Sums(stage.norm_bias),
          .expand = Sums(stage.expand),
          .contract = Sums(stage.contract)};
}

absl::Status ForwardOnHopper(CudaStream& stream, const LearnedSketchProblem& p, const Tensor& x,
                             const LearnedSketchWeights& weights, Tensor& phi) {
  const int64_t all = RowsOf(x);
  const int64_t most = std::min<int64_t>(all, sm90::kMostSketchRows);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch,
                        stream.Scratch(sm90::LearnedSketchForwardBytes(ShapeOf(stream, p, most))));
  return ForRowPieces(all, most, [&](int64_t first, int64_t rows) {
    return CudaStatus(
        sm90::LearnedSketchForward({.shape = ShapeOf(stream, p, rows),
                                    .x = Elements(x, first),
                                    .weights = {StageOf(weights[0]), StageOf(weights[1])},
                                    .phi = Elements(phi, first),
                                    .scratch = scratch.data<uint8_t>()},
                                   stream.launch()),
        "LearnedSketchForward");
  });
}

absl::Status BackwardOnHopper(CudaStream& stream, const LearnedSketchProblem& p, const Tensor& x,
                              const LearnedSketchWeights& weights, const Tensor& phi,
                              const Tensor& d_phi, const Tensor& d_x, Accumulate accumulate,
                              const LearnedSketchWeights& gradients) {
  const int64_t all = RowsOf(x);
  const int64_t most = std::min<int64_t>(all, sm90::kMostSketchRows);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch,
                        stream.Scratch(sm90::LearnedSketchBackwardBytes(ShapeOf(stream, p, most))));
  return ForRowPieces(all, most, [&](int64_t first, int64_t rows) {
    return CudaStatus(sm90::LearnedSketchBackward(
                          {.shape = ShapeOf(stream, p, rows),
                           .x = Elements(x, first),
                           .weights = {StageOf(weights[0]), StageOf(weights[1])},
                           .phi = Elements(phi, first),
                           .d_phi = Elements(d_phi, first),
                           .d_x = Elements(d_x, first),
                           .add = accumulate == Accumulate::kYes,
                           .gradients = {GradientsOf(gradients[0]), GradientsOf(gradients[1])},
                           .scratch = scratch.data<uint8_t>()},
                          stream.launch()),
                      "LearnedSketchBackward");
  });
}

}  // namespace

absl::Status LearnedSketchForwardCuda(Stream& stream, const LearnedSketchProblem& p,
                                      const Tensor& x, const LearnedSketchWeights& weights,
                                      Tensor& phi) {
  return OnHopper(stream, p) ? ForwardOnHopper(AsCudaStream(stream), p, x, weights, phi)
                             : portable::LearnedForward(stream, p, x, weights, phi);
}

absl::Status LearnedSketchBackwardCuda(Stream& stream, const LearnedSketchProblem& p,
                                       const Tensor& x, const LearnedSketchWeights& weights,
                                       const Tensor& phi, const Tensor& d_phi, Tensor& d_x,
                                       Accumulate accumulate, LearnedSketchWeights& gradients) {
  return OnHopper(stream, p) ? BackwardOnHopper(AsCudaStream(stream), p, x, weights, phi, d_phi,
                                                d_x, accumulate, gradients)
                             : portable::LearnedBackward(stream, p, x, weights, phi, d_phi, d_x,
                                                         accumulate, gradients);
}

}  // namespace weft::kernels

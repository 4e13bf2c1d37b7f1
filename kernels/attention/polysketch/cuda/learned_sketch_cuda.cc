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

bool OnHopper(const Device& device, const LearnedSketchProblem& p) {
  return device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90") &&
         sm90::CoversLearnedSketch(p.input_dim, p.sketch_dim, p.hidden_dim);
}

sm90::LearnedSketchCudaShape ShapeOf(const LearnedSketchProblem& p, int64_t rows,
                                     int multiprocessors = 1) {
  return {.rows = static_cast<int>(rows),
          .inputs = static_cast<int>(p.input_dim),
          .sketch = static_cast<int>(p.sketch_dim),
          .epsilon = static_cast<float>(p.epsilon),
          .multiprocessors = multiprocessors};
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

int64_t RecordBytes(const LearnedSketchProblem& p, int64_t rows) {
  return sm90::LearnedSketchRecordBytes(ShapeOf(p, rows));
}

// Working space of a call, and in it, where the caller keeps no record, that of one piece of rows.
struct Space {
  static absl::StatusOr<Space> Take(CudaStream& stream, const LearnedSketchProblem& p, int64_t most,
                                    int64_t bytes, const LearnedSketchSaved& saved) {
    const bool keeps = saved.record.present();
    WEFT_ASSIGN_OR_RETURN(CudaScratch scratch,
                          stream.Scratch(bytes + (keeps ? 0 : RecordBytes(p, most))));
    uint8_t* const records =
        keeps ? static_cast<uint8_t*>(saved.record.address()) : scratch.data<uint8_t>() + bytes;
    return Space{std::move(scratch), records, keeps ? RecordBytes(p, most) : 0};
  }
  // Of the rows from `first` on.
  [[nodiscard]] uint8_t* RecordOf(int64_t first) const {
    return records + first / sm90::kMostSketchRows * piece;
  }

  CudaScratch scratch;
  uint8_t* records;
  int64_t piece;  // bytes from a piece's record to the next one's
};

absl::Status ForwardOnHopper(CudaStream& stream, const LearnedSketchProblem& p, const Tensor& x,
                             const LearnedSketchWeights& weights, Tensor& phi,
                             const LearnedSketchSaved& saved) {
  const int64_t all = RowsOf(x);
  const int64_t most = std::min<int64_t>(all, sm90::kMostSketchRows);
  const int multiprocessors = stream.launch().multiprocessors;
  const int64_t bytes = sm90::LearnedSketchForwardBytes(ShapeOf(p, most, multiprocessors));
  WEFT_ASSIGN_OR_RETURN(const Space space, Space::Take(stream, p, most, bytes, saved));
  return ForRowPieces(all, most, [&](int64_t first, int64_t rows) {
    return CudaStatus(
        sm90::LearnedSketchForward({.shape = ShapeOf(p, rows, multiprocessors),
                                    .x = Elements(x, first),
                                    .weights = {StageOf(weights[0]), StageOf(weights[1])},
                                    .phi = Elements(phi, first),
                                    .record = space.RecordOf(first),
                                    .scratch = space.scratch.data<uint8_t>()},
                                   stream.launch()),
        "LearnedSketchForward");
  });
}

absl::Status BackwardOnHopper(CudaStream& stream, const LearnedSketchProblem& p, const Tensor& x,
                              const LearnedSketchWeights& weights, const Tensor& phi,
                              const LearnedSketchSaved& saved, const Tensor& d_phi,
                              const Tensor& d_x, Accumulate accumulate,
                              const LearnedSketchWeights& gradients) {
  const int64_t all = RowsOf(x);
  const int64_t most = std::min<int64_t>(all, sm90::kMostSketchRows);
  const int multiprocessors = stream.launch().multiprocessors;
  const int64_t bytes = sm90::LearnedSketchBackwardBytes(ShapeOf(p, most, multiprocessors));
  WEFT_ASSIGN_OR_RETURN(const Space space, Space::Take(stream, p, most, bytes, saved));
  return ForRowPieces(all, most, [&](int64_t first, int64_t rows) {
    return CudaStatus(sm90::LearnedSketchBackward(
                          {.shape = ShapeOf(p, rows, multiprocessors),
                           .x = Elements(x, first),
                           .weights = {StageOf(weights[0]), StageOf(weights[1])},
                           .phi = Elements(phi, first),
                           .record = space.RecordOf(first),
                           .recorded = saved.record.present(),
                           .d_phi = Elements(d_phi, first),
                           .d_x = Elements(d_x, first),
                           .add = accumulate == Accumulate::kYes,
                           .gradients = {GradientsOf(gradients[0]), GradientsOf(gradients[1])},
                           .scratch = space.scratch.data<uint8_t>()},
                          stream.launch()),
                      "LearnedSketchBackward");
  });
}

}  // namespace

int64_t LearnedSketchCudaRecordBytes(const Device& device, const LearnedSketchProblem& p,
                                     int64_t rows) {
  if (!OnHopper(device, p)) return 0;
  const int64_t pieces = rows / sm90::kMostSketchRows;
  const int64_t rest = rows % sm90::kMostSketchRows;
  return pieces * RecordBytes(p, sm90::kMostSketchRows) + (rest == 0 ? 0 : RecordBytes(p, rest));
}

absl::Status LearnedSketchForwardCuda(Stream& stream, const LearnedSketchProblem& p,
                                      const Tensor& x, const LearnedSketchWeights& weights,
                                      Tensor& phi, LearnedSketchSaved& saved) {
  return OnHopper(stream.device(), p)
             ? ForwardOnHopper(AsCudaStream(stream), p, x, weights, phi, saved)
             : portable::LearnedForward(stream, p, x, weights, phi, saved);
}

absl::Status LearnedSketchBackwardCuda(Stream& stream, const LearnedSketchProblem& p,
                                       const Tensor& x, const LearnedSketchWeights& weights,
                                       const Tensor& phi, const LearnedSketchSaved& saved,
                                       const Tensor& d_phi, Tensor& d_x, Accumulate accumulate,
                                       LearnedSketchWeights& gradients) {
  return OnHopper(stream.device(), p)
             ? BackwardOnHopper(AsCudaStream(stream), p, x, weights, phi, saved, d_phi, d_x,
                                accumulate, gradients)
             : portable::LearnedBackward(stream, p, x, weights, phi, saved, d_phi, d_x, accumulate,
                                         gradients);
}

}  // namespace weft::kernels

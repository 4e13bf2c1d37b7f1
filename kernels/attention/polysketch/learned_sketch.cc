#include "kernels/attention/polysketch/learned_sketch.h"

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<LearnedSketchForwardKernel> forward_kernels("learned sketch forward");
constinit OpTable<LearnedSketchBackwardKernel> backward_kernels("learned sketch backward");
LearnedSketchRecordBytes* record_bytes = nullptr;

absl::Status CheckProblem(const LearnedSketchProblem& p) {
  if (p.input_dim < 1 || p.sketch_dim < 1 || p.hidden_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat("learned sketch: input_dim ", p.input_dim,
                                                   ", sketch_dim ", p.sketch_dim, ", hidden_dim ",
                                                   p.hidden_dim, ": all must be positive"));
  }
  if (!(p.epsilon >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("learned sketch: epsilon is ", p.epsilon));
  }
  return absl::OkStatus();
}

// `shaped` is OperandCheck::Shaped for parameters, SumShaped for their gradients.
using ShapedCheck = decltype(&OperandCheck::Shaped);

void CheckStage(OperandCheck& check, ShapedCheck shaped, absl::string_view name,
                const LearnedSketchProblem& p, int64_t inputs, const SketchStage& stage) {
  (check.*shaped)(absl::StrCat(name, ".norm_weight"), stage.norm_weight, {2, inputs});
  (check.*shaped)(absl::StrCat(name, ".norm_bias"), stage.norm_bias, {2, inputs});
  (check.*shaped)(absl::StrCat(name, ".expand"), stage.expand, {2, p.hidden_dim, inputs});
  (check.*shaped)(absl::StrCat(name, ".contract"), stage.contract, {2, p.sketch_dim, p.hidden_dim});
}

void CheckStages(OperandCheck& check, ShapedCheck shaped, absl::string_view name,
                 const LearnedSketchProblem& p, const LearnedSketchWeights& stages) {
  CheckStage(check, shaped, absl::StrCat(name, "[0]"), p, p.input_dim, stages[0]);
  CheckStage(check, shaped, absl::StrCat(name, "[1]"), p, p.sketch_dim, stages[1]);
}

// x and the features have the same rows.
void CheckRows(OperandCheck& check, const LearnedSketchProblem& p, const Tensor& x,
               absl::string_view name, const Tensor& phi) {
  check.Compute("x", x, 1);
  if (!check.ok()) return;
  check.Require(x.dim(-1) == p.input_dim,
                absl::StrCat("x is ", x.ToString(), ", expected rows of ", p.input_dim));
  check.Compute(name, phi, 1).Counted(name, phi, RowsOf(x) * p.sketch_dim);
  if (!check.ok()) return;
  check.Require(phi.dim(-1) == p.sketch_dim,
                absl::StrCat(name, " is ", phi.ToString(), ", expected rows of ", p.sketch_dim));
}

// What NewLearnedSketchSaved makes for these rows, or nothing.
void CheckSaved(OperandCheck& check, const Stream& stream, const LearnedSketchProblem& p,
                const Tensor& x, const LearnedSketchSaved& saved) {
  if (!saved.record.present() || !check.ok()) return;
  const int64_t bytes = record_bytes == nullptr || stream.device().kind() != DeviceKind::kCuda
                            ? 0
                            : record_bytes(stream.device(), p, RowsOf(x));
  check.Typed("saved.record", saved.record, DType::kI32, {bytes / 4});
}

}  // namespace

void RegisterLearnedSketch(DeviceKind kind, LearnedSketchForwardKernel* forward,
                           LearnedSketchBackwardKernel* backward) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
}

void SetLearnedSketchCudaRecord(LearnedSketchRecordBytes* bytes) { record_bytes = bytes; }

absl::Status Supports(const Device& device, const LearnedSketchProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::StatusOr<LearnedSketchSaved> NewLearnedSketchSaved(Device& device,
                                                         const LearnedSketchProblem& problem,
                                                         int64_t rows) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  LearnedSketchSaved saved;
  if (record_bytes != nullptr && device.kind() == DeviceKind::kCuda) {
    const int64_t bytes = record_bytes(device, problem, rows);
    if (bytes > 0) {
      WEFT_ASSIGN_OR_RETURN(saved.record, NewTensor(device, DType::kI32, {bytes / 4}));
    }
  }
  return saved;
}

absl::Status LearnedSketchForward(Stream& stream, const LearnedSketchProblem& problem,
                                  const Tensor& x, const LearnedSketchWeights& weights, Tensor& phi,
                                  LearnedSketchSaved& saved) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  OperandCheck check("LearnedSketchForward", stream);
  CheckRows(check, problem, x, "phi", phi);
  CheckStages(check, &OperandCheck::Shaped, "weights", problem, weights);
  CheckSaved(check, stream, problem, x, saved);
  WEFT_RETURN_IF_ERROR(check.status());
  return forward_kernels.Call(stream, problem, x, weights, phi, saved);
}

absl::Status LearnedSketchBackward(Stream& stream, const LearnedSketchProblem& problem,
                                   const Tensor& x, const LearnedSketchWeights& weights,
                                   const Tensor& phi, const LearnedSketchSaved& saved,
                                   const Tensor& d_phi, Tensor& d_x, Accumulate accumulate,
                                   LearnedSketchWeights& gradients) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  OperandCheck check("LearnedSketchBackward", stream);
  CheckRows(check, problem, x, "phi", phi);
  CheckRows(check, problem, x, "d_phi", d_phi);
  CheckStages(check, &OperandCheck::Shaped, "weights", problem, weights);
  CheckStages(check, &OperandCheck::SumShaped, "gradients", problem, gradients);
  if (check.ok()) check.Shaped("d_x", d_x, x.shape());
  CheckSaved(check, stream, problem, x, saved);
  WEFT_RETURN_IF_ERROR(check.status());
  return backward_kernels.Call(stream, problem, x, weights, phi, saved, d_phi, d_x, accumulate,
                               gradients);
}

}  // namespace weft::kernels

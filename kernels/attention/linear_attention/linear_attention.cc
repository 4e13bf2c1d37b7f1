#include "kernels/attention/linear_attention/linear_attention.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/attention/linear_attention/segments.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<LinearAttentionForwardKernel> forward_kernels("linear attention forward");
constinit OpTable<LinearAttentionBackwardKernel> backward_kernels("linear attention backward");
constinit OpTable<LinearAttentionUndoKernel> undo_kernels("linear attention undo");
constinit OpTable<LinearAttentionSegments> segment_counts("linear attention");

// How many of a head are kept for the backward pass.
int64_t StatesOf(const LinearAttentionProblem& p, const Device& device) {
  const auto segments = segment_counts.Find(device.kind());
  return p.causal && segments.ok() ? (**segments)(device, p) : 1;
}

struct Shapes {
  Shapes(const LinearAttentionProblem& p, const Device& device)
      : keys{p.batch, p.tokens, p.heads, p.key_dim},
        values{p.batch, p.tokens, p.heads, p.value_dim},
        valid{p.batch, p.tokens},
        state{p.batch, p.heads, LinearAttentionStateSize(p)},
        rows{p.batch, p.heads, p.tokens},
        states{p.batch, p.heads, StatesOf(p, device), LinearAttentionStateSize(p)} {}

  Shape keys;
  Shape values;
  Shape valid;
  Shape state;
  Shape rows;
  Shape states;
};

bool HasLevels(const LinearAttentionProblem& p) {
  return p.features.feature == Feature::kExponential;
}

absl::Status CheckProblem(const LinearAttentionProblem& p) {
  if (p.batch < 1 || p.tokens < 0 || p.heads < 1 || p.key_dim < 1 || p.value_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat("linear attention: batch ", p.batch, ", tokens ",
                                                   p.tokens, ", heads ", p.heads, ", key_dim ",
                                                   p.key_dim, ", value_dim ", p.value_dim,
                                                   ": all must be positive (tokens may be 0)"));
  }
  if (p.chunk < 1 || p.chunk > kMaxLinearAttentionChunk) {
    return absl::InvalidArgumentError(absl::StrCat("linear attention: chunk ", p.chunk,
                                                   " is not in 1 ... ", kMaxLinearAttentionChunk));
  }
  if (!(p.guard_epsilon >= 0.0) || !std::isfinite(p.guard_epsilon)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "linear attention: guard_epsilon ", p.guard_epsilon, " is not 0 or more and finite"));
  }
  return CheckFeatureMap("linear attention", p.features);
}

void CheckOptional(OperandCheck& check, absl::string_view name, const Tensor& tensor,
                   const Shape& shape) {
  if (tensor.present()) check.SumShaped(name, tensor, shape);
}

// All inputs but q, which nobody asks for when a state is undone.
void CheckInputs(OperandCheck& check, const LinearAttentionProblem& p, const Shapes& shapes,
                 const LinearAttentionInputs& inputs) {
  check.Shaped("k", inputs.k, shapes.keys).Shaped("v", inputs.v, shapes.values);
  if (p.features.rows > 0) {
    check.Shaped("projection", inputs.projection, {p.features.rows, p.key_dim});
  } else {
    check.Require(!inputs.projection.present(), "a projection, but features.rows is 0");
  }
  if (inputs.valid.present()) check.Typed("valid", inputs.valid, DType::kI32, shapes.valid);
}

void CheckSaved(OperandCheck& check, const LinearAttentionProblem& p, const Shapes& shapes,
                const LinearAttentionSaved& saved) {
  check.SumShaped("saved.denominators", saved.denominators, shapes.rows)
      .SumShaped("saved.states", saved.states, shapes.states);
  if (HasLevels(p)) check.SumShaped("saved.levels", saved.levels, shapes.rows);
}

void CheckStates(OperandCheck& check, const LinearAttentionProblem& p, const Shapes& shapes,
                 const char* first_name, const Tensor& first, const char* second_name,
                 const Tensor& second) {
  CheckOptional(check, first_name, first, shapes.state);
  CheckOptional(check, second_name, second, shapes.state);
  check.Require(p.causal || (!first.present() && !second.present()),
                "a state, but the problem is not causal");
}

}  // namespace

int64_t LinearAttentionStateSize(const LinearAttentionProblem& p) {
  return FeatureCount(p.features, p.key_dim) * (p.value_dim + 1) + 1;
}

void RegisterLinearAttention(DeviceKind kind, const LinearAttentionKernels& kernels) {
  forward_kernels.Set(kind, kernels.forward);
  backward_kernels.Set(kind, kernels.backward);
  undo_kernels.Set(kind, kernels.undo);
  segment_counts.Set(kind, kernels.segments);
}

int64_t LinearAttentionSegmentsHost(const Device& /*device*/, const LinearAttentionProblem& p) {
  return SegmentsOf(p).count;
}

absl::Status Supports(const Device& device, const LinearAttentionProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::StatusOr<LinearAttentionSaved> NewLinearAttentionSaved(
    Device& device, const LinearAttentionProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const Shapes shapes(problem, device);
  const DType dtype = device.sum_dtype();
  LinearAttentionSaved saved;
  WEFT_ASSIGN_OR_RETURN(saved.denominators, NewTensor(device, dtype, shapes.rows));
  WEFT_ASSIGN_OR_RETURN(saved.states, NewTensor(device, dtype, shapes.states));
  if (HasLevels(problem)) {
    WEFT_ASSIGN_OR_RETURN(saved.levels, NewTensor(device, dtype, shapes.rows));
  }
  return saved;
}

absl::Status LinearAttentionForward(Stream& stream, const LinearAttentionProblem& problem,
                                    const LinearAttentionInputs& inputs,
                                    const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                    LinearAttentionSaved& saved) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(LinearAttentionForwardKernel* const kernel,
                        forward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem, stream.device());
  OperandCheck check("LinearAttentionForward", stream);
  check.Shaped("q", inputs.q, shapes.keys);
  CheckInputs(check, problem, shapes, inputs);
  check.Shaped("o", o, shapes.values);
  CheckStates(check, problem, shapes, "initial_state", initial_state, "final_state", final_state);
  if (saved.denominators.present()) CheckSaved(check, problem, shapes, saved);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, initial_state, o, final_state, saved);
}

absl::Status LinearAttentionBackward(Stream& stream, const LinearAttentionProblem& problem,
                                     const LinearAttentionInputs& inputs, const Tensor& o,
                                     const LinearAttentionSaved& saved, const Tensor& d_o,
                                     const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                     Tensor& d_v, Tensor& d_initial_state) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(LinearAttentionBackwardKernel* const kernel,
                        backward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem, stream.device());
  OperandCheck check("LinearAttentionBackward", stream);
  check.Shaped("q", inputs.q, shapes.keys);
  CheckInputs(check, problem, shapes, inputs);
  check.Shaped("o", o, shapes.values);
  CheckSaved(check, problem, shapes, saved);
  check.Shaped("d_o", d_o, shapes.values)
      .Shaped("d_q", d_q, shapes.keys)
      .Shaped("d_k", d_k, shapes.keys)
      .Shaped("d_v", d_v, shapes.values);
  CheckStates(check, problem, shapes, "d_final_state", d_final_state, "d_initial_state",
              d_initial_state);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, o, saved, d_o, d_final_state, d_q, d_k, d_v,
                d_initial_state);
}

absl::Status LinearAttentionUndo(Stream& stream, const LinearAttentionProblem& problem,
                                 const LinearAttentionInputs& inputs, Tensor& state) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(LinearAttentionUndoKernel* const kernel,
                        undo_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem, stream.device());
  OperandCheck check("LinearAttentionUndo", stream);
  CheckInputs(check, problem, shapes, inputs);
  check.SumShaped("state", state, shapes.state)
      .Require(problem.causal, "the problem is not causal")
      .Require(!HasLevels(problem), "exponential features cannot be undone");
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, state);
}

}  // namespace weft::kernels

#include "kernels/attention/polysketch/polysketch.h"

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<PolysketchForwardKernel> forward_kernels("polysketch forward");
constinit OpTable<PolysketchBackwardKernel> backward_kernels("polysketch backward");
constinit OpTable<PolysketchUndoKernel> undo_kernels("polysketch undo");
int64_t (*record_bytes)(const Device&, const PolysketchProblem&) = nullptr;

bool HasExact(const PolysketchProblem& p) { return p.weights != PolysketchWeights::kSketched; }
bool HasSketch(const PolysketchProblem& p) { return p.weights != PolysketchWeights::kExact; }

struct Shapes {
  explicit Shapes(const PolysketchProblem& p)
      : queries{p.batch, p.queries, p.heads, p.head_dim},
        keys{p.batch, p.keys, p.heads, p.head_dim},
        query_features{p.batch, p.queries, p.heads, p.sketch_dim},
        key_features{p.batch, p.keys, p.heads, p.sketch_dim},
        rows{p.batch, p.heads, p.queries},
        values{p.batch, p.heads, SelfProducts(p.sketch_dim), p.head_dim},
        mass{p.batch, p.heads, p.sketch_dim, p.sketch_dim} {}

  Shape queries, keys, query_features, key_features;
  Shape rows;
  Shape values, mass;
};

absl::Status CheckProblem(const PolysketchProblem& p) {
  if (p.batch < 1 || p.queries < 0 || p.keys < 0 || p.heads < 1 || p.head_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "polysketch: batch ", p.batch, ", queries ", p.queries, ", keys ", p.keys, ", heads ",
        p.heads, ", head_dim ", p.head_dim, ": all must be positive (queries, keys may be 0)"));
  }
  if (HasSketch(p) ? p.sketch_dim < 1 : p.sketch_dim != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("polysketch: sketch_dim is ", p.sketch_dim, ", expected ",
                     HasSketch(p) ? "at least 1" : "0, because all weights are exact"));
  }
  if (p.degree != 2 && p.degree != 4 && p.degree != 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("polysketch: degree is ", p.degree, ", expected 2, 4 or 8"));
  }
  if (p.block < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("polysketch: block is ", p.block, ", expected at least 1"));
  }
  if (p.causal && p.queries > p.keys) {
    return absl::InvalidArgumentError(absl::StrCat("polysketch: ", p.queries, " queries and ",
                                                   p.keys,
                                                   " keys, but the queries are the last keys"));
  }
  if (!p.causal && p.weights == PolysketchWeights::kMixed) {
    return absl::InvalidArgumentError("polysketch: mixed weights are defined for causal problems");
  }
  if (!(p.c0 >= 0) || !(p.kappa > 0)) {
    return absl::InvalidArgumentError(absl::StrCat("polysketch: c0 is ", p.c0, " and kappa ",
                                                   p.kappa, ", expected >= 0 and > 0"));
  }
  return absl::OkStatus();
}

// One input or its gradient: there when the problem has it, absent when not.
void CheckPart(OperandCheck& check, absl::string_view name, const Tensor& tensor, bool wanted,
               const Shape& shape) {
  if (wanted) {
    check.Shaped(name, tensor, shape);
  } else {
    check.Require(!tensor.present(), absl::StrCat(name, " has no part in this problem"));
  }
}

void CheckInputs(OperandCheck& check, const PolysketchProblem& p, const PolysketchInputs& inputs) {
  const Shapes shapes(p);
  CheckPart(check, "q", inputs.q, HasExact(p), shapes.queries);
  CheckPart(check, "k", inputs.k, HasExact(p), shapes.keys);
  CheckPart(check, "phi_q", inputs.phi_q, HasSketch(p), shapes.query_features);
  CheckPart(check, "phi_k", inputs.phi_k, HasSketch(p), shapes.key_features);
  check.Shaped("v", inputs.v, shapes.keys);
  if (inputs.valid.present()) {
    check.Typed("valid", inputs.valid, DType::kI32, {p.batch, p.keys});
  }
}

void CheckState(OperandCheck& check, absl::string_view name, const PolysketchProblem& p,
                const PolysketchState& state) {
  if (!state.values.present() && !state.mass.present()) return;
  check.Require(HasSketch(p) && p.causal, absl::StrCat(name, " has no part in this problem"));
  const Shapes shapes(p);
  check.SumShaped(absl::StrCat(name, ".values"), state.values, shapes.values)
      .SumShaped(absl::StrCat(name, ".mass"), state.mass, shapes.mass);
}

void CheckSaved(OperandCheck& check, const PolysketchProblem& p, const PolysketchSaved& saved) {
  const Shapes shapes(p);
  check.SumShaped("saved.total", saved.total, shapes.rows)
      .SumShaped("saved.far", saved.far, shapes.rows);
}

}  // namespace

void RegisterPolysketch(DeviceKind kind, PolysketchForwardKernel* forward,
                        PolysketchBackwardKernel* backward, PolysketchUndoKernel* undo) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
  undo_kernels.Set(kind, undo);
}

void SetPolysketchCudaRecord(int64_t (*bytes)(const Device&, const PolysketchProblem&)) {
  record_bytes = bytes;
}

absl::Status Supports(const Device& device, const PolysketchProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::StatusOr<PolysketchSaved> NewPolysketchSaved(Device& device,
                                                   const PolysketchProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const Shapes shapes(problem);
  PolysketchSaved saved;
  WEFT_ASSIGN_OR_RETURN(saved.total, NewTensor(device, device.sum_dtype(), shapes.rows));
  WEFT_ASSIGN_OR_RETURN(saved.far, NewTensor(device, device.sum_dtype(), shapes.rows));
  if (record_bytes != nullptr && device.kind() == DeviceKind::kCuda) {
    const int64_t bytes = record_bytes(device, problem);
    if (bytes > 0) {
      WEFT_ASSIGN_OR_RETURN(saved.record, NewTensor(device, DType::kI32, {bytes / 4}));
    }
  }
  return saved;
}

absl::StatusOr<PolysketchState> NewPolysketchState(Device& device,
                                                   const PolysketchProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const Shapes shapes(problem);
  PolysketchState state;
  WEFT_ASSIGN_OR_RETURN(state.values, NewTensor(device, device.sum_dtype(), shapes.values));
  WEFT_ASSIGN_OR_RETURN(state.mass, NewTensor(device, device.sum_dtype(), shapes.mass));
  return state;
}

absl::Status PolysketchForward(Stream& stream, const PolysketchProblem& problem,
                               const PolysketchInputs& inputs, const PolysketchState& initial,
                               Tensor& o, PolysketchState& final, PolysketchSaved& saved) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(PolysketchForwardKernel* const kernel,
                        forward_kernels.Find(stream.device().kind()));
  OperandCheck check("PolysketchForward", stream);
  CheckInputs(check, problem, inputs);
  check.Shaped("o", o, Shapes(problem).queries);
  CheckState(check, "initial", problem, initial);
  CheckState(check, "final", problem, final);
  if (saved.total.present() || saved.far.present()) CheckSaved(check, problem, saved);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, initial, o, final, saved);
}

absl::Status PolysketchBackward(Stream& stream, const PolysketchProblem& problem,
                                const PolysketchInputs& inputs, const PolysketchState& initial,
                                const Tensor& o, const PolysketchSaved& saved, const Tensor& d_o,
                                const PolysketchState& d_final, PolysketchGradients& gradients,
                                PolysketchState& d_initial) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(PolysketchBackwardKernel* const kernel,
                        backward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("PolysketchBackward", stream);
  CheckInputs(check, problem, inputs);
  CheckState(check, "initial", problem, initial);
  check.Shaped("o", o, shapes.queries).Shaped("d_o", d_o, shapes.queries);
  CheckSaved(check, problem, saved);
  CheckState(check, "d_final", problem, d_final);
  CheckState(check, "d_initial", problem, d_initial);
  CheckPart(check, "gradients.q", gradients.q, HasExact(problem), shapes.queries);
  CheckPart(check, "gradients.k", gradients.k, HasExact(problem), shapes.keys);
  CheckPart(check, "gradients.phi_q", gradients.phi_q, HasSketch(problem), shapes.query_features);
  CheckPart(check, "gradients.phi_k", gradients.phi_k, HasSketch(problem), shapes.key_features);
  check.Shaped("gradients.v", gradients.v, shapes.keys);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, initial, o, saved, d_o, d_final, gradients, d_initial);
}

absl::Status PolysketchUndo(Stream& stream, const PolysketchProblem& problem,
                            const PolysketchInputs& inputs, PolysketchState& state) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(PolysketchUndoKernel* const kernel,
                        undo_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("PolysketchUndo", stream);
  check.Require(problem.causal, "the problem is not causal")
      .Require(problem.weights == PolysketchWeights::kSketched, "not all weights are sketched");
  WEFT_RETURN_IF_ERROR(check.status());
  check.Shaped("phi_k", inputs.phi_k, shapes.key_features)
      .Shaped("v", inputs.v, shapes.keys)
      .SumShaped("state.values", state.values, shapes.values)
      .SumShaped("state.mass", state.mass, shapes.mass);
  if (inputs.valid.present()) {
    check.Typed("valid", inputs.valid, DType::kI32, {problem.batch, problem.keys});
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, inputs, state);
}

}  // namespace weft::kernels

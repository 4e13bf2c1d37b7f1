#include "kernels/attention/delta/delta.h"

#include "common/base/status_macros.h"
#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<DeltaForwardKernel> forward_kernels("delta forward");
constinit OpTable<DeltaBackwardKernel> backward_kernels("delta backward");
int64_t (*record_bytes)(const Device&, const DeltaProblem&) = nullptr;

struct Shapes {
  explicit Shapes(const DeltaProblem& p)
      : keys{p.batch, p.tokens, p.heads, p.key_dim},
        values{p.batch, p.tokens, p.heads, p.value_dim},
        beta{p.batch, p.tokens, p.heads},
        state{p.batch, p.heads, p.key_dim, p.value_dim} {}

  Shape keys;
  Shape values;
  Shape beta;
  Shape state;
};

absl::Status CheckProblem(const DeltaProblem& p) {
  if (p.batch < 1 || p.tokens < 0 || p.heads < 1 || p.key_dim < 1 || p.value_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "delta: batch ", p.batch, ", tokens ", p.tokens, ", heads ", p.heads, ", key_dim ",
        p.key_dim, ", value_dim ", p.value_dim, ": all must be positive (tokens may be 0)"));
  }
  if (p.chunk < 1 || p.chunk > kMaxDeltaChunk) {
    return absl::InvalidArgumentError(
        absl::StrCat("delta: chunk ", p.chunk, " is not in 1 ... ", kMaxDeltaChunk));
  }
  return absl::OkStatus();
}

void CheckOptional(OperandCheck& check, absl::string_view name, const Tensor& tensor,
                   const Shape& shape) {
  if (tensor.present()) check.SumShaped(name, tensor, shape);
}

void CheckSaved(OperandCheck& check, const DeltaSaved& saved, const Shapes& shapes) {
  check.Shaped("saved.errors", saved.errors, shapes.values)
      .SumShaped("saved.state", saved.state, shapes.state);
}

}  // namespace

void RegisterDelta(DeviceKind kind, DeltaForwardKernel* forward, DeltaBackwardKernel* backward) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
}

void SetDeltaCudaRecord(int64_t (*bytes)(const Device&, const DeltaProblem&)) {
  record_bytes = bytes;
}

absl::Status Supports(const Device& device, const DeltaProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::StatusOr<DeltaSaved> NewDeltaSaved(Device& device, const DeltaProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const Shapes shapes(problem);
  DeltaSaved saved;
  WEFT_ASSIGN_OR_RETURN(saved.errors, NewTensor(device, device.compute_dtype(), shapes.values));
  WEFT_ASSIGN_OR_RETURN(saved.state, NewTensor(device, device.sum_dtype(), shapes.state));
  if (record_bytes != nullptr && device.kind() == DeviceKind::kCuda) {
    const int64_t bytes = record_bytes(device, problem);
    if (bytes > 0) {
      WEFT_ASSIGN_OR_RETURN(saved.record, NewTensor(device, DType::kI32, {bytes / 4}));
    }
  }
  return saved;
}

absl::Status DeltaForward(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                          const Tensor& k, const Tensor& v, const Tensor& beta,
                          const Tensor& initial_state, Tensor& o, Tensor& final_state,
                          DeltaSaved& saved) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(DeltaForwardKernel* const kernel,
                        forward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("DeltaForward", stream);
  check.Shaped("q", q, shapes.keys)
      .Shaped("k", k, shapes.keys)
      .Shaped("v", v, shapes.values)
      .SumShaped("beta", beta, shapes.beta)
      .Shaped("o", o, shapes.values);
  CheckOptional(check, "initial_state", initial_state, shapes.state);
  CheckOptional(check, "final_state", final_state, shapes.state);
  if (saved.errors.present() || saved.state.present()) CheckSaved(check, saved, shapes);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, q, k, v, beta, initial_state, o, final_state, saved);
}

absl::Status DeltaBackward(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                           const Tensor& k, const Tensor& beta, const DeltaSaved& saved,
                           const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                           Tensor& d_v, Tensor& d_beta, Tensor& d_initial_state) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(DeltaBackwardKernel* const kernel,
                        backward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("DeltaBackward", stream);
  check.Shaped("q", q, shapes.keys)
      .Shaped("k", k, shapes.keys)
      .SumShaped("beta", beta, shapes.beta)
      .Shaped("d_o", d_o, shapes.values)
      .Shaped("d_q", d_q, shapes.keys)
      .Shaped("d_k", d_k, shapes.keys)
      .Shaped("d_v", d_v, shapes.values)
      .SumShaped("d_beta", d_beta, shapes.beta);
  CheckSaved(check, saved, shapes);
  CheckOptional(check, "d_final_state", d_final_state, shapes.state);
  CheckOptional(check, "d_initial_state", d_initial_state, shapes.state);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, q, k, beta, saved, d_o, d_final_state, d_q, d_k, d_v, d_beta,
                d_initial_state);
}

}  // namespace weft::kernels

#include "kernels/attention/softmax/softmax.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/operand.h"
#include "kernels/attention/softmax/softmax_kernels.h"
#include "kernels/device/op_table.h"

namespace weft::kernels {
namespace {

constinit OpTable<SoftmaxForwardKernel> forward_kernels("softmax attention forward");
constinit OpTable<SoftmaxBackwardKernel> backward_kernels("softmax attention backward");

struct Shapes {
  explicit Shapes(const SoftmaxProblem& p)
      : queries{p.batch, p.queries, p.heads, p.head_dim},
        keys{p.batch, p.keys, p.kv_heads, p.head_dim},
        lse{p.batch, p.heads, p.queries} {}

  Shape queries;
  Shape keys;
  Shape lse;
};

absl::Status CheckProblem(const SoftmaxProblem& p) {
  if (p.batch < 1 || p.queries < 0 || p.keys < 0 || p.heads < 1 || p.kv_heads < 1 ||
      p.head_dim < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: batch ", p.batch, ", queries ", p.queries, ", keys ", p.keys,
                     ", heads ", p.heads, ", kv_heads ", p.kv_heads, ", head_dim ", p.head_dim,
                     ": all must be positive (queries and keys may be 0)"));
  }
  if (p.heads % p.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: kv_heads ", p.kv_heads, " does not divide heads ", p.heads));
  }
  if (p.window < 0) {
    return absl::InvalidArgumentError(absl::StrCat("softmax: window ", p.window, " is negative"));
  }
  if (!(p.scale > 0.0) || !std::isfinite(p.scale)) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: scale ", p.scale, " is not positive and finite"));
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterSoftmax(DeviceKind kind, SoftmaxForwardKernel* forward,
                     SoftmaxBackwardKernel* backward) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
}

absl::Status Supports(const Device& device, const SoftmaxProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::Status SoftmaxForward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                            const Tensor& k, const Tensor& v, Tensor& o, Tensor& lse) {
  const Device& device = stream.device();
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(SoftmaxForwardKernel* const kernel, forward_kernels.Find(device.kind()));
  const Shapes shapes(problem);
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: q", q, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: k", k, shapes.keys));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: v", v, shapes.keys));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: o", o, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: lse", lse, shapes.lse));
  return kernel(stream, problem, q, k, v, o, lse);
}

absl::Status SoftmaxBackward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                             const Tensor& k, const Tensor& v, const Tensor& o, const Tensor& lse,
                             const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v) {
  const Device& device = stream.device();
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(SoftmaxBackwardKernel* const kernel, backward_kernels.Find(device.kind()));
  const Shapes shapes(problem);
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: q", q, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: k", k, shapes.keys));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: v", v, shapes.keys));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: o", o, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: lse", lse, shapes.lse));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: d_o", d_o, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: d_q", d_q, shapes.queries));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: d_k", d_k, shapes.keys));
  WEFT_RETURN_IF_ERROR(CheckOperand(device, "softmax: d_v", d_v, shapes.keys));
  return kernel(stream, problem, q, k, v, o, lse, d_o, d_q, d_k, d_v);
}

}  // namespace weft::kernels

#include "kernels/attention/softmax/softmax.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/softmax/softmax_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<SoftmaxForwardKernel> forward_kernels("softmax attention forward");
constinit OpTable<SoftmaxBackwardKernel> backward_kernels("softmax attention backward");
constinit OpTable<SoftmaxLimits> limits_of("softmax attention");

struct Shapes {
  explicit Shapes(const SoftmaxProblem& p)
      : queries{p.batch, p.queries, p.heads, p.head_dim},
        keys{p.batch, p.keys, p.kv_heads, p.head_dim},
        valid{p.batch, p.keys},
        lse{p.batch, p.heads, p.queries} {}

  Shape queries;
  Shape keys;
  Shape valid;
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
  return CheckDropout("softmax", p.dropout, p.batch, p.heads);
}

void CheckValid(OperandCheck& check, const Tensor& valid, const Shapes& shapes) {
  if (valid.present()) check.Typed("valid", valid, DType::kI32, shapes.valid);
}

}  // namespace

absl::Status NoSoftmaxLimits(const Device& /*device*/, const SoftmaxProblem& /*problem*/) {
  return absl::OkStatus();
}

void RegisterSoftmax(DeviceKind kind, SoftmaxForwardKernel* forward,
                     SoftmaxBackwardKernel* backward, SoftmaxLimits* limits) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
  limits_of.Set(kind, limits);
}

absl::Status Supports(const Device& device, const SoftmaxProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  WEFT_ASSIGN_OR_RETURN(SoftmaxLimits* const limits, limits_of.Find(device.kind()));
  return limits(device, problem);
}

absl::Status SoftmaxForward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                            const Tensor& k, const Tensor& v, const Tensor& valid, Tensor& o,
                            Tensor& lse) {
  WEFT_RETURN_IF_ERROR(Supports(stream.device(), problem));
  WEFT_ASSIGN_OR_RETURN(SoftmaxForwardKernel* const kernel,
                        forward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("SoftmaxForward", stream);
  check.Shaped("q", q, shapes.queries)
      .Shaped("k", k, shapes.keys)
      .Shaped("v", v, shapes.keys)
      .Shaped("o", o, shapes.queries)
      .SumShaped("lse", lse, shapes.lse);
  CheckValid(check, valid, shapes);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, q, k, v, valid, o, lse);
}

absl::Status SoftmaxBackward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                             const Tensor& k, const Tensor& v, const Tensor& valid, const Tensor& o,
                             const Tensor& lse, const Tensor& d_o, Tensor& d_q, Tensor& d_k,
                             Tensor& d_v) {
  WEFT_RETURN_IF_ERROR(Supports(stream.device(), problem));
  WEFT_ASSIGN_OR_RETURN(SoftmaxBackwardKernel* const kernel,
                        backward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("SoftmaxBackward", stream);
  check.Shaped("q", q, shapes.queries)
      .Shaped("k", k, shapes.keys)
      .Shaped("v", v, shapes.keys)
      .Shaped("o", o, shapes.queries)
      .SumShaped("lse", lse, shapes.lse)
      .Shaped("d_o", d_o, shapes.queries)
      .Shaped("d_q", d_q, shapes.queries)
      .Shaped("d_k", d_k, shapes.keys)
      .Shaped("d_v", d_v, shapes.keys);
  CheckValid(check, valid, shapes);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, q, k, v, valid, o, lse, d_o, d_q, d_k, d_v);
}

}  // namespace weft::kernels

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

struct Result {
  double loss = 0;
  bool right = false;
};

// Loss and prediction of one row; p becomes the softmax of its logits.
Result Softmax(const double* row, const Tensor& w, const Tensor& bias, int32_t target,
               std::vector<double>& p) {
  const int64_t channels = w.dim(1);
  size_t likeliest = 0;
  for (size_t v = 0; v < p.size(); ++v) {
    const double* weights = w.data<double>() + static_cast<int64_t>(v) * channels;
    double logit = bias.present() ? bias.data<double>()[v] : 0;
    for (int64_t c = 0; c < channels; ++c) logit += row[c] * weights[c];
    p[v] = logit;
    if (logit > p[likeliest]) likeliest = v;
  }
  const double largest = p[likeliest];
  double sum = 0;
  for (const double logit : p) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  const auto t = static_cast<size_t>(target);
  const Result result{.loss = log_sum - p[t], .right = likeliest == t};
  for (double& value : p) value = std::exp(value - log_sum);
  return result;
}

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& h, const Tensor& w,
                              const Tensor& bias, const Tensor& targets, Tensor& losses,
                              Tensor& right) {
  const int32_t* ids = targets.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("LinearCrossEntropyForward", "targets", ids, targets.count(), w.dim(0), true));
  std::vector<double> p(static_cast<size_t>(w.dim(0)));
  for (int64_t r = 0; r < targets.count(); ++r) {
    Result result;
    if (ids[r] >= 0) result = Softmax(h.data<double>() + r * w.dim(1), w, bias, ids[r], p);
    losses.data<double>()[r] = result.loss;
    right.data<double>()[r] = result.right ? 1 : 0;
  }
  return absl::OkStatus();
}

absl::Status ForwardBackwardReference(Stream& stream, const Tensor& h, const Tensor& w,
                                      const Tensor& bias, const Tensor& targets,
                                      double gradient_scale, Tensor& losses, Tensor& right,
                                      Tensor& dh, Tensor& dw, Tensor& dbias) {
  WEFT_RETURN_IF_ERROR(ForwardReference(stream, h, w, bias, targets, losses, right));
  const int64_t channels = w.dim(1);
  const int32_t* ids = targets.data<int32_t>();
  std::vector<double> p(static_cast<size_t>(w.dim(0)));
  for (int64_t r = 0; r < targets.count(); ++r) {
    const double* row = h.data<double>() + r * channels;
    double* row_slopes = dh.data<double>() + r * channels;
    std::fill_n(row_slopes, channels, 0.0);
    if (ids[r] < 0) continue;
    Softmax(row, w, bias, ids[r], p);
    p[static_cast<size_t>(ids[r])] -= 1;
    for (size_t v = 0; v < p.size(); ++v) {
      const double slope = gradient_scale * p[v];
      const int64_t at = static_cast<int64_t>(v) * channels;
      if (dbias.present()) dbias.data<double>()[v] += slope;
      for (int64_t c = 0; c < channels; ++c) {
        row_slopes[c] += slope * w.data<double>()[at + c];
        dw.data<double>()[at + c] += slope * row[c];
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceLinearCrossEntropy() {
  linear_cross_entropy_forward.Set(DeviceKind::kReference, ForwardReference);
  linear_cross_entropy_forward_backward.Set(DeviceKind::kReference, ForwardBackwardReference);
}

}  // namespace weft::kernels::internal

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

// The logits of one row become its softmax; returns the logarithm of the sum of their exponentials.
double Softmax(const double* row, const Tensor& w, std::vector<double>& p) {
  const int64_t channels = w.dim(1);
  double largest = -HUGE_VAL;
  for (size_t v = 0; v < p.size(); ++v) {
    const double* weights = w.data<double>() + static_cast<int64_t>(v) * channels;
    double logit = 0;
    for (int64_t c = 0; c < channels; ++c) logit += row[c] * weights[c];
    p[v] = logit;
    largest = std::max(largest, logit);
  }
  double sum = 0;
  for (double logit : p) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  for (double& value : p) value = std::exp(value - log_sum);
  return log_sum;
}

double Logit(const double* row, const Tensor& w, int32_t target) {
  const int64_t channels = w.dim(1);
  double logit = 0;
  for (int64_t c = 0; c < channels; ++c) logit += row[c] * w.data<double>()[target * channels + c];
  return logit;
}

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& h, const Tensor& w,
                              const Tensor& targets, Tensor& losses) {
  const int32_t* ids = targets.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("LinearCrossEntropyForward", "targets", ids, targets.count(), w.dim(0), true));
  std::vector<double> p(static_cast<size_t>(w.dim(0)));
  for (int64_t r = 0; r < targets.count(); ++r) {
    const double* row = h.data<double>() + r * w.dim(1);
    losses.data<double>()[r] = ids[r] < 0 ? 0 : Softmax(row, w, p) - Logit(row, w, ids[r]);
  }
  return absl::OkStatus();
}

absl::Status ForwardBackwardReference(Stream& /*stream*/, const Tensor& h, const Tensor& w,
                                      const Tensor& targets, double gradient_scale, Tensor& losses,
                                      Tensor& dh, Tensor& dw) {
  const int64_t channels = w.dim(1);
  const int32_t* ids = targets.data<int32_t>();
  WEFT_RETURN_IF_ERROR(CheckIndices("LinearCrossEntropyForwardBackward", "targets", ids,
                                    targets.count(), w.dim(0), true));
  std::vector<double> p(static_cast<size_t>(w.dim(0)));
  for (int64_t r = 0; r < targets.count(); ++r) {
    const double* row = h.data<double>() + r * channels;
    double* row_slopes = dh.data<double>() + r * channels;
    losses.data<double>()[r] = 0;
    std::fill_n(row_slopes, channels, 0.0);
    if (ids[r] < 0) continue;
    losses.data<double>()[r] = Softmax(row, w, p) - Logit(row, w, ids[r]);
    p[static_cast<size_t>(ids[r])] -= 1;
    for (size_t v = 0; v < p.size(); ++v) {
      const double slope = gradient_scale * p[v];
      const int64_t at = static_cast<int64_t>(v) * channels;
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

#include "kernels/ops/mean_pool/mean_pool_table.h"

namespace weft::kernels::internal {
namespace {

bool IsValid(const Tensor& valid, int64_t token) {
  return !valid.present() || valid.data<int32_t>()[token] != 0;
}

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& valid, Tensor& y) {
  const int64_t tokens = x.dim(1);
  const int64_t channels = x.dim(2);
  for (int64_t b = 0; b < x.dim(0); ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t t = b * tokens; t < (b + 1) * tokens; ++t) {
        if (IsValid(valid, t)) sum += x.data<double>()[t * channels + c];
      }
      y.data<double>()[b * channels + c] = sum / static_cast<double>(tokens);
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& dy, const Tensor& valid,
                               Tensor& dx) {
  const int64_t tokens = dx.dim(1);
  const int64_t channels = dx.dim(2);
  for (int64_t t = 0; t < dx.dim(0) * tokens; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      dx.data<double>()[t * channels + c] =
          IsValid(valid, t)
              ? dy.data<double>()[t / tokens * channels + c] / static_cast<double>(tokens)
              : 0;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceMeanPool() {
  mean_pool_forward.Set(DeviceKind::kReference, ForwardReference);
  mean_pool_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal

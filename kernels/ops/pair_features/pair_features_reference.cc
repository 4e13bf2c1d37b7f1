#include "kernels/ops/pair_features/pair_features_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, Tensor& y) {
  const int64_t channels = x.dim(1) / 2;
  for (int64_t r = 0; r < x.dim(0); ++r) {
    const double* pair = x.data<double>() + r * 2 * channels;
    double* features = y.data<double>() + r * 4 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double a = pair[c];
      const double b = pair[channels + c];
      features[c] = a;
      features[channels + c] = b;
      features[2 * channels + c] = a * b;
      features[3 * channels + c] = a - b;
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& dy, Tensor& dx) {
  const int64_t channels = x.dim(1) / 2;
  for (int64_t r = 0; r < x.dim(0); ++r) {
    const double* pair = x.data<double>() + r * 2 * channels;
    const double* slopes = dy.data<double>() + r * 4 * channels;
    double* result = dx.data<double>() + r * 2 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double product = slopes[2 * channels + c];
      const double difference = slopes[3 * channels + c];
      result[c] = slopes[c] + product * pair[channels + c] + difference;
      result[channels + c] = slopes[channels + c] + product * pair[c] - difference;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferencePairFeatures() {
  pair_features_forward.Set(DeviceKind::kReference, ForwardReference);
  pair_features_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal

#include <algorithm>

#include "kernels/ops/elementwise/elementwise_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status FillReference(Stream& /*stream*/, Tensor& x, double value) {
  if (x.dtype() == DType::kI32) {
    std::fill_n(x.data<int32_t>(), x.count(), static_cast<int32_t>(value));
  } else {
    std::fill_n(x.data<double>(), x.count(), value);
  }
  return absl::OkStatus();
}

absl::Status CopyReference(Stream& stream, const Tensor& from, Tensor& to) {
  return stream.device().CopyFromHost(to, from.address(), stream);
}

absl::Status AddReference(Stream& /*stream*/, const Tensor& a, const Tensor& b, Tensor& out) {
  const double* left = a.data<double>();
  const double* right = b.data<double>();
  double* sum = out.data<double>();
  for (int64_t i = 0; i < out.count(); ++i) sum[i] = left[i] + right[i];
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceElementwise() {
  fill.Set(DeviceKind::kReference, FillReference);
  copy.Set(DeviceKind::kReference, CopyReference);
  add.Set(DeviceKind::kReference, AddReference);
}

}  // namespace weft::kernels::internal

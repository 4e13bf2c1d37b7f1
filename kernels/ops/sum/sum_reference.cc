#include "kernels/ops/sum/sum_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SumReference(Stream& /*stream*/, const Tensor& x, Tensor& out) {
  double sum = 0;
  for (int64_t i = 0; i < x.count(); ++i) sum += x.data<double>()[i];
  out.data<double>()[0] = sum;
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceSum() { sum.Set(DeviceKind::kReference, SumReference); }

}  // namespace weft::kernels::internal

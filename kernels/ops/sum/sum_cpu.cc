#include <numeric>

#include "kernels/ops/sum/sum_table.h"

namespace weft::kernels::internal {
namespace {

// On one thread: what is summed are losses, few beside the arithmetic that made them.
absl::Status SumCpu(Stream& /*stream*/, const Tensor& x, Tensor& out) {
  out.data<double>()[0] = std::accumulate(x.data<float>(), x.data<float>() + x.count(), 0.0);
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuSum() { sum.Set(DeviceKind::kCpu, SumCpu); }

}  // namespace weft::kernels::internal

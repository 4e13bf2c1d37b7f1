#include <cmath>

#include "kernels/device/aligned_array.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/gradient_norm/gradient_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SumOfSquaresCpu(Stream& stream, const Tensor& x, Tensor& out) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t blocks = BlocksOf(x.count(), kSumOfSquaresBlock);
  thread_local Scratch<double> scratch;
  double* parts = scratch.Get(blocks);
  ForBlocks(cpu, x.count(), kSumOfSquaresBlock, [&](int64_t first, int64_t count) {
    parts[first / kSumOfSquaresBlock] = cpu.vector().sum_of_squares(x.data<float>() + first, count);
  });
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += parts[b];
  out.data<double>()[0] = sum;
  return absl::OkStatus();
}

absl::Status ClipFactorCpu(Stream& /*stream*/, const Tensor& sum_of_squares, double max_norm,
                           Tensor& clip) {
  const double factor = ClipFactorFor(sum_of_squares.data<double>()[0], max_norm);
  clip.data<float>()[0] = static_cast<float>(factor);
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuGradientNorm() {
  sum_of_squares.Set(DeviceKind::kCpu, SumOfSquaresCpu);
  clip_factor.Set(DeviceKind::kCpu, ClipFactorCpu);
}

}  // namespace weft::kernels::internal

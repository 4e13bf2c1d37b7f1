#include "kernels/ops/sinusoids/sinusoids_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/sinusoids/sinusoids_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SinusoidsCuda(Stream& stream, const SinusoidOptions& options, Tensor& table) {
  const SinusoidPlace place = {.interleaved = options.order == SinusoidOrder::kInterleaved,
                               .first_position = options.first_position,
                               .first_column = options.first_column,
                               .columns = options.columns};
  return CudaStatus(LaunchSinusoids(AsCudaStream(stream).launch(), place, RowsOf(table),
                                    table.dim(-1), table.address()),
                    "Sinusoids");
}

}  // namespace

void RegisterCudaSinusoids() { sinusoids.Set(DeviceKind::kCuda, SinusoidsCuda); }

}  // namespace weft::kernels::internal

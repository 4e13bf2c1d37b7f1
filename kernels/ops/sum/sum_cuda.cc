#include "kernels/ops/sum/sum_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/sum/sum_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SumCuda(Stream& stream, const Tensor& x, Tensor& out) {
  CudaStream& cuda = AsCudaStream(stream);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(SumPartials(x.count()) * SizeOf(DType::kF64)));
  return CudaStatus(LaunchSum(cuda.launch(), x.count(), x.data<float>(), partial.data<double>(),
                              out.data<double>()),
                    "Sum");
}

}  // namespace

void RegisterCudaSum() { sum.Set(DeviceKind::kCuda, SumCuda); }

}  // namespace weft::kernels::internal

#include "kernels/ops/bias/bias_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/bias/bias_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& bias, Tensor& y) {
  return CudaStatus(LaunchBiasForward(AsCudaStream(stream).launch(), RowsOf(x), bias.count(),
                                      x.address(), bias.address(), y.address()),
                    "BiasForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& dy, Tensor& dbias) {
  CudaStream& cuda = AsCudaStream(stream);
  const int64_t rows = RowsOf(dy);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(BiasPartials(rows, dbias.count()) * SizeOf(DType::kF32)));
  return CudaStatus(LaunchBiasBackward(cuda.launch(), rows, dbias.count(), dy.address(),
                                       dbias.data<float>(), partial.data<float>()),
                    "BiasBackward");
}

}  // namespace

void RegisterCudaBias() {
  bias_forward.Set(DeviceKind::kCuda, ForwardCuda);
  bias_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

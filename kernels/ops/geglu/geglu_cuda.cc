#include "kernels/ops/geglu/geglu_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/geglu/geglu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                         Tensor& y) {
  return CudaStatus(LaunchGegluForward(AsCudaStream(stream).launch(), form == GeluForm::kExact,
                                       gate.count(), gate.address(), up.address(), y.address()),
                    "GegluForward");
}

absl::Status BackwardCuda(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                          const Tensor& dy, Tensor& dgate, Tensor& dup) {
  return CudaStatus(LaunchGegluBackward(AsCudaStream(stream).launch(), form == GeluForm::kExact,
                                        gate.count(), gate.address(), up.address(), dy.address(),
                                        dgate.address(), dup.address()),
                    "GegluBackward");
}

}  // namespace

void RegisterCudaGeglu() {
  geglu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  geglu_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

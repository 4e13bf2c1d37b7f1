#include "kernels/ops/short_conv/short_conv_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/cuda_conv_tensors.h"
#include "kernels/ops/short_conv/short_conv_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                         Tensor& y) {
  return CudaStatus(
      LaunchShortConvForward(AsCudaStream(stream).launch(), ConvShapeOf(x, w), x.address(),
                             w.address(), AddressOrNull(history), y.address()),
      "ShortConvForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                          const Tensor& dy, Tensor& dx, Tensor& d_history, Tensor& dw) {
  CudaStream& cuda = AsCudaStream(stream);
  const ConvShape shape = ConvShapeOf(x, w);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(ConvPartials(shape) * SizeOf(DType::kF32)));
  return CudaStatus(
      LaunchShortConvBackward(cuda.launch(), shape, x.address(), w.address(),
                              AddressOrNull(history), dy.address(), dx.address(),
                              AddressOrNull(d_history), dw.data<float>(), partial.data<float>()),
      "ShortConvBackward");
}

}  // namespace

void RegisterCudaShortConv() {
  short_conv_forward.Set(DeviceKind::kCuda, ForwardCuda);
  short_conv_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

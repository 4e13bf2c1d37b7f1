#include "kernels/ops/conv_norm/conv_norm_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/conv_norm/conv_norm_table.h"
#include "kernels/ops/cuda_conv_tensors.h"

namespace weft::kernels::internal {
namespace {

bool IsFused(const Tensor& x, const Tensor& w, int64_t width,
             std::initializer_list<const void*> addresses) {
  for (const void* address : addresses) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
  }
  return ConvNormIsFused(ConvShapeOf(x, w), width);
}

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                         double eps, double scale, Tensor& y, Tensor& inverse_norm) {
  CudaStream& cuda = AsCudaStream(stream);
  const int64_t width = y.dim(3);
  if (!IsFused(x, w, width, {x.address(), AddressOrNull(history), y.address()})) {
    return ComposedConvNormForward(stream, x, w, history, eps, scale, y, inverse_norm);
  }
  const ConvHeadNorm norm = {.eps = static_cast<float>(eps),
                             .scale = static_cast<float>(scale),
                             .inverse = inverse_norm.data<float>()};
  return CudaStatus(
      LaunchConvNormForward(cuda.launch(), ConvShapeOf(x, w), width, norm, x.address(), w.address(),
                            AddressOrNull(history), y.address()),
      "ConvNormForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                          double scale, const Tensor& y, const Tensor& inverse_norm,
                          const Tensor& dy, Tensor& space, Tensor& dx, Tensor& d_history,
                          Tensor& dw) {
  CudaStream& cuda = AsCudaStream(stream);
  const int64_t width = y.dim(3);
  if (!IsFused(x, w, width,
               {x.address(), AddressOrNull(history), dy.address(), dx.address(),
                AddressOrNull(d_history)})) {
    return ComposedConvNormBackward(stream, x, w, history, scale, y, inverse_norm, dy, space, dx,
                                    d_history, dw);
  }
  const ConvShape shape = ConvShapeOf(x, w);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(ConvPartials(shape) * SizeOf(DType::kF32)));
  const ConvHeadNorm norm = {.eps = 0,  // n has it
                             .scale = static_cast<float>(scale),
                             .inverse = inverse_norm.data<float>()};
  return CudaStatus(
      LaunchConvNormBackward(cuda.launch(), shape, width, norm, x.address(), w.address(),
                             AddressOrNull(history), dy.address(), dx.address(),
                             AddressOrNull(d_history), dw.data<float>(), partial.data<float>()),
      "ConvNormBackward");
}

}  // namespace

void RegisterCudaConvNorm() {
  conv_norm_forward.Set(DeviceKind::kCuda, ForwardCuda);
  conv_norm_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

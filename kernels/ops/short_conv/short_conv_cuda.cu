#include "kernels/ops/cuda_conv.cuh"
#include "kernels/ops/short_conv/short_conv_cuda.h"

namespace weft::kernels::internal {
namespace {

// Calls f.template operator()<V, W>(). The usual four taps are fast; more are rare.
template <typename F>
cudaError_t ForTaps(const ConvShape& shape, bool aligned, const F& f) {
  const bool wide = aligned && shape.channels % 4 == 0;
  if (shape.taps <= 4) {
    return wide ? f.template operator()<4, 4>() : f.template operator()<1, 4>();
  }
  return f.template operator()<1, 16>();
}

}  // namespace

cudaError_t LaunchShortConvForward(const CudaLaunch& on, const ConvShape& shape, const void* x,
                                   const void* w, const void* history, void* y) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  const bool aligned = IsAligned(x) && IsAligned(history) && IsAligned(y);
  return ForComputeType(on, [&]<typename T>() {
    return ForTaps(shape, aligned, [&]<int V, int W>() {
      return ConvForward<V, W, 1>(on, shape, ConvHeadNorm(), static_cast<const T*>(x),
                                  static_cast<const T*>(w), static_cast<const T*>(history),
                                  static_cast<T*>(y));
    });
  });
}

cudaError_t LaunchShortConvBackward(const CudaLaunch& on, const ConvShape& shape, const void* x,
                                    const void* w, const void* history, const void* dy, void* dx,
                                    void* d_history, float* dw, float* partial) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  const bool aligned =
      IsAligned(x) && IsAligned(history) && IsAligned(dy) && IsAligned(dx) && IsAligned(d_history);
  return ForComputeType(on, [&]<typename T>() {
    return ForTaps(shape, aligned, [&]<int V, int W>() {
      return ConvBackward<V, W, 1>(on, shape, ConvHeadNorm(), static_cast<const T*>(x),
                                   static_cast<const T*>(w), static_cast<const T*>(history),
                                   static_cast<const T*>(dy), static_cast<T*>(dx),
                                   static_cast<T*>(d_history), dw, partial);
    });
  });
}

}  // namespace weft::kernels::internal

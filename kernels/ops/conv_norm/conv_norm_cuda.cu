#include "kernels/ops/conv_norm/conv_norm_cuda.h"
#include "kernels/ops/cuda_conv.cuh"

namespace weft::kernels::internal {
namespace {

// Channels of a thread. More would take so many registers that too few threads run.
constexpr int kWidth = 4;
constexpr int kTaps = 4;

// Calls f.template operator()<threads of a head>().
template <typename F>
cudaError_t ForHeads(int64_t width, const F& f) {
  switch (width / kWidth) {
    case 8:
      return f.template operator()<8>();
    case 16:
      return f.template operator()<16>();
    case 32:
      return f.template operator()<32>();
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool ConvNormIsFused(const ConvShape& shape, int64_t width) {
  return shape.taps <= kTaps &&
         (width == 8 * kWidth || width == 16 * kWidth || width == 32 * kWidth);
}

cudaError_t LaunchConvNormForward(const CudaLaunch& on, const ConvShape& shape, int64_t width,
                                  const ConvHeadNorm& norm, const void* x, const void* w,
                                  const void* history, void* y) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return ForHeads(width, [&]<int kHead>() {
      return ConvForward<kWidth, kTaps, kHead>(on, shape, norm, static_cast<const T*>(x),
                                               static_cast<const T*>(w),
                                               static_cast<const T*>(history), static_cast<T*>(y));
    });
  });
}

cudaError_t LaunchConvNormBackward(const CudaLaunch& on, const ConvShape& shape, int64_t width,
                                   const ConvHeadNorm& norm, const void* x, const void* w,
                                   const void* history, const void* dy, void* dx, void* d_history,
                                   float* dw, float* partial) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return ForHeads(width, [&]<int kHead>() {
      return ConvBackward<kWidth, kTaps, kHead>(
          on, shape, norm, static_cast<const T*>(x), static_cast<const T*>(w),
          static_cast<const T*>(history), static_cast<const T*>(dy), static_cast<T*>(dx),
          static_cast<T*>(d_history), dw, partial);
    });
  });
}

}  // namespace weft::kernels::internal

// A product with the GELU in its tanh form behind it, on Hopper, in one pass. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"
#include "kernels/ops/cuda_product_sm90.h"

namespace weft::kernels::internal {

// before[R, out] = x[R, in] w[out, in]^T + bias[out] (null: none), y[R, out] = GELU(before). All
// bf16, on 16-byte boundaries.
struct GeluProduct {
  int64_t rows = 0, in = 0, out = 0;
  const void* x = nullptr;
  const void* w = nullptr;
  const void* bias = nullptr;
  void* before = nullptr;
  void* y = nullptr;
};

inline constexpr int64_t kGeluFewestSteps = 9;
// Whether there is a kernel for these extents.
constexpr bool GeluCovers(int64_t in, int64_t out) {
  return product_sm90::Covers(out, in, kGeluFewestSteps);
}

cudaError_t LaunchGeluProduct(const CudaLaunch& on, const GeluProduct& product);

}  // namespace weft::kernels::internal

// A product with the slope of the GELU in its tanh form behind it, on Hopper, in one pass. For op
// code only.
#pragma once

#include "kernels/device/cuda/launch.h"
#include "kernels/ops/cuda_product_sm90.h"

namespace weft::kernels::internal {

// dx[R, in] = (dy[R, out] w[out, in]) * GELU'(before[R, in]), and dbias[in] (null: not wanted) +=
// the sums of its columns. All but the sums are bf16 on 16-byte boundaries.
struct GeluSlopeProduct {
  int64_t rows = 0, in = 0, out = 0;
  const void* dy = nullptr;
  const void* w = nullptr;
  const void* before = nullptr;
  void* dx = nullptr;
  float* dbias = nullptr;
  float* partial = nullptr;  // space for [GeluSlopeParts(rows), in]
};

inline constexpr int64_t kGeluSlopeFewestSteps = 10;
// Whether there is a kernel for these extents.
constexpr bool GeluSlopeCovers(int64_t in, int64_t out) {
  return product_sm90::Covers(in, out, kGeluSlopeFewestSteps);
}
// Sums over 128 rows each.
constexpr int64_t GeluSlopeParts(int64_t rows) { return (rows + 255) / 256 * 2; }

cudaError_t LaunchGeluSlopeProduct(const CudaLaunch& on, const GeluSlopeProduct& product);

}  // namespace weft::kernels::internal

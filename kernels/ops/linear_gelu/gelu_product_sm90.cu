#include "kernels/ops/cuda_wide_product_sm90.cuh"
#include "kernels/ops/linear_gelu/gelu_product_sm90.h"
#include "kernels/ops/linear_gelu/quick_gelu.cuh"

namespace weft::kernels::internal {
namespace {

// Keeps the product, and applies the GELU.
struct KeepGelu {
  struct Params {
    uint4* before;
    uint4* y;
  };
  static __device__ void MakePiece(const Params& params, const uint32_t (&product)[4], int64_t at) {
    uint32_t y[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      y[i] = hopper::PackPair(QuickGelu(hopper::LowOf(product[i])),
                              QuickGelu(hopper::HighOf(product[i])));
    }
    params.before[at] = {product[0], product[1], product[2], product[3]};
    params.y[at] = {y[0], y[1], y[2], y[3]};
  }
};

static_assert(kGeluFewestSteps == wide_product_sm90::kFewestSteps);

}  // namespace

cudaError_t LaunchGeluProduct(const CudaLaunch& on, const GeluProduct& product) {
  const auto [rows, in, out, x, w, bias, before, y] = product;
  if (rows == 0) return cudaSuccess;
  return wide_product_sm90::LaunchWideProduct<KeepGelu>(
      on, {.rows = rows, .columns = out, .depth = in, .a = x, .b = w}, bias,
      {static_cast<uint4*>(before), static_cast<uint4*>(y)});
}

}  // namespace weft::kernels::internal

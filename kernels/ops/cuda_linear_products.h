// The products of a linear map as cuBLASLt takes them: linear, linear_gelu and linear_swiglu, which
// add what comes after a product. For op code only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "absl/strings/match.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/device/device.h"
#include "kernels/ops/operand_check.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels::internal {

// Whether operands are as our own products for Hopper want them (cuda_product_sm90.cuh).
inline bool AreForHopper(const Device& device, std::initializer_list<Tensor> operands) {
  const auto is_aligned = [](const Tensor& tensor) {
    return reinterpret_cast<uintptr_t>(tensor.address()) % 16 == 0;
  };
  return absl::StartsWith(device.device_class(), "cuda-sm90-") &&
         device.compute_dtype() == DType::kBf16 &&
         std::all_of(operands.begin(), operands.end(), is_aligned);
}

// y[R, out] = x[R, in] w[out, in]^T + bias[out]; bias may be absent.
inline CudaGemm ForwardProduct(const Tensor& x, const Tensor& w, const Tensor& bias,
                               const Tensor& y) {
  return {.m = RowsOf(x),
          .n = w.dim(0),
          .k = w.dim(1),
          .a = x.address(),
          .a_stride = w.dim(1),
          .b = w.address(),
          .b_stride = w.dim(1),
          .b_transposed = true,
          .d = y.address(),
          .d_stride = w.dim(0),
          .d_type = y.dtype(),
          .bias = bias.address()};
}

// dx[R, in] = dy[R, out] w[out, in].
inline CudaGemm InputGradientProduct(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  return {.m = RowsOf(dy),
          .n = w.dim(1),
          .k = w.dim(0),
          .a = dy.address(),
          .a_stride = w.dim(0),
          .b = w.address(),
          .b_stride = w.dim(1),
          .d = dx.address(),
          .d_stride = w.dim(1),
          .d_type = dx.dtype()};
}

}  // namespace weft::kernels::internal

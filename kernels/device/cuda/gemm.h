// Matrix products by cuBLASLt, in fp32 sums. For op code only.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/tensor/dtype.h"

namespace weft::kernels {

// What becomes of a product before it is stored, with the GELU in its tanh form. kKeepGelu stores
// the product, bias and all, in `aux`, kGeluSlope multiplies it with the derivative at `aux`;
// aux[M,N] lies as d does, on a 16-byte boundary and with rows of a multiple of 8.
enum class CudaEpilogue { kNone, kGelu, kKeepGelu, kGeluSlope };

// Row-major d[M,N] = a[M,K] b[K,N] + beta c + bias, where bias[N] is added to every row. A
// transposed operand lies as [K,M] or [N,K]. `a` and `b` have the device's compute type, or are
// fp32 where `operands_f32` says so. The order of the sums depends on the shapes, the addresses'
// alignment, the GPU's architecture and the library's version alone.
struct CudaGemm {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t a_stride = 0;  // elements from row to row as it lies
  bool a_transposed = false;
  const void* b = nullptr;
  int64_t b_stride = 0;
  bool b_transposed = false;
  void* d = nullptr;
  int64_t d_stride = 0;
  DType d_type = DType::kF32;
  float beta = 0;
  const void* c = nullptr;                      // lies as d does; null: d itself
  const void* bias = nullptr;                   // of d's type; null: none
  CudaEpilogue epilogue = CudaEpilogue::kNone;  // kGeluSlope has no bias
  const void* aux = nullptr;
  // So many products of one shape, whose matrices lie so many elements apart.
  int batch = 1;
  int64_t a_step = 0, b_step = 0, d_step = 0;
  bool operands_f32 = false;  // a and b are fp32, whatever the compute type
};

absl::Status Run(CudaStream& stream, const CudaGemm& gemm);

}  // namespace weft::kernels

// One matrix product on the calling thread, through the matrix library.
#pragma once

#include <cstdint>

namespace weft::kernels {

enum class Transpose : bool { kNo, kYes };

// c[m,n] = alpha * op(a)[m,k] * op(b)[k,n] + beta * c, all row-major with a leading dimension: the
// distance in elements from one row of the stored matrix to the next. op(x) is x or its transpose,
// so a is stored [m,k] or [k,m]. With beta = 0, c is written and never read. c overlaps neither a
// nor b.
//
// Uses the calling thread alone, so kernels call it from tiles of a ParallelFor; its bits depend on
// the shapes, the transposes and the device class only.
void Gemm(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k,
          float alpha, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
          float* c, int64_t ldc);

}  // namespace weft::kernels

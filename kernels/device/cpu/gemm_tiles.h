// One matrix product on all threads of a device: each output tile is a product of its own.
#pragma once

#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {

// op(a)[m,k] * op(b)[k,n]; operands and result are contiguous.
struct GemmProblem {
  Transpose transpose_a;
  Transpose transpose_b;
  int64_t m;
  int64_t n;
  int64_t k;
};

// c[m,n] = op(a) * op(b) + beta * c. The tiles follow from m and n alone, and each sums the whole
// of k, so the bits depend on neither the number of threads nor who takes which tile.
void ParallelGemm(CpuStream& stream, const GemmProblem& problem, const float* a, const float* b,
                  float beta, float* c);

}  // namespace weft::kernels

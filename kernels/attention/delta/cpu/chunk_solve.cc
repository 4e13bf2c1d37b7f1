#include "kernels/attention/delta/cpu/chunk_solve.h"

#include <algorithm>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr int64_t kBlock = 16;

}  // namespace

void SolveErrors(const ChunkSystem& s, float* e, float* n) {
  for (int64_t first = 0; first < s.rows; first += kBlock) {
    const int64_t last = std::min(first + kBlock, s.rows);
    if (first > 0) {  // what the blocks above contribute
      Gemm(Transpose::kNo, Transpose::kNo, last - first, s.columns, first, -1.0F,
           s.g + first * s.ldg, s.ldg, n, s.columns, 1.0F, e + first * s.columns, s.columns);
    }
    for (int64_t i = first; i < last; ++i) {
      float* e_i = e + i * s.columns;
      for (int64_t j = first; j < i; ++j) {
        s.vector.axpy(-s.g[i * s.ldg + j], n + j * s.columns, e_i, s.columns);
      }
      s.vector.scale(s.beta[i], e_i, n + i * s.columns, s.columns);
    }
  }
}

void SolveErrorGradients(const ChunkSystem& s, float* y, float* minus_dx) {
  for (int64_t first = (s.rows - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {
    const int64_t last = std::min(first + kBlock, s.rows);
    if (last < s.rows) {  // what the blocks below contribute
      Gemm(Transpose::kYes, Transpose::kNo, last - first, s.columns, s.rows - last, 1.0F,
           s.g + last * s.ldg + first, s.ldg, minus_dx + last * s.columns, s.columns, 1.0F,
           y + first * s.columns, s.columns);
    }
    for (int64_t i = last - 1; i >= first; --i) {
      float* y_i = y + i * s.columns;
      for (int64_t j = last - 1; j > i; --j) {
        s.vector.axpy(s.g[j * s.ldg + i], minus_dx + j * s.columns, y_i, s.columns);
      }
      s.vector.scale(-s.beta[i], y_i, minus_dx + i * s.columns, s.columns);
    }
  }
}

}  // namespace weft::kernels

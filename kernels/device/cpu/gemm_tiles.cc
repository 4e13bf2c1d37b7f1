#include "kernels/device/cpu/gemm_tiles.h"

#include <algorithm>

namespace weft::kernels {
namespace {

// Small enough to occupy several threads at the widths of small models.
constexpr int64_t kTileRows = 128;
constexpr int64_t kTileColumns = 256;

}  // namespace

void ParallelGemm(CpuStream& stream, const GemmProblem& problem, const float* a, const float* b,
                  float beta, float* c) {
  const auto [transpose_a, transpose_b, m, n, k] = problem;
  const bool a_turned = transpose_a == Transpose::kYes;
  const bool b_turned = transpose_b == Transpose::kYes;
  const int64_t lda = a_turned ? m : k;
  const int64_t ldb = b_turned ? k : n;
  const int64_t across = (n + kTileColumns - 1) / kTileColumns;
  const int64_t down = (m + kTileRows - 1) / kTileRows;
  stream.ParallelFor(
      down * across, [&, m = m, n = n, k = k, ta = transpose_a, tb = transpose_b](int64_t tile) {
        const int64_t row = tile / across * kTileRows;
        const int64_t column = tile % across * kTileColumns;
        Gemm(ta, tb, std::min(kTileRows, m - row), std::min(kTileColumns, n - column), k, 1,
             a + row * (a_turned ? 1 : k), lda, b + column * (b_turned ? k : 1), ldb, beta,
             c + row * n + column, n);
      });
}

}  // namespace weft::kernels

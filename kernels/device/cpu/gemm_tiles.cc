#include "kernels/device/cpu/gemm_tiles.h"

#include <algorithm>

namespace weft::kernels {
namespace {

// Measured with oneDNN 2.6 on one core of a 2022 server (AVX-512): 256x256 tiles run at 90 to 100 %
// of the speed of the undivided product, 128x256 tiles at 80 to 100 %, and 64x128 tiles are still
// worth their packing when they occupy threads that would idle.
constexpr int64_t kLargestRows = 256, kLargestColumns = 256;
constexpr int64_t kSmallestRows = 64, kSmallestColumns = 128;
constexpr int64_t kTilesWanted = 16;

struct TileGrid {
  int64_t rows, columns;  // of a tile
  int64_t down, across;   // tiles
};

// The largest tiles of which there are enough for a good number of threads. A function of the shape
// alone.
TileGrid GridFor(int64_t m, int64_t n) {
  TileGrid grid{kLargestRows, kLargestColumns, 0, 0};
  for (;;) {
    grid.down = (m + grid.rows - 1) / grid.rows;
    grid.across = (n + grid.columns - 1) / grid.columns;
    if (grid.down * grid.across >= kTilesWanted) return grid;
    if (grid.rows > kSmallestRows) {
      grid.rows /= 2;
    } else if (grid.columns > kSmallestColumns) {
      grid.columns /= 2;
    } else {
      return grid;
    }
  }
}

}  // namespace

void ParallelGemm(CpuStream& stream, const GemmProblem& problem, const float* a, const float* b,
                  float beta, float* c) {
  const GemmProblem& p = problem;
  const bool a_turned = p.transpose_a == Transpose::kYes;
  const bool b_turned = p.transpose_b == Transpose::kYes;
  const int64_t lda = a_turned ? p.m : p.k;
  const int64_t ldb = b_turned ? p.k : p.n;
  const TileGrid grid = GridFor(p.m, p.n);
  stream.ParallelFor(grid.down * grid.across, [&](int64_t tile) {
    const int64_t row = tile / grid.across * grid.rows;
    const int64_t column = tile % grid.across * grid.columns;
    Gemm(p.transpose_a, p.transpose_b, std::min(grid.rows, p.m - row),
         std::min(grid.columns, p.n - column), p.k, 1, a + row * (a_turned ? 1 : lda), lda,
         b + column * (b_turned ? ldb : 1), ldb, beta, c + row * p.n + column, p.n);
  });
}

}  // namespace weft::kernels

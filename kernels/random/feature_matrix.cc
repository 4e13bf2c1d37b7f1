#include "kernels/random/feature_matrix.h"

#include <algorithm>
#include <cmath>

#include "absl/types/span.h"
#include "common/base/check.h"
#include "kernels/random/philox.h"

namespace weft::kernels {
namespace {

constexpr uint32_t kLengths = uint32_t{1} << 31;  // added to a row's number: its second ordinal

double Length(const double* x, int64_t n) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  return std::sqrt(squares);
}

// The rows of a QR factor: each row minus its shadows on the rows before it, at length one. Twice,
// because what is left of a row after the first round is orthogonal only up to the rounding of what
// was there before. The triangular factor has a positive diagonal, and with that choice of signs
// the orthogonal factor of normals is uniformly distributed: Mezzadri 2007, "How to generate random
// matrices from the classical compact groups".
void Orthonormalize(int64_t rows, int64_t dim, double* block) {
  for (int64_t r = 0; r < rows; ++r) {
    double* const row = block + r * dim;
    for (int round = 0; round < 2; ++round) {
      for (int64_t before = 0; before < r; ++before) {
        const double* const other = block + before * dim;
        double shadow = 0;
        for (int64_t i = 0; i < dim; ++i) shadow += row[i] * other[i];
        for (int64_t i = 0; i < dim; ++i) row[i] -= shadow * other[i];
      }
      const double length = Length(row, dim);
      for (int64_t i = 0; i < dim; ++i) row[i] /= length;
    }
  }
}

}  // namespace

std::vector<double> FeatureMatrix(uint64_t seed, uint32_t layer, FeatureRows kind, int64_t rows,
                                  int64_t dim) {
  WEFT_CHECK(rows >= 1 && rows < int64_t{kLengths} && dim >= 1);
  const DrawSite site{.tag = RandomTag::kFeatureMatrix, .layer = layer};
  std::vector<double> matrix(static_cast<size_t>(rows * dim));
  std::vector<double> normals(static_cast<size_t>(dim));
  for (int64_t first = 0; first < rows; first += dim) {
    const int64_t count = std::min(dim, rows - first);
    double* const block = matrix.data() + first * dim;
    FillNormal(seed, site, static_cast<uint32_t>(first / dim), 0,
               absl::MakeSpan(block, static_cast<size_t>(count * dim)));
    if (kind == FeatureRows::kIndependent) continue;
    Orthonormalize(count, dim, block);
    for (int64_t r = 0; r < count; ++r) {
      double length = std::sqrt(static_cast<double>(dim));
      if (kind == FeatureRows::kOrthogonal) {
        FillNormal(seed, site, kLengths + static_cast<uint32_t>(first + r), 0,
                   absl::MakeSpan(normals));
        length = Length(normals.data(), dim);
      }
      for (int64_t i = 0; i < dim; ++i) block[r * dim + i] *= length;
    }
  }
  return matrix;
}

}  // namespace weft::kernels

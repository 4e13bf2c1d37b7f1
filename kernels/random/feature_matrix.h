// Directions of random features: rows of standard normals, or blocks of rows that are orthogonal to
// each other, which estimate a kernel with less variance. Choromanski et al. 2021, "Rethinking
// attention with performers", section 2.4.
//
// Made on the host in double, so all devices take the same numbers. What follows from a row w (both
// signs of it, exponentials, projections) is the user's.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::kernels {

enum class FeatureRows : uint8_t {
  // Each row is d independent standard normals.
  kIndependent,
  // Blocks of d rows (the last one cut off): the rows of a uniformly distributed orthogonal matrix,
  // each multiplied by the length of d independent standard normals of its own. One row alone is
  // distributed as above.
  kOrthogonal,
  // The same rows, all of length sqrt(d).
  kOrthogonalEqualLengths,
};

// [rows, dim], row-major; both at least 1. Drawn with tag kFeatureMatrix at `layer`: the normals of
// block i are those of ordinal i, the normals whose length row r takes those of ordinal 2^31 + r.
// Rows are the same in a matrix of more rows. Costs about 4 rows dim^2 operations.
std::vector<double> FeatureMatrix(uint64_t seed, uint32_t layer, FeatureRows kind, int64_t rows,
                                  int64_t dim);

}  // namespace weft::kernels

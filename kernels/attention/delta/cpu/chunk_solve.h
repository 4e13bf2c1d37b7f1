// The triangular systems of a delta-rule chunk. With G = K K^T below the diagonal:
//
//   forward   (I + G diag(beta)) E = V - K S     row i needs the rows before it
//   backward  (I + diag(beta) G)^T Y = dN        row i needs the rows after it
//
// Solved by substitution in fp32: against an explicit inverse built from 16 x 16 blocks it is
// cheaper, and for keys that are nearly parallel up to 100 times as exact. Blocks of 16 rows let
// most of the work be matrix products. Private to kernels/attention.
#pragma once

#include <cstdint>

#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

// g[i * ldg + j] = k_i . k_j, read for j < i only.
struct ChunkSystem {
  const VectorTable& vector;
  const float* g;
  int64_t ldg;
  const float* beta;  // [rows]
  int64_t rows;
  int64_t columns;  // of the right-hand side; its matrices are dense: leading dimension `columns`
};

// e[rows, columns]: V - K S on entry, E on return. n = diag(beta) E.
void SolveErrors(const ChunkSystem& system, float* e, float* n);

// y[rows, columns]: dN on entry, Y on return. minus_dx = -diag(beta) Y.
void SolveErrorGradients(const ChunkSystem& system, float* y, float* minus_dx);

}  // namespace weft::kernels

// The state of sketched attention on CPU: what features of width r and rows of width D leave behind
// of many tokens, how it is read, and the gradients of both. All matrices are dense.
//
// Products of features are made for some rows at a time, in working space that the nearest caches
// hold, and never stored: they are m / r times as wide as the features themselves.
#pragma once

#include <cstdint>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

// One head's S [m, D] and E [r, r], or the gradients of both.
struct SketchState {
  float* values;
  float* mass;
};

// n tokens: features phi [n, r], rows x [n, D], weights w [n]. Keys have rows v and weights 1 (w
// null); queries, in their part as what the gradient of a state is made of, have rows dL/d(num) and
// weights dL/d(den).
struct SketchRows {
  int64_t n;
  const float* phi;
  const float* x;
  const float* w;
};

// What a SketchMachine computes in; see ThreadSpace.
struct SketchSpace {
  // Tokens that are computed together.
  static constexpr int64_t kRows = 256;

  SketchSpace(const PolysketchProblem& problem, Carver& carver);

  int64_t r;
  int64_t m;
  int64_t dim;
  float* products;  // of some rows
  float* twice;     // [2r]: a row and the row again
  float* bands;     // [r, r]: see VectorTable::self_product_backward
  float* d_row;     // [r]
  float* mixed;     // [kRows, r]: phi E
};

// Borrows both, for one thread. No call takes more than kRows tokens.
class SketchMachine {
 public:
  SketchMachine(const VectorTable& vector, const SketchSpace& space) : vector_(vector), s_(space) {}

  // S += F(phi)^T x, E += phi^T diag(w) phi
  void Add(const SketchRows& rows, const SketchState& state) const;
  // num [n, D] = F(phi) S + beta * num
  void Read(int64_t n, const float* phi, const SketchState& state, float beta, float* num) const;
  // mass [n] = phi^T E phi of each row
  void ReadMass(int64_t n, const float* phi, const SketchState& state, float* mass) const;
  // The gradient of <F(phi)^T x, S> + <phi^T diag(w) phi, E>: d_phi [n, r] is overwritten or, with
  // `add`, added to.
  void Slopes(const SketchRows& rows, const SketchState& state, bool add, float* d_phi) const;

 private:
  // phi [r] twice into space.twice.
  void Double(const float* phi) const;
  // F of `count` rows into space.products.
  void MakeProducts(const float* phi, int64_t count) const;

  const VectorTable& vector_;
  const SketchSpace& s_;
};

}  // namespace weft::kernels

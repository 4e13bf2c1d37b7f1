#include "kernels/attention/polysketch/cpu/sketch_state.h"

#include <algorithm>
#include <cstring>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Rows whose products are alive at once. Fewer rows fit a nearer cache, but the products with the
// state lose more than that brings: with r = 64, 32 rows take 1.6 times as long for gradients.
constexpr int64_t kTileRows = 128;

}  // namespace

SketchSpace::SketchSpace(const PolysketchProblem& problem, Carver& carver)
    : r(problem.sketch_dim),
      m(SelfProducts(problem.sketch_dim)),
      dim(problem.head_dim),
      products(carver.Take(kTileRows * m)),
      twice(carver.Take(2 * r)),
      bands(carver.Take(r * r)),
      d_row(carver.Take(r)),
      mixed(carver.Take(kRows * r)) {}

void SketchMachine::Double(const float* phi) const {
  const auto bytes = static_cast<size_t>(s_.r) * sizeof(float);
  std::memcpy(s_.twice, phi, bytes);
  std::memcpy(s_.twice + s_.r, phi, bytes);
}

void SketchMachine::MakeProducts(const float* phi, int64_t count) const {
  for (int64_t i = 0; i < count; ++i) {
    Double(phi + i * s_.r);
    vector_.self_product(s_.twice, s_.products + i * s_.m, s_.r);
  }
}

void SketchMachine::Add(const SketchRows& rows, const SketchState& state) const {
  for (int64_t first = 0; first < rows.n; first += kTileRows) {
    const int64_t count = std::min(kTileRows, rows.n - first);
    MakeProducts(rows.phi + first * s_.r, count);
    Gemm(kTransposed, kPlain, s_.m, s_.dim, count, 1.0F, s_.products, s_.m, rows.x + first * s_.dim,
         s_.dim, 1.0F, state.values, s_.dim);
  }
  const float* weighted = rows.phi;
  if (rows.w != nullptr) {
    for (int64_t i = 0; i < rows.n; ++i) {
      vector_.scale(rows.w[i], rows.phi + i * s_.r, s_.mixed + i * s_.r, s_.r);
    }
    weighted = s_.mixed;
  }
  Gemm(kTransposed, kPlain, s_.r, s_.r, rows.n, 1.0F, rows.phi, s_.r, weighted, s_.r, 1.0F,
       state.mass, s_.r);
}

void SketchMachine::Read(int64_t n, const float* phi, const SketchState& state, float beta,
                         float* num) const {
  for (int64_t first = 0; first < n; first += kTileRows) {
    const int64_t count = std::min(kTileRows, n - first);
    MakeProducts(phi + first * s_.r, count);
    Gemm(kPlain, kPlain, count, s_.dim, s_.m, 1.0F, s_.products, s_.m, state.values, s_.dim, beta,
         num + first * s_.dim, s_.dim);
  }
}

void SketchMachine::ReadMass(int64_t n, const float* phi, const SketchState& state,
                             float* mass) const {
  Gemm(kPlain, kPlain, n, s_.r, s_.r, 1.0F, phi, s_.r, state.mass, s_.r, 0.0F, s_.mixed, s_.r);
  for (int64_t i = 0; i < n; ++i) {
    mass[i] = vector_.dot(s_.mixed + i * s_.r, phi + i * s_.r, s_.r);
  }
}

void SketchMachine::Slopes(const SketchRows& rows, const SketchState& state, bool add,
                           float* d_phi) const {
  const int64_t r = s_.r;
  Gemm(kPlain, kPlain, rows.n, r, r, 1.0F, rows.phi, r, state.mass, r, 0.0F, s_.mixed, r);
  for (int64_t first = 0; first < rows.n; first += kTileRows) {
    const int64_t count = std::min(kTileRows, rows.n - first);
    Gemm(kPlain, kTransposed, count, s_.m, s_.dim, 1.0F, rows.x + first * s_.dim, s_.dim,
         state.values, s_.dim, 0.0F, s_.products, s_.m);
    for (int64_t i = first; i < first + count; ++i) {
      Double(rows.phi + i * r);
      float* const d_row = add ? s_.d_row : d_phi + i * r;
      vector_.self_product_backward(s_.twice, s_.products + (i - first) * s_.m, s_.bands, d_row, r);
      const float weight = rows.w == nullptr ? 1.0F : rows.w[i];
      vector_.axpy(2.0F * weight, s_.mixed + i * r, d_row, r);
      if (add) vector_.add(d_phi + i * r, d_row, d_phi + i * r, r);
    }
  }
}

}  // namespace weft::kernels

#include "kernels/attention/features/cpu/feature_tile.h"

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

int64_t KeptOf(const FeatureMap& map, int64_t dim) {
  if (map.feature == Feature::kExponential) return 0;  // f tells all
  if (map.rows > 0) return map.rows;
  return map.scale == 1.0 ? 0 : dim;
}

}  // namespace

FeatureTile::FeatureTile(const VectorTable& vector, const FeatureMap& map, int64_t dim,
                         const float* projection)
    : vector_(vector),
      map_(map),
      dim_(dim),
      projection_(projection),
      rows_(map.rows == 0 ? dim : map.rows),
      count_(FeatureCount(map, dim)),
      kept_(KeptOf(map, dim)) {}

const float* FeatureTile::Projected(const float* x, int64_t n, float* kept) const {
  if (kept_ == 0) return x;
  const auto scale = static_cast<float>(map_.scale);
  if (map_.rows == 0) {
    vector_.scale(scale, x, kept, n * dim_);
  } else {
    Gemm(kPlain, kTransposed, n, rows_, dim_, scale, x, dim_, projection_, dim_, 0.0F, kept, rows_);
  }
  return kept;
}

void FeatureTile::Forward(const float* x, int64_t n, float* kept, float* f, float* levels) const {
  const auto floor = static_cast<float>(map_.floor);
  const auto scale = static_cast<float>(map_.scale);
  switch (map_.feature) {
    case Feature::kSquare:
      return vector_.square(Projected(x, n, kept), floor, f, n * count_);
    case Feature::kRelu:
      return vector_.relu(Projected(x, n, kept), floor, f, n * count_);
    case Feature::kElu1:
      return vector_.elu1(Projected(x, n, kept), floor, f, n * count_);
    case Feature::kMagnitude:
      return vector_.magnitude(Projected(x, n, kept), floor, f, n * count_);
    case Feature::kExponential:
      break;
  }
  Gemm(kPlain, kTransposed, n, rows_, dim_, scale, x, dim_, projection_, dim_, 0.0F, f, count_);
  for (int64_t i = 0; i < n; ++i) {
    const float* const x_i = x + i * dim_;
    float* const f_i = f + i * count_;
    if (map_.both_signs) vector_.scale(-1.0F, f_i, f_i + rows_, rows_);
    const float largest = vector_.max(f_i, count_);
    levels[i] = largest - 0.5F * scale * scale * vector_.dot(x_i, x_i, dim_);
    vector_.shifted_exp(f_i, largest, floor, f_i, count_);
  }
}

void FeatureTile::Backward(const float* x, int64_t n, const float* kept, const float* f, float* d_f,
                           float* work, float* d_x) const {
  if (has_levels()) return ExponentialBackward(x, n, f, d_f, work, d_x);
  const float* const a = kept_ == 0 ? x : kept;
  switch (map_.feature) {
    case Feature::kSquare:
      vector_.scaled_multiply(2.0F, a, d_f, d_f, n * count_);
      break;
    case Feature::kRelu:
      vector_.relu_backward(a, d_f, d_f, n * count_);
      break;
    case Feature::kElu1:
      vector_.elu1_backward(a, d_f, d_f, n * count_);
      break;
    case Feature::kMagnitude:
    case Feature::kExponential:
      vector_.magnitude_backward(a, d_f, d_f, n * count_);
      break;
  }
  const auto scale = static_cast<float>(map_.scale);
  if (map_.rows == 0) return vector_.scale(scale, d_f, d_x, n * dim_);
  Gemm(kPlain, kPlain, n, dim_, rows_, scale, d_f, rows_, projection_, dim_, 0.0F, d_x, dim_);
}

// With a_l = w_l . x' and l* the largest: f_l = exp(a_l - a_l*) + floor in units of
// exp(a_l* - |x'|^2 / 2), so d_a_l = d_f_l (f_l - floor), and d_a_l* has floor sum d_f beside.
void FeatureTile::ExponentialRowBackward(const float* f, const float* d_f, float* d_a) const {
  vector_.multiply(d_f, f, d_a, rows_);
  if (map_.both_signs) vector_.scaled_multiply_add(-1.0F, d_f + rows_, f + rows_, d_a, rows_);
  if (map_.floor == 0.0) return;
  const auto floor = static_cast<float>(map_.floor);
  vector_.axpy(-floor, d_f, d_a, rows_);
  if (map_.both_signs) vector_.axpy(floor, d_f + rows_, d_a, rows_);
  const float of_floor = floor * vector_.sum(d_f, count_);
  int64_t top = 0;
  while (top + 1 < count_ && f[top] != 1.0F + floor) ++top;
  d_a[top % rows_] += top < rows_ ? of_floor : -of_floor;
}

void FeatureTile::ExponentialBackward(const float* x, int64_t n, const float* f, const float* d_f,
                                      float* work, float* d_x) const {
  const auto scale = static_cast<float>(map_.scale);
  for (int64_t i = 0; i < n; ++i) {
    ExponentialRowBackward(f + i * count_, d_f + i * count_, work + i * rows_);
  }
  Gemm(kPlain, kPlain, n, dim_, rows_, scale, work, rows_, projection_, dim_, 0.0F, d_x, dim_);
  for (int64_t i = 0; i < n; ++i) {
    const float slope = vector_.dot(d_f + i * count_, f + i * count_, count_);
    vector_.axpy(-scale * scale * slope, x + i * dim_, d_x + i * dim_, dim_);
  }
}

}  // namespace weft::kernels

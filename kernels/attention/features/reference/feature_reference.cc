#include "kernels/attention/features/reference/feature_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

// w_l . x', both signs; x' itself without a projection.
std::vector<double> Projected(const FeatureMap& map, const double* projection, const double* x,
                              int64_t dim) {
  std::vector<double> a(FeatureCount(map, dim));
  const int64_t rows = map.rows == 0 ? dim : map.rows;
  for (int64_t l = 0; l < rows; ++l) {
    if (map.rows == 0) {
      a[l] = map.scale * x[l];
      continue;
    }
    for (int64_t i = 0; i < dim; ++i) a[l] += projection[l * dim + i] * map.scale * x[i];
  }
  if (map.both_signs) {
    for (int64_t l = 0; l < rows; ++l) a[rows + l] = -a[l];
  }
  return a;
}

double HalfSquare(const FeatureMap& map, const double* x, int64_t dim) {
  double sum = 0.0;
  for (int64_t i = 0; i < dim; ++i) sum += map.scale * x[i] * map.scale * x[i];
  return sum / 2.0;
}

double Value(Feature feature, double a) {
  switch (feature) {
    case Feature::kSquare:
      return a * a;
    case Feature::kRelu:
      return std::max(a, 0.0);
    case Feature::kElu1:
      return a > 0.0 ? a + 1.0 : std::exp(a);
    case Feature::kMagnitude:
      return std::abs(a);
    case Feature::kExponential:
      break;
  }
  return std::exp(a);
}

double Slope(Feature feature, double a) {
  switch (feature) {
    case Feature::kSquare:
      return 2.0 * a;
    case Feature::kRelu:
      return a > 0.0 ? 1.0 : 0.0;
    case Feature::kElu1:
      return a > 0.0 ? 1.0 : std::exp(a);
    case Feature::kMagnitude:
      return a > 0.0 ? 1.0 : (a < 0.0 ? -1.0 : 0.0);
    case Feature::kExponential:
      break;
  }
  return std::exp(a);
}

}  // namespace

double FeaturesReference(const FeatureMap& map, const double* projection, const double* x,
                         int64_t dim, double* f) {
  std::vector<double> a = Projected(map, projection, x, dim);
  double level = 0.0;
  if (map.feature == Feature::kExponential) {
    const double largest = *std::max_element(a.begin(), a.end());
    level = largest - HalfSquare(map, x, dim);
    for (double& value : a) value -= largest;
  }
  for (size_t l = 0; l < a.size(); ++l) f[l] = Value(map.feature, a[l]) + map.floor;
  return level;
}

void FeaturesBackwardReference(const FeatureMap& map, const double* projection, const double* x,
                               int64_t dim, const double* d_f, double* d_x) {
  std::vector<double> a = Projected(map, projection, x, dim);
  const auto count = static_cast<int64_t>(a.size());
  const int64_t rows = map.rows == 0 ? dim : map.rows;
  std::vector<double> d_a(count);
  double d_half_square = 0.0;
  if (map.feature == Feature::kExponential) {
    // exp(a_l - n) + floor exp(a_top - n): the floor is in units of the largest.
    const int64_t top = std::max_element(a.begin(), a.end()) - a.begin();
    const double largest = a[top];
    for (int64_t l = 0; l < count; ++l) {
      d_a[l] += d_f[l] * std::exp(a[l] - largest);
      d_a[top] += d_f[l] * map.floor;
    }
    for (const double d : d_a) d_half_square -= d;
  } else {
    for (int64_t l = 0; l < count; ++l) d_a[l] = d_f[l] * Slope(map.feature, a[l]);
  }
  for (int64_t i = 0; i < dim; ++i) d_x[i] = d_half_square * map.scale * map.scale * x[i];
  for (int64_t l = 0; l < count; ++l) {
    const double sign = l < rows ? 1.0 : -1.0;
    if (map.rows == 0) {
      d_x[l] += map.scale * d_a[l];
      continue;
    }
    for (int64_t i = 0; i < dim; ++i) {
      d_x[i] += sign * map.scale * d_a[l] * projection[l % rows * dim + i];
    }
  }
}

}  // namespace weft::kernels

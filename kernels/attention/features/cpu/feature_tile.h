// Feature maps on a tile of dense rows, fp32, on the calling thread. Private to kernels/attention.
#pragma once

#include "kernels/attention/features/feature_map.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

class FeatureTile {
 public:
  // x has rows of `dim`; `projection` [rows, dim] is read only when the map has rows. Both
  // references and the projection outlive the tile.
  FeatureTile(const VectorTable& vector, const FeatureMap& map, int64_t dim,
              const float* projection);

  [[nodiscard]] int64_t count() const { return count_; }
  [[nodiscard]] bool has_levels() const { return map_.feature == Feature::kExponential; }
  // Elements of a row that Backward needs of Forward beside x and f; may be 0.
  [[nodiscard]] int64_t kept() const { return kept_; }
  // Elements of a row of Backward's working space.
  [[nodiscard]] int64_t work() const { return rows_; }

  // x [n, dim] -> f [n, M], kept [n, kept()] and, of exponential features, levels [n] (f is divided
  // by exp(level)); else levels are not touched.
  void Forward(const float* x, int64_t n, float* kept, float* f, float* levels) const;
  // d_f [n, M] -> d_x [n, dim], overwritten. d_f is the gradient with the levels held; where a
  // level counts beside f, it is as a factor exp(level). d_f and work [n, work()] are left
  // undefined.
  void Backward(const float* x, int64_t n, const float* kept, const float* f, float* d_f,
                float* work, float* d_x) const;

 private:
  // What the elementwise functions are of: w . x' for all rows w.
  const float* Projected(const float* x, int64_t n, float* kept) const;
  void ExponentialBackward(const float* x, int64_t n, const float* f, const float* d_f, float* work,
                           float* d_x) const;
  void ExponentialRowBackward(const float* f, const float* d_f, float* d_a) const;

  const VectorTable& vector_;
  const FeatureMap& map_;
  const int64_t dim_;
  const float* const projection_;
  const int64_t rows_;   // of the projection; dim without one
  const int64_t count_;  // M
  const int64_t kept_;
};

}  // namespace weft::kernels

#include "kernels/attention/scatterbrain/cpu/low_rank.h"

#include <algorithm>
#include <limits>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Columns or rows of a sum that one task takes, about.
constexpr int64_t kPart = 32;

int64_t PartsOf(int64_t width) { return std::max<int64_t>(1, width / kPart); }

// Part number `part` of `parts` nearly equal ones.
struct Stretch {
  Stretch(int64_t width, int64_t parts, int64_t part)
      : first(width * part / parts), count(width * (part + 1) / parts - first) {}
  int64_t first;
  int64_t count;
};

// exp(scale - reference); nothing has no weight.
float Fading(const VectorTable& vector, float scale, float reference) {
  if (scale == kNothing) return 0.0F;
  if (scale == reference) return 1.0F;
  float fading = scale - reference;
  vector.exp(&fading, &fading, 1);
  return fading;
}

// The m of the last key of a tile: of all keys up to it, when causal.
float LastScale(const HeadTask& task, int64_t key_tile) {
  return task.space.key_scale[std::min((key_tile + 1) * task.tiles.tile(), task.p.keys) - 1];
}

// The m that the sums outside a tile of queries are relative to.
float OutsideScale(const HeadTask& task, int64_t query_tile) {
  if (!task.p.causal) return task.p.keys == 0 ? kNothing : LastScale(task, 0);
  const int64_t tiles = task.tiles.Filled(query_tile).begin;
  return tiles == 0 ? kNothing : LastScale(task, tiles - 1);
}

// ---- A running sum of products

struct SumSpace {
  SumSpace(const ScatterbrainProblem& p, Carver& carver)
      : sum(carver.Take(std::max(p.features * 2 * kPart, 2 * kPart * (p.value_dim + 1)))),
        rows(carver.Take(kTile * (p.value_dim + 1))) {}
  float* sum;
  float* rows;  // of a tile, scaled
};

// sum [features of a part, columns of a part] of features^T rows over tiles of tokens.
class RunningSum {
 public:
  // features [n, r], rows [n, Dv + 1].
  RunningSum(const HeadTask& task, const float* features, Stretch feature_part, const float* rows,
             Stretch value_part)
      : task_(task),
        features_(features),
        feature_part_(feature_part),
        rows_(rows),
        value_part_(value_part),
        space_(ThreadSpace<SumSpace>(task.p)) {}

  void Clear() {
    std::fill_n(space_.sum, feature_part_.count * value_part_.count, 0.0F);
    scale_ = kNothing;
    empty_ = true;
  }
  [[nodiscard]] bool empty() const { return empty_; }
  [[nodiscard]] const float* sum() const { return space_.sum; }
  [[nodiscard]] float scale() const { return scale_; }

  // The sum is relative to `scale` from now on: its terms times exp(before - scale), or, where
  // `towards` the smaller scale, times exp(scale - before).
  void MoveUp(float scale) { Move(scale, Fading(task_.vector, scale_, scale)); }
  void MoveDown(float scale) { Move(scale, Fading(task_.vector, scale, scale_)); }

  // Adds the tokens of a tile. `scales`: their own, to be taken relative to the sum's; null where
  // all are equal.
  void Add(const TileRows& tile, const float* scales) {
    const int64_t width = task_.p.value_dim + 1;
    const float* rows = rows_ + tile.first * width + value_part_.first;
    int64_t stride = width;
    if (scales != nullptr && scales[tile.first] != scale_) {
      for (int64_t t = tile.first; t < tile.last; ++t) {
        task_.vector.scale(Fading(task_.vector, scales[t], scale_),
                           rows_ + t * width + value_part_.first,
                           space_.rows + (t - tile.first) * value_part_.count, value_part_.count);
      }
      rows = space_.rows;
      stride = value_part_.count;
    }
    Gemm(kTransposed, kPlain, feature_part_.count, value_part_.count, tile.count(), 1.0F,
         features_ + tile.first * task_.p.features + feature_part_.first, task_.p.features, rows,
         stride, 1.0F, space_.sum, value_part_.count);
    empty_ = false;
  }

  // to [n, columns] = or += features [n, r] of a tile times the sum (whose part is all features).
  void TimesFeatures(const TileRows& tile, const float* features, bool accumulate, float* to,
                     int64_t stride) const {
    Gemm(kPlain, kPlain, tile.count(), value_part_.count, task_.p.features, 1.0F,
         features + tile.first * task_.p.features, task_.p.features, space_.sum, value_part_.count,
         accumulate ? 1.0F : 0.0F, to + tile.first * stride + value_part_.first, stride);
  }
  // to [n, features of the part] = or += rows [n, Dv + 1] of a tile times the sum transposed.
  void TimesRows(const TileRows& tile, const float* rows, bool accumulate, float* to) const {
    const int64_t width = task_.p.value_dim + 1;
    Gemm(kPlain, kTransposed, tile.count(), feature_part_.count, width, 1.0F,
         rows + tile.first * width, width, space_.sum, width, accumulate ? 1.0F : 0.0F,
         to + tile.first * task_.p.features + feature_part_.first, task_.p.features);
  }

 private:
  void Move(float scale, float fading) {
    if (scale_ != kNothing && fading != 1.0F) {
      const int64_t count = feature_part_.count * value_part_.count;
      task_.vector.scale(fading, space_.sum, space_.sum, count);
    }
    scale_ = scale;
  }

  const HeadTask& task_;
  const float* features_;
  const Stretch feature_part_;
  const float* rows_;
  const Stretch value_part_;
  const SumSpace space_;
  float scale_ = kNothing;
  bool empty_ = true;
};

// ---- Which tiles are outside of which

// For each tile of queries use(tile, accumulate), with all key tiles added that are outside of it:
// first those before, then, unless causal, those behind.
template <typename Use>
void OverKeys(const HeadTask& task, RunningSum& sum, const Use& use) {
  const Tiles& tiles = task.tiles;
  const float* const scales = task.p.causal ? task.space.key_scale : nullptr;
  const auto add = [&](int64_t tile) {
    if (task.p.causal) sum.MoveUp(LastScale(task, tile));
    sum.Add(TileRows(tile, task.p.keys, tiles.tile()), scales);
  };
  sum.Clear();
  int64_t next = 0;
  for (int64_t tile = 0; tile < tiles.query_tiles(); ++tile) {
    for (; next < tiles.Filled(tile).begin; ++next) add(next);
    use(tile, /*accumulate=*/false);
  }
  if (task.p.causal) return;
  sum.Clear();
  next = tiles.key_tiles() - 1;
  for (int64_t tile = tiles.query_tiles() - 1; tile >= 0; --tile) {
    for (; next >= tiles.Filled(tile).end; --next) add(next);
    use(tile, /*accumulate=*/true);
  }
}

// The same with queries and keys in each other's place.
template <typename Use>
void OverQueries(const HeadTask& task, RunningSum& sum, const Use& use) {
  const Tiles& tiles = task.tiles;
  const auto add = [&](int64_t tile) {
    // An earlier tile has fewer keys outside: a smaller scale.
    if (task.p.causal) sum.MoveDown(OutsideScale(task, tile));
    sum.Add(TileRows(tile, task.p.queries, tiles.tile()), nullptr);
  };
  sum.Clear();
  int64_t next = tiles.query_tiles() - 1;
  for (int64_t tile = tiles.key_tiles() - 1; tile >= 0; --tile) {
    for (; next >= 0 && tiles.Filled(next).begin > tile; --next) add(next);
    use(tile, /*accumulate=*/false);
  }
  if (task.p.causal) return;
  sum.Clear();
  next = 0;
  for (int64_t tile = 0; tile < tiles.key_tiles(); ++tile) {
    for (; next < tiles.query_tiles() && tiles.Filled(next).end <= tile; ++next) add(next);
    use(tile, /*accumulate=*/true);
  }
}

// Some columns of the rows of a tile become zero, or are multiplied by a factor a row.
void ClearRows(const TileRows& tile, Stretch columns, int64_t stride, float* rows) {
  for (int64_t t = tile.first; t < tile.last; ++t) {
    std::fill_n(rows + t * stride + columns.first, columns.count, 0.0F);
  }
}
template <typename Factor>
void ScaleRows(const HeadTask& task, const TileRows& tile, Stretch columns, int64_t stride,
               const Factor& factor, float* rows) {
  for (int64_t t = tile.first; t < tile.last; ++t) {
    const float by = factor(t);
    float* const row = rows + t * stride + columns.first;
    if (by != 1.0F) task.vector.scale(by, row, row, columns.count);
  }
}

}  // namespace

int64_t ValueParts(const ScatterbrainProblem& p) { return PartsOf(p.value_dim + 1); }
int64_t FeatureParts(const ScatterbrainProblem& p) { return PartsOf(p.features); }

void OutsideValues(const HeadTask& task, int64_t value_part) {
  const ScatterbrainProblem& p = task.p;
  const int64_t width = p.value_dim + 1;
  const Stretch part(width, ValueParts(p), value_part);
  RunningSum sum(task, task.space.psi, Stretch(p.features, 1, 0), task.space.v1, part);
  OverKeys(task, sum, [&](int64_t tile, bool accumulate) {
    const TileRows rows(tile, p.queries, task.tiles.tile());
    if (sum.empty()) {
      if (!accumulate) ClearRows(rows, part, width, task.space.o1);
      return;
    }
    sum.TimesFeatures(rows, task.space.phi, accumulate, task.space.o1, width);
    if (!p.causal) return;
    ScaleRows(
        task, rows, part, width,
        [&](int64_t i) { return Fading(task.vector, sum.scale(), task.SeenScale(i)); },
        task.space.o1);
  });
}

void ScaleGradients(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const int64_t width = p.value_dim + 1;
  const TileRows rows(tile, p.queries, task.tiles.tile());
  const float outside = OutsideScale(task, tile);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const float scale = task.space.query_scale[i];
    const bool nothing = scale == kNothing || outside == kNothing;
    const float factor =
        nothing ? 0.0F : Fading(task.vector, scale + outside, task.space.log_normaliser[i]);
    task.vector.scale(factor, task.space.g1 + i * width, task.space.g1_outside + i * width, width);
  }
}

void OutsideQueryGradients(const HeadTask& task, int64_t feature_part) {
  const ScatterbrainProblem& p = task.p;
  const Stretch part(p.features, FeatureParts(p), feature_part);
  RunningSum sum(task, task.space.psi, part, task.space.v1, Stretch(p.value_dim + 1, 1, 0));
  OverKeys(task, sum, [&](int64_t tile, bool accumulate) {
    const TileRows rows(tile, p.queries, task.tiles.tile());
    if (!sum.empty()) {
      sum.TimesRows(rows, task.space.g1_outside, accumulate, task.space.d_phi);
    } else if (!accumulate) {
      ClearRows(rows, part, p.features, task.space.d_phi);
    }
  });
}

void OutsideKeyGradients(const HeadTask& task, int64_t feature_part) {
  const ScatterbrainProblem& p = task.p;
  const Stretch part(p.features, FeatureParts(p), feature_part);
  RunningSum sum(task, task.space.phi, part, task.space.g1_outside, Stretch(p.value_dim + 1, 1, 0));
  OverQueries(task, sum, [&](int64_t tile, bool accumulate) {
    const TileRows rows(tile, p.keys, task.tiles.tile());
    if (sum.empty()) {
      if (!accumulate) ClearRows(rows, part, p.features, task.space.d_psi);
      return;
    }
    sum.TimesRows(rows, task.space.v1, accumulate, task.space.d_psi);
    if (!p.causal) return;
    ScaleRows(
        task, rows, part, p.features,
        [&](int64_t j) { return Fading(task.vector, task.space.key_scale[j], sum.scale()); },
        task.space.d_psi);
  });
}

void OutsideValueGradients(const HeadTask& task, int64_t value_part) {
  const ScatterbrainProblem& p = task.p;
  const Stretch part(p.value_dim, ValueParts(p), value_part);
  RunningSum sum(task, task.space.phi, Stretch(p.features, 1, 0), task.space.g1_outside, part);
  OverQueries(task, sum, [&](int64_t tile, bool accumulate) {
    const TileRows rows(tile, p.keys, task.tiles.tile());
    if (sum.empty()) {
      if (!accumulate) ClearRows(rows, part, p.value_dim, task.space.d_v);
      return;
    }
    sum.TimesFeatures(rows, task.space.psi, accumulate, task.space.d_v, p.value_dim);
    if (!p.causal) return;
    ScaleRows(
        task, rows, part, p.value_dim,
        [&](int64_t j) { return Fading(task.vector, task.space.key_scale[j], sum.scale()); },
        task.space.d_v);
  });
}

}  // namespace weft::kernels::scatterbrain

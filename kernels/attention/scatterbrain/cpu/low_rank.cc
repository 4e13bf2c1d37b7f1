#include "kernels/attention/scatterbrain/cpu/low_rank.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Rows of the [r, Dv + 1] sums that one task adds up.
constexpr int64_t kSumRows = 16;

struct TileSpace {
  TileSpace(const ScatterbrainProblem& p, Carver& carver)
      : rows(carver.Take(kTile * (p.value_dim + 1))),
        factors(carver.Take(kTile)),
        scaled(carver.Take(kTotalTile * (p.value_dim + 1))) {}
  float* rows;     // [rows, Dv + 1]
  float* factors;  // [rows]
  float* scaled;   // [rows of a sum, Dv + 1]
};

// exp(scale - reference), where both may be minus infinity: nothing has no weight.
float Fading(const VectorTable& vector, float scale, float reference) {
  if (scale == kNothing) return 0.0F;
  float fading = scale - reference;
  vector.exp(&fading, &fading, 1);
  return fading;
}

// The stretch of the flattened [r, Dv + 1] sums that a part covers.
struct Stretch {
  Stretch(const HeadTask& task, int64_t part)
      : first(part * kSumRows * (task.p.value_dim + 1)),
        count(std::min(first + kSumRows * (task.p.value_dim + 1), task.sum_count()) - first) {}
  int64_t first;
  int64_t count;
};

// sum = sum * fading + addend, elementwise.
void Fold(const VectorTable& vector, float fading, const float* addend, float* sum, int64_t count) {
  if (fading == 1.0F) {
    vector.add(addend, sum, sum, count);
  } else {
    vector.combine(1.0F, addend, fading, sum, sum, count);
  }
}

// The one sum of all sum tiles.
void SumAll(const HeadTask& task, int64_t tiles, Stretch stretch) {
  float* const to = task.space.outside + stretch.first;
  std::fill_n(to, stretch.count, 0.0F);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    task.vector.add(task.space.key_sums + tile * task.sum_count() + stretch.first, to, to,
                    stretch.count);
  }
}

float LastScale(const HeadTask& task, int64_t key_tile) {
  return task.space.key_scale[std::min((key_tile + 1) * kTile, task.p.keys) - 1];
}

// Which sum a tile of queries or keys uses.
float* OutsideOf(const HeadTask& task, int64_t tile) {
  return task.space.outside + (task.tiles.one_sum() ? 0 : tile) * task.sum_count();
}

}  // namespace

int64_t SumParts(const ScatterbrainProblem& p) { return TilesOf(p.features, kSumRows); }

void KeySum(const HeadTask& task, int64_t sum_tile) {
  const ScatterbrainProblem& p = task.p;
  const int64_t width = p.value_dim + 1;
  const int64_t first = sum_tile * task.tiles.sum_tile();
  const int64_t last = std::min(first + task.tiles.sum_tile(), p.keys);
  const float* v1 = task.space.v1 + first * width;
  if (p.causal) {
    const auto space = ThreadSpace<TileSpace>(p);
    const float scale = task.space.key_scale[last - 1];
    for (int64_t j = first; j < last; ++j) {
      task.vector.scale(Fading(task.vector, task.space.key_scale[j], scale),
                        task.space.v1 + j * width, space.scaled + (j - first) * width, width);
    }
    v1 = space.scaled;
  }
  Gemm(kTransposed, kPlain, p.features, width, last - first, 1.0F,
       task.space.psi + first * p.features, p.features, v1, width, 0.0F,
       task.space.key_sums + sum_tile * task.sum_count(), width);
}

void SumOutside(const HeadTask& task, int64_t part) {
  const Stretch stretch(task, part);
  const HeadSpace& space = task.space;
  const int64_t query_tiles = task.tiles.query_tiles();
  if (task.tiles.one_sum()) {
    SumAll(task, task.tiles.key_sums(), stretch);
    if (part == 0 && task.p.keys > 0) {
      std::fill_n(space.outside_scale, query_tiles, task.SeenScale(0));
    }
    return;
  }
  // Keys before the filled tiles: a running sum, in units of the last key's scale.
  float scale = kNothing;
  int64_t next = 0;
  for (int64_t tile = 0; tile < query_tiles; ++tile) {
    float* const to = OutsideOf(task, tile) + stretch.first;
    if (tile == 0) {
      std::fill_n(to, stretch.count, 0.0F);
    } else {
      std::copy_n(to - task.sum_count(), stretch.count, to);
    }
    for (; next < task.tiles.Filled(tile).begin; ++next) {
      const float before = scale;
      scale = LastScale(task, next);
      Fold(task.vector, before == scale ? 1.0F : Fading(task.vector, before, scale),
           space.key_sums + next * task.sum_count() + stretch.first, to, stretch.count);
    }
    if (part == 0) space.outside_scale[tile] = task.p.causal ? scale : task.SeenScale(tile);
  }
  if (task.p.causal) return;
  // Keys behind them. The sum grows in the place of the last tile's, which is then its own.
  const auto tile_space = ThreadSpace<TileSpace>(task.p);
  float* const behind = tile_space.scaled;
  std::fill_n(behind, stretch.count, 0.0F);
  next = task.tiles.key_tiles() - 1;
  for (int64_t tile = query_tiles - 1; tile >= 0; --tile) {
    for (; next >= task.tiles.Filled(tile).end; --next) {
      task.vector.add(space.key_sums + next * task.sum_count() + stretch.first, behind, behind,
                      stretch.count);
    }
    float* const to = OutsideOf(task, tile) + stretch.first;
    task.vector.add(behind, to, to, stretch.count);
  }
}

void StartQueries(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const int64_t width = p.value_dim + 1;
  const int64_t first = tile * kTile;
  const int64_t count = std::min(kTile, p.queries - first);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  Gemm(kPlain, kPlain, count, width, p.features, 1.0F, space.phi + first * p.features, p.features,
       OutsideOf(task, tile), width, 0.0F, tile_space.rows, width);
  for (int64_t i = first; i < first + count; ++i) {
    const float* const row = tile_space.rows + (i - first) * width;
    const float seen = p.keys == 0 ? kNothing : task.SeenScale(i);
    const float fading = p.keys == 0 || space.query_scale[i] == kNothing
                             ? 0.0F
                             : Fading(task.vector, space.outside_scale[tile], seen);
    task.vector.scale(fading, row, space.o + i * p.value_dim, p.value_dim);
    space.low_rank_mass[i] = fading * row[p.value_dim];
    space.exact_mass[i] = 0.0F;
    space.reference[i] = seen == kNothing ? kNothing : space.query_scale[i] + seen;
  }
}

void StartQueryGradients(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const int64_t width = p.value_dim + 1;
  const int64_t first = tile * kTile;
  const int64_t count = std::min(kTile, p.queries - first);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  for (int64_t i = first; i < first + count; ++i) {
    const float exponent = p.keys == 0 || space.query_scale[i] == kNothing
                               ? kNothing
                               : space.query_scale[i] + space.outside_scale[tile];
    tile_space.factors[i - first] = Fading(task.vector, exponent, space.log_normaliser[i]);
    task.vector.scale(tile_space.factors[i - first], space.g1 + i * width,
                      tile_space.rows + (i - first) * width, width);
  }
  Gemm(kPlain, kTransposed, count, p.features, width, 1.0F, tile_space.rows, width,
       OutsideOf(task, tile), width, 0.0F, space.d_phi + first * p.features, p.features);
  std::fill_n(space.d_query_u + first * p.key_dim, count * p.key_dim, 0.0F);
}

void QuerySum(const HeadTask& task, int64_t sum_tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const int64_t width = p.value_dim + 1;
  const int64_t first = sum_tile * task.tiles.sum_tile();
  const int64_t last = std::min(first + task.tiles.sum_tile(), p.queries);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  for (int64_t i = first; i < last; ++i) {
    const float exponent = p.keys == 0 || space.query_scale[i] == kNothing
                               ? kNothing
                               : space.query_scale[i] + space.outside_scale[i / kTile];
    task.vector.scale(Fading(task.vector, exponent, space.log_normaliser[i]), space.g1 + i * width,
                      tile_space.scaled + (i - first) * width, width);
  }
  Gemm(kTransposed, kPlain, p.features, width, last - first, 1.0F, space.phi + first * p.features,
       p.features, tile_space.scaled, width, 0.0F, space.key_sums + sum_tile * task.sum_count(),
       width);
}

void SumOutsideKeys(const HeadTask& task, int64_t part) {
  const Stretch stretch(task, part);
  const HeadSpace& space = task.space;
  const int64_t key_tiles = task.tiles.key_tiles();
  const int64_t query_tiles = task.tiles.query_tiles();
  if (task.tiles.one_sum()) {
    SumAll(task, task.tiles.query_sums(), stretch);
    if (part == 0 && task.p.keys > 0) {
      std::fill_n(space.key_outside_scale, key_tiles, task.SeenScale(0));
    }
    return;
  }
  // Queries behind the tiles that fill a key in: a sum that grows from the last tile.
  float scale = task.p.causal ? kNothing : 0.0F;
  int64_t next = query_tiles - 1;
  for (int64_t tile = key_tiles - 1; tile >= 0; --tile) {
    float* const to = OutsideOf(task, tile) + stretch.first;
    if (tile == key_tiles - 1) {
      std::fill_n(to, stretch.count, 0.0F);
    } else {
      std::copy_n(to + task.sum_count(), stretch.count, to);
    }
    for (; next >= 0 && task.tiles.Filled(next).begin > tile; --next) {
      // An earlier tile's outside holds fewer keys: its scale is smaller, or the same.
      const float before = scale;
      scale = space.outside_scale[next];
      const float fading =
          before == kNothing || before == scale ? 1.0F : Fading(task.vector, scale, before);
      Fold(task.vector, fading, space.key_sums + next * task.sum_count() + stretch.first, to,
           stretch.count);
    }
    if (part == 0) space.key_outside_scale[tile] = scale;
  }
  if (task.p.causal) return;
  const auto tile_space = ThreadSpace<TileSpace>(task.p);
  float* const before = tile_space.scaled;
  std::fill_n(before, stretch.count, 0.0F);
  next = 0;
  for (int64_t tile = 0; tile < key_tiles; ++tile) {
    for (; next < query_tiles && task.tiles.Filled(next).end <= tile; ++next) {
      task.vector.add(space.key_sums + next * task.sum_count() + stretch.first, before, before,
                      stretch.count);
    }
    float* const to = OutsideOf(task, tile) + stretch.first;
    task.vector.add(before, to, to, stretch.count);
    if (part == 0) space.key_outside_scale[tile] = task.SeenScale(0);
  }
}

void StartKeyGradients(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const int64_t width = p.value_dim + 1;
  const int64_t first = tile * kTile;
  const int64_t count = std::min(kTile, p.keys - first);
  const float* const outside = OutsideOf(task, tile);
  float* const d_psi = space.d_psi + first * p.features;
  float* const d_v = space.d_v + first * p.value_dim;
  std::fill_n(space.d_key_u + first * p.key_dim, count * p.key_dim, 0.0F);
  Gemm(kPlain, kTransposed, count, p.features, width, 1.0F, space.v1 + first * width, width,
       outside, width, 0.0F, d_psi, p.features);
  Gemm(kPlain, kPlain, count, p.value_dim, p.features, 1.0F, space.psi + first * p.features,
       p.features, outside, width, 0.0F, d_v, p.value_dim);
  if (!p.causal) return;
  for (int64_t j = 0; j < count; ++j) {
    // No query behind: the sums are zero, and so is their scale's meaning.
    const float scale = space.key_outside_scale[tile];
    const float factor =
        scale == kNothing ? 0.0F : Fading(task.vector, space.key_scale[first + j], scale);
    task.vector.scale(factor, d_psi + j * p.features, d_psi + j * p.features, p.features);
    task.vector.scale(factor, d_v + j * p.value_dim, d_v + j * p.value_dim, p.value_dim);
  }
}

}  // namespace weft::kernels::scatterbrain

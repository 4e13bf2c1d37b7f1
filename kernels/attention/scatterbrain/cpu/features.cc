#include "kernels/attention/scatterbrain/cpu/features.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Working space of one tile of either side.
struct TileSpace {
  TileSpace(const ScatterbrainProblem& p, Carver& carver)
      : products(carver.Take(kTile * p.feature_rows())), row(carver.Take(p.features)) {}
  float* products;  // [rows, feature_rows]: u W^T, or gradients of it
  float* row;       // [r]
};

float Offset(const ScatterbrainProblem& p) {
  return static_cast<float>(p.epsilon / std::sqrt(static_cast<double>(p.features)));
}

float HalfLogFeatures(const ScatterbrainProblem& p) {
  return static_cast<float>(std::log(static_cast<double>(p.features)) / 2);
}

// u = sqrt(scale) times the rows of a head.
void LoadScaled(const HeadTask& task, const HeadRows& from, TileRows rows, float* u) {
  const auto root = static_cast<float>(std::sqrt(task.p.scale));
  for (int64_t t = rows.first; t < rows.last; ++t) {
    task.vector.scale(root, from.Row(t), u + t * task.p.key_dim, task.p.key_dim);
  }
}

// to[rows, feature_rows] = u W^T
void Project(const HeadTask& task, TileRows rows, const float* u, float* to, int64_t stride) {
  const int64_t width = task.p.feature_rows();
  Gemm(Transpose::kNo, Transpose::kNo, rows.count(), width, task.p.key_dim, 1.0F,
       u + rows.first * task.p.key_dim, task.p.key_dim, task.transposed_w, width, 0.0F, to, stride);
}

// stored = exp(x - shift) + offset of the signed rows, from the products x = W u.
void Exponentials(const HeadTask& task, const float* x, float shift, float* stored) {
  const int64_t rows = task.p.feature_rows();
  if (task.p.hyperbolic) task.vector.exp_sum(-1.0F, x, shift, stored + rows, rows);
  task.vector.exp_sum(1.0F, x, shift, stored, rows);
  if (task.p.epsilon > 0.0) task.vector.axpy(Offset(task.p), task.ones, stored, task.p.features);
}

// The largest of W u over signed rows; `row` is overwritten.
float LargestProduct(const HeadTask& task, const float* x, float* row) {
  const int64_t rows = task.p.feature_rows();
  const float largest = task.vector.max(x, rows);
  if (!task.p.hyperbolic) return largest;
  task.vector.scale(-1.0F, x, row, rows);
  return std::max(largest, task.vector.max(row, rows));
}

// The first signed row where W u is largest.
int64_t TopFeature(const ScatterbrainProblem& p, const float* x) {
  const int64_t rows = p.feature_rows();
  const auto top = static_cast<int64_t>(std::max_element(x, x + rows) - x);
  if (!p.hyperbolic) return top;
  const auto low = static_cast<int64_t>(std::min_element(x, x + rows) - x);
  return -x[low] > x[top] ? rows + low : top;
}

// to += factor * w_l of a signed row.
void AddFeatureRow(const HeadTask& task, int64_t feature, float factor, float* to) {
  const int64_t rows = task.p.feature_rows();
  task.vector.axpy(feature < rows ? factor : -factor,
                   task.in.w.data<float>() + feature % rows * task.p.key_dim, to, task.p.key_dim);
}

// gamma = d_stored * (stored - offset), the gradients of the exponents, folded over the two signs
// into `folded` [feature_rows]. Returns their sum.
float ExponentGradients(const HeadTask& task, const float* stored, const float* d_stored,
                        float* row, float* folded) {
  const int64_t rows = task.p.feature_rows();
  task.vector.multiply(d_stored, stored, row, task.p.features);
  if (task.p.epsilon > 0.0) task.vector.axpy(-Offset(task.p), d_stored, row, task.p.features);
  if (task.p.hyperbolic) {
    task.vector.combine(1.0F, row, -1.0F, row + rows, folded, rows);
  } else {
    std::copy_n(row, rows, folded);
  }
  return task.vector.sum(row, task.p.features);
}

// d_u += folded W for the rows of a tile.
void AddFolded(const HeadTask& task, TileRows rows, const float* folded, float* d_u) {
  const int64_t width = task.p.feature_rows();
  Gemm(Transpose::kNo, Transpose::kNo, rows.count(), task.p.key_dim, width, 1.0F, folded, width,
       task.in.w.data<float>(), task.p.key_dim, 1.0F, d_u + rows.first * task.p.key_dim,
       task.p.key_dim);
}

}  // namespace

void QueryFeatures(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const TileRows rows(tile, p.queries);
  const auto space = ThreadSpace<TileSpace>(p);
  LoadScaled(task, {task.in.q, task.batch, task.head}, rows, task.space.query_u);
  Project(task, rows, task.space.query_u, space.products, p.feature_rows());
  const float half_log = HalfLogFeatures(p);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const float* const x = space.products + (i - rows.first) * p.feature_rows();
    const float* const u = task.space.query_u + i * p.key_dim;
    const float largest = LargestProduct(task, x, space.row);
    Exponentials(task, x, largest, task.space.phi + i * p.features);
    task.space.query_scale[i] = largest - task.vector.dot(u, u, p.key_dim) / 2 - half_log;
  }
}

void KeyExponents(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const TileRows rows(tile, p.keys);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  const HeadRows values(task.in.v, task.batch, task.head);
  LoadScaled(task, {task.in.k, task.batch, task.head}, rows, space.key_u);
  Project(task, rows, space.key_u, space.psi + rows.first * p.features, p.features);
  const float half_log = HalfLogFeatures(p);
  for (int64_t j = rows.first; j < rows.last; ++j) {
    float* const v1 = space.v1 + j * (p.value_dim + 1);
    std::copy_n(values.Row(j), p.value_dim, v1);
    v1[p.value_dim] = 1.0F;
    const float* const u = space.key_u + j * p.key_dim;
    const float* const x = space.psi + j * p.features;
    space.key_scale[j] = !task.keys.Holds(j) ? kNothing
                                             : LargestProduct(task, x, tile_space.row) -
                                                   task.vector.dot(u, u, p.key_dim) / 2 - half_log;
    if (space.top_feature != nullptr && p.epsilon > 0.0) {
      space.top_feature[j] = static_cast<float>(TopFeature(p, x));
    }
  }
}

void KeyScales(const HeadTask& task) {
  float* const first = task.space.key_scale;
  float* const last = first + task.p.keys;
  for (float* m = first; m + 1 < last; ++m) m[1] = std::max(m[0], m[1]);
  if (task.p.causal || task.p.keys == 0) return;
  const int64_t top = std::lower_bound(first, last, last[-1]) - first;
  if (task.space.top_key != nullptr) *task.space.top_key = static_cast<float>(top);
  std::fill(first, last, last[-1]);
}

void KeyFeatures(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const TileRows rows(tile, p.keys);
  const float half_log = HalfLogFeatures(p);
  for (int64_t j = rows.first; j < rows.last; ++j) {
    float* const psi = task.space.psi + j * p.features;
    if (!task.keys.Holds(j)) {
      std::fill_n(psi, p.features, 0.0F);
      continue;
    }
    const float* const u = task.space.key_u + j * p.key_dim;
    const float shift = task.vector.dot(u, u, p.key_dim) / 2 + half_log + task.space.key_scale[j];
    Exponentials(task, psi, shift, psi);
  }
}

void QueryFeaturesBackward(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const TileRows rows(tile, p.queries);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const float* const phi = space.phi + i * p.features;
    const float* const d_phi = space.d_phi + i * p.features;
    float* const d_u = space.d_query_u + i * p.key_dim;
    const float gamma =
        ExponentGradients(task, phi, d_phi, tile_space.row,
                          tile_space.products + (i - rows.first) * p.feature_rows());
    const float d_scale = p.epsilon > 0.0 ? task.vector.dot(d_phi, phi, p.features) : gamma;
    task.vector.axpy(-d_scale, space.query_u + i * p.key_dim, d_u, p.key_dim);
  }
  AddFolded(task, rows, tile_space.products, space.d_query_u);
  if (p.epsilon == 0.0) return;
  // What the largest product gets beside its exponent, epsilon times the sum of the gradients.
  Project(task, rows, space.query_u, tile_space.products, p.feature_rows());
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const float* const x = tile_space.products + (i - rows.first) * p.feature_rows();
    const float d_top = Offset(p) * task.vector.sum(space.d_phi + i * p.features, p.features);
    AddFeatureRow(task, TopFeature(p, x), d_top, space.d_query_u + i * p.key_dim);
  }
}

void KeyFeaturesBackward(const HeadTask& task, int64_t tile) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const TileRows rows(tile, p.keys);
  const auto tile_space = ThreadSpace<TileSpace>(p);
  for (int64_t j = rows.first; j < rows.last; ++j) {
    const float* const psi = space.psi + j * p.features;
    const float* const d_psi = space.d_psi + j * p.features;
    float* const folded = tile_space.products + (j - rows.first) * p.feature_rows();
    if (!task.keys.Holds(j)) {
      std::fill_n(folded, p.feature_rows(), 0.0F);
      continue;
    }
    const float gamma = ExponentGradients(task, psi, d_psi, tile_space.row, folded);
    task.vector.axpy(-gamma, space.key_u + j * p.key_dim, space.d_key_u + j * p.key_dim, p.key_dim);
    if (p.epsilon > 0.0) {
      space.d_key_scale[j] = Offset(p) * task.vector.sum(d_psi, p.features);
    }
  }
  AddFolded(task, rows, tile_space.products, space.d_key_u);
}

void KeyScalesBackward(const HeadTask& task) {
  const ScatterbrainProblem& p = task.p;
  const HeadSpace& space = task.space;
  const auto give = [&](int64_t top, float d_scale) {
    float* const d_u = space.d_key_u + top * p.key_dim;
    AddFeatureRow(task, static_cast<int64_t>(space.top_feature[top]), d_scale, d_u);
    task.vector.axpy(-d_scale, space.key_u + top * p.key_dim, d_u, p.key_dim);
  };
  // In a causal problem m rises exactly at the keys that attain it.
  int64_t top = p.causal ? -1 : static_cast<int64_t>(*space.top_key);
  float total = 0.0F;
  for (int64_t j = 0; j < p.keys; ++j) {
    if (!task.keys.Holds(j)) continue;
    if (p.causal && (j == 0 || space.key_scale[j] > space.key_scale[j - 1])) {
      if (top >= 0) give(top, total);
      top = j;
      total = 0.0F;
    }
    total += space.d_key_scale[j];
  }
  if (top >= 0 && total != 0.0F) give(top, total);
}

}  // namespace weft::kernels::scatterbrain

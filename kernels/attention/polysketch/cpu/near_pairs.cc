#include "kernels/attention/polysketch/cpu/near_pairs.h"

#include <algorithm>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Loads the queries times the scale: the products carry it, and so do the gradients of keys.
void LoadQueries(const NearPairs& pairs, const NearRows& rows, float* q) {
  const int64_t width = pairs.q.width;
  for (int64_t i = 0; i < rows.count; ++i) {
    pairs.vector.scale(pairs.scale, pairs.q.Row(rows.first + i), q + i * width, width);
  }
}

// A key that nobody sees becomes zero: zero are then all its weights and gradients, since p >= 2.
void LoadKeys(const NearPairs& pairs, int64_t begin, int64_t count, float* k) {
  pairs.k.Load(begin, count, k);
  if (pairs.valid == nullptr) return;
  for (int64_t j = 0; j < count; ++j) {
    if (pairs.valid[begin + j] == 0) std::fill_n(k + j * pairs.k.width, pairs.k.width, 0.0F);
  }
}

// One tile of keys, and the queries that see any of it: rows [skipped, rows.count).
struct Tile {
  int64_t begin;
  int64_t count;
  int64_t skipped;
};

// Calls body(tile) for all tiles of keys that some query sees.
template <typename Body>
void ForTiles(const NearPairs& pairs, const NearRows& rows, Body body) {
  for (int64_t begin = rows.begin; begin < rows.end; begin += kNearKeys) {
    const int64_t count = std::min(kNearKeys, rows.end - begin);
    // Query i sees the keys up to offset + i.
    const int64_t skipped =
        pairs.causal ? std::max<int64_t>(0, begin - pairs.offset - rows.first) : 0;
    if (skipped < rows.count) body(Tile{begin, count, skipped});
  }
}

// Keys of the tile that row i of the queries sees: the first ones.
int64_t SeenOf(const NearPairs& pairs, const NearRows& rows, const Tile& tile, int64_t i) {
  if (!pairs.causal) return tile.count;
  return std::min(tile.count, pairs.offset + rows.first + i + 1 - tile.begin);
}

// Products of the seeing queries with the tile, into space.x [queries, tile.count].
void Products(const NearPairs& pairs, const NearRows& rows, const Tile& tile,
              const NearForwardSpace& space) {
  const int64_t width = pairs.q.width;
  LoadKeys(pairs, tile.begin, tile.count, space.k);
  pairs.v.Load(tile.begin, tile.count, space.v);
  Gemm(kPlain, kTransposed, rows.count - tile.skipped, tile.count, width, 1.0F,
       space.q + tile.skipped * width, width, space.k, width, 0.0F,
       space.x + tile.skipped * tile.count, tile.count);
}

}  // namespace

void NearForward(const NearPairs& pairs, const NearRows& rows, const NearForwardSpace& space,
                 float* num, float* den) {
  const int64_t dim = pairs.v.width;
  LoadQueries(pairs, rows, space.q);
  ForTiles(pairs, rows, [&](const Tile& tile) {
    Products(pairs, rows, tile, space);
    for (int64_t i = tile.skipped; i < rows.count; ++i) {
      const int64_t seen = SeenOf(pairs, rows, tile, i);
      float* const x_row = space.x + i * tile.count;
      den[i] += pairs.vector.even_power(pairs.squarings, x_row, x_row, seen);
      std::fill(x_row + seen, x_row + tile.count, 0.0F);
    }
    Gemm(kPlain, kPlain, rows.count - tile.skipped, dim, tile.count, 1.0F,
         space.x + tile.skipped * tile.count, tile.count, space.v, dim, 1.0F,
         num + tile.skipped * dim, dim);
  });
}

void NearBackward(const NearPairs& pairs, const NearRows& rows, const NearBackwardSpace& space,
                  const float* d_num, const float* d_den, float* d_q, float* d_k, float* d_v) {
  const int64_t dim = pairs.v.width;
  const int64_t width = pairs.q.width;
  const NearForwardSpace& forward = space.forward;
  LoadQueries(pairs, rows, forward.q);
  std::fill_n(d_q, rows.count * width, 0.0F);
  ForTiles(pairs, rows, [&](const Tile& tile) {
    const int64_t height = rows.count - tile.skipped;
    float* const x = forward.x + tile.skipped * tile.count;
    float* const d_x = space.d_x + tile.skipped * tile.count;
    const float* const d_num_seen = d_num + tile.skipped * dim;
    float* const d_k_tile = d_k + (tile.begin - rows.begin) * width;
    float* const d_v_tile = d_v + (tile.begin - rows.begin) * dim;
    Products(pairs, rows, tile, forward);
    Gemm(kPlain, kTransposed, height, tile.count, dim, 1.0F, d_num_seen, dim, forward.v, dim, 0.0F,
         d_x, tile.count);
    for (int64_t i = 0; i < height; ++i) {
      const int64_t seen = SeenOf(pairs, rows, tile, tile.skipped + i);
      float* const x_row = x + i * tile.count;
      float* const d_row = d_x + i * tile.count;
      pairs.vector.even_power_backward(pairs.squarings, x_row, -d_den[tile.skipped + i], d_row,
                                       seen);
      std::fill(x_row + seen, x_row + tile.count, 0.0F);
      std::fill(d_row + seen, d_row + tile.count, 0.0F);
    }
    Gemm(kTransposed, kPlain, tile.count, dim, height, 1.0F, x, tile.count, d_num_seen, dim, 1.0F,
         d_v_tile, dim);
    Gemm(kTransposed, kPlain, tile.count, width, height, 1.0F, d_x, tile.count,
         forward.q + tile.skipped * width, width, 1.0F, d_k_tile, width);
    Gemm(kPlain, kPlain, height, width, tile.count, pairs.scale, d_x, tile.count, forward.k, width,
         1.0F, d_q + tile.skipped * width, width);
  });
}

}  // namespace weft::kernels

// Softmax attention in tiles, fp32 (paper: see softmax.h). Forward: a block of queries on its own
// thread meets the keys it sees tile by tile and keeps a running maximum and sum. Backward: all
// queries of one key-value head on one thread, so that every sum has one owner and one order. Tiles
// follow from the problem alone, so bits do not depend on threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/cpu/dropout_row.h"
#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/softmax/softmax_kernels.h"
#include "kernels/attention/softmax/visible_keys.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// 256 x 128 logits are 128 KiB: with the tiles of q, k, v they fill a second-level cache of 512
// KiB.
constexpr int64_t kQueryBlock = 256;
constexpr int64_t kKeyTile = 128;
// Below this many queries a copy of the keys costs more than the product with strided ones.
constexpr int64_t kFewQueries = 8;

int64_t BlockRows(const SoftmaxProblem& p) { return std::min(p.queries, kQueryBlock); }
int64_t TileKeys(const SoftmaxProblem& p) { return std::min(p.keys, kKeyTile); }

// Among queries [first, last) those that see any key of [begin, end): one run, because both ends of
// what a query sees grow with it.
struct Rows {
  int64_t first;
  int64_t last;
};
Rows RowsThatSee(const SoftmaxProblem& p, Rows rows, int64_t begin, int64_t end) {
  while (rows.first < rows.last && VisibleKeys(p, rows.first).end <= begin) ++rows.first;
  while (rows.first < rows.last && VisibleKeys(p, rows.last - 1).begin >= end) --rows.last;
  return rows;
}

// What query i sees of the tile [begin, end), counted from begin.
KeyRange VisibleInTile(const SoftmaxProblem& p, int64_t i, int64_t begin, int64_t end) {
  const KeyRange seen = VisibleKeys(p, i);
  return {std::max(seen.begin, begin) - begin, std::min(seen.end, end) - begin};
}

// x = exp(scale * x - shift) where visible, 0 elsewhere; returns the sum. A shift of -infinity: of
// a query that has seen nothing but padding.
float ExpVisible(const VectorTable& vector, float scale, float shift, KeyRange seen, int64_t count,
                 float* x) {
  if (shift == kNothing) seen = {count, count};
  std::fill(x, x + seen.begin, 0.0F);
  std::fill(x + seen.end, x + count, 0.0F);
  return vector.exp_sum(scale, x + seen.begin, shift, x + seen.begin, seen.end - seen.begin);
}

// What keys add to their logits: -infinity for padding, 0 for others. Of one sequence.
class KeyBias {
 public:
  KeyBias(const SoftmaxProblem& p, const Tensor& valid) : keys_(p.keys) {
    if (!valid.present()) return;
    bias_.reserve(valid.count());
    for (int64_t j = 0; j < valid.count(); ++j) {
      bias_.push_back(valid.data<int32_t>()[j] == 0 ? kNothing : 0.0F);
    }
  }
  // Of key `key` of a sequence and those that follow; null when there is no padding at all.
  [[nodiscard]] const float* Row(int64_t sequence, int64_t key) const {
    return bias_.empty() ? nullptr : bias_.data() + sequence * keys_ + key;
  }

 private:
  int64_t keys_;
  std::vector<float> bias_;  // [B, S]
};

// Whether the keys [begin, end) are all padding, or none is. `bias`: of the sequence.
bool OnlyPadding(const float* bias, int64_t begin, int64_t end) {
  return bias != nullptr &&
         std::all_of(bias + begin, bias + end, [](float b) { return b == kNothing; });
}
bool NoPadding(const float* bias, int64_t begin, int64_t end) {
  return bias == nullptr ||
         std::all_of(bias + begin, bias + end, [](float b) { return b == 0.0F; });
}

// x [rows, count] += bias of a tile's keys.
void AddBias(const VectorTable& vector, const float* bias, int64_t rows, int64_t count, float* x) {
  for (int64_t row = 0; row < rows; ++row) {
    vector.add(x + row * count, bias, x + row * count, count);
  }
}

// ---- Forward

struct ForwardSpace {
  ForwardSpace(const SoftmaxProblem& p, Carver& carver)
      : q(carver.Take(BlockRows(p) * p.head_dim)),
        k(carver.Take(TileKeys(p) * p.head_dim)),
        v(carver.Take(TileKeys(p) * p.head_dim)),
        x(carver.Take(BlockRows(p) * TileKeys(p))),
        o(carver.Take(BlockRows(p) * p.head_dim)),
        largest(carver.Take(BlockRows(p))),
        fading(carver.Take(BlockRows(p))),
        sum(carver.Take(BlockRows(p))) {}

  float* q;        // [rows, D]
  float* k;        // [keys of the tile, D]
  float* v;        // [keys of the tile, D]
  float* x;        // [rows, keys of the tile]: logits / scale, then exponentials
  float* o;        // [rows, D]: sum of exponentials times values
  float* largest;  // [rows]: the largest logit so far
  float* fading;   // [rows]: by how much the tile diminishes what came before
  float* sum;      // [rows]: sum of exponentials
};

struct ForwardBlock {
  const SoftmaxProblem& p;
  const VectorTable& vector;
  const ForwardSpace& space;
  HeadRows k, v;
  Rows rows;          // the queries of the block
  const float* bias;  // [S] of the keys; null: no padding
  DrawSite site;      // of dropout
};

// Turns the logits of `seeing` queries with the tile into exponentials, and what was summed before
// into the same measure.
void SoftmaxTile(const ForwardBlock& block, Rows seeing, int64_t begin, int64_t end) {
  const ForwardSpace& space = block.space;
  const int64_t count = end - begin;
  const auto scale = static_cast<float>(block.p.scale);
  for (int64_t i = seeing.first; i < seeing.last; ++i) {
    const int64_t row = i - block.rows.first;
    const KeyRange seen = VisibleInTile(block.p, i, begin, end);
    const float in_tile =
        scale * block.vector.max(space.x + row * count + seen.begin, seen.end - seen.begin);
    const float before = space.largest[row];
    space.largest[row] = std::max(before, in_tile);
    space.fading[row] = space.largest[row] == kNothing ? 0.0F : before - space.largest[row];
  }
  const int64_t first = seeing.first - block.rows.first;
  block.vector.exp(space.fading + first, space.fading + first, seeing.last - seeing.first);
  for (int64_t i = seeing.first; i < seeing.last; ++i) {
    const int64_t row = i - block.rows.first;
    const float in_tile =
        ExpVisible(block.vector, scale, space.largest[row], VisibleInTile(block.p, i, begin, end),
                   count, space.x + row * count);
    space.sum[row] = space.fading[row] * space.sum[row] + in_tile;
    if (block.p.dropout.on()) {
      float* const x = space.x + row * count;
      DropoutRow(block.vector, block.p.dropout, block.site, i).Apply(begin, x, x, count);
    }
    if (space.fading[row] != 1.0F) {
      float* const o_row = space.o + row * block.p.head_dim;
      block.vector.scale(space.fading[row], o_row, o_row, block.p.head_dim);
    }
  }
}

void ForwardTile(const ForwardBlock& block, int64_t begin, int64_t end) {
  const ForwardSpace& space = block.space;
  const int64_t dim = block.p.head_dim;
  const int64_t count = end - begin;
  const Rows seeing = RowsThatSee(block.p, block.rows, begin, end);
  if (seeing.first >= seeing.last || OnlyPadding(block.bias, begin, end)) return;
  const int64_t first = seeing.first - block.rows.first;
  const int64_t rows = seeing.last - seeing.first;

  const float* k = block.k.Row(begin);
  const float* v = block.v.Row(begin);
  int64_t stride = block.k.stride;
  if (block.rows.last - block.rows.first >= kFewQueries) {
    block.k.Load(begin, count, space.k);
    block.v.Load(begin, count, space.v);
    k = space.k;
    v = space.v;
    stride = dim;
  }
  Gemm(kPlain, kTransposed, rows, count, dim, 1.0F, space.q + first * dim, dim, k, stride, 0.0F,
       space.x + first * count, count);
  if (!NoPadding(block.bias, begin, end)) {
    AddBias(block.vector, block.bias + begin, rows, count, space.x + first * count);
  }
  SoftmaxTile(block, seeing, begin, end);
  Gemm(kPlain, kPlain, rows, dim, count, 1.0F, space.x + first * count, count, v, stride, 1.0F,
       space.o + first * dim, dim);
}

// One block of queries of one head: all its keys, then its results. `lse` is that of the block.
void ForwardQueries(const ForwardBlock& block, const HeadRows& q, const HeadRows& o, float* lse) {
  const ForwardSpace& space = block.space;
  const int64_t dim = block.p.head_dim;
  const int64_t rows = block.rows.last - block.rows.first;
  q.Load(block.rows.first, rows, space.q);
  std::fill_n(space.o, rows * dim, 0.0F);
  std::fill_n(space.largest, rows, kNothing);
  std::fill_n(space.sum, rows, 0.0F);
  const int64_t first_key = VisibleKeys(block.p, block.rows.first).begin;
  const int64_t last_key = VisibleKeys(block.p, block.rows.last - 1).end;
  for (int64_t begin = first_key / kKeyTile * kKeyTile; begin < last_key; begin += kKeyTile) {
    ForwardTile(block, begin, std::min(begin + kKeyTile, block.p.keys));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float sum = space.sum[row];
    const bool blind = space.largest[row] == kNothing;  // no key seen
    block.vector.scale(blind ? 0.0F : 1.0F / sum, space.o + row * dim,
                       o.Row(block.rows.first + row), dim);
    // In double, so that the last bit does not depend on the mathematics library.
    lse[row] = blind ? kNothing : static_cast<float>(space.largest[row] + std::log(double{sum}));
  }
}

// ---- Backward

struct BackwardSpace {
  BackwardSpace(const SoftmaxProblem& p, Carver& carver)
      : q(carver.Take(p.queries * p.head_dim)),
        d_o(carver.Take(p.queries * p.head_dim)),
        d_q(carver.Take(p.queries * p.head_dim)),
        mean(carver.Take(p.queries)),
        k(carver.Take(TileKeys(p) * p.head_dim)),
        v(carver.Take(TileKeys(p) * p.head_dim)),
        d_k(carver.Take(TileKeys(p) * p.head_dim)),
        d_v(carver.Take(TileKeys(p) * p.head_dim)),
        x(carver.Take(BlockRows(p) * TileKeys(p))),
        d_x(carver.Take(BlockRows(p) * TileKeys(p))),
        dropped(carver.Take(TileKeys(p))) {}

  float* q;     // [T, D], all of one head
  float* d_o;   // [T, D]
  float* d_q;   // [T, D]
  float* mean;  // [T]: do_i . o_i, the mean of dp_ij under p_ij
  float* k;     // one tile
  float* v;
  float* d_k;
  float* d_v;
  float* x;        // [rows, keys]: logits / scale, then probabilities
  float* d_x;      // [rows, keys]: their gradients
  float* dropped;  // [keys]: one row of probabilities after dropout
};

struct BackwardHead {
  const SoftmaxProblem& p;
  const VectorTable& vector;
  const BackwardSpace& space;
  HeadRows k, v;
  const float* lse;   // [T]
  const float* bias;  // [S] of the keys; null: no padding
  DrawSite site;      // of dropout
};

// Some queries and one tile of keys, already loaded.
void BackwardBlock(const BackwardHead& head, Rows rows, int64_t begin, int64_t end) {
  const BackwardSpace& space = head.space;
  const VectorTable& vector = head.vector;
  const int64_t dim = head.p.head_dim;
  const int64_t count = end - begin;
  const int64_t height = rows.last - rows.first;
  const auto scale = static_cast<float>(head.p.scale);
  const float* const q = space.q + rows.first * dim;
  const float* const d_o = space.d_o + rows.first * dim;
  Gemm(kPlain, kTransposed, height, count, dim, 1.0F, q, dim, space.k, dim, 0.0F, space.x, count);
  Gemm(kPlain, kTransposed, height, count, dim, 1.0F, d_o, dim, space.v, dim, 0.0F, space.d_x,
       count);
  if (!NoPadding(head.bias, begin, end)) {
    AddBias(vector, head.bias + begin, height, count, space.x);
  }
  for (int64_t i = rows.first; i < rows.last; ++i) {
    float* const p_row = space.x + (i - rows.first) * count;
    float* const d_row = space.d_x + (i - rows.first) * count;
    ExpVisible(vector, scale, head.lse[i], VisibleInTile(head.p, i, begin, end), count, p_row);
    // dx = p (dp - mean); zero where p is. Dropout is a part of dp, and of p for the values.
    if (head.p.dropout.on()) {
      const DropoutRow dropout(vector, head.p.dropout, head.site, i);
      dropout.Apply(begin, p_row, space.dropped, count);
      vector.multiply(space.dropped, d_row, d_row, count);
      vector.axpy(-space.mean[i], p_row, d_row, count);
      std::copy_n(space.dropped, count, p_row);
    } else {
      vector.multiply(p_row, d_row, d_row, count);
      vector.axpy(-space.mean[i], p_row, d_row, count);
    }
  }
  Gemm(kTransposed, kPlain, count, dim, height, 1.0F, space.x, count, d_o, dim, 1.0F, space.d_v,
       dim);
  Gemm(kTransposed, kPlain, count, dim, height, scale, space.d_x, count, q, dim, 1.0F, space.d_k,
       dim);
  Gemm(kPlain, kPlain, height, dim, count, scale, space.d_x, count, space.k, dim, 1.0F,
       space.d_q + rows.first * dim, dim);
}

// Writes the gradients of a tile's keys or values, or adds them to those of the heads before.
void StoreOrAdd(const VectorTable& vector, bool first, const HeadRows& to, int64_t begin,
                int64_t count, const float* from) {
  if (first) return to.Store(begin, count, from);
  for (int64_t j = 0; j < count; ++j) {
    vector.add(to.Row(begin + j), from + j * to.width, to.Row(begin + j), to.width);
  }
}

// All queries and keys of one head. `first`: of those that share the keys.
void BackwardQueries(const BackwardHead& head, bool first, const HeadRows& d_k,
                     const HeadRows& d_v) {
  const BackwardSpace& space = head.space;
  const int64_t dim = head.p.head_dim;
  std::fill_n(space.d_q, head.p.queries * dim, 0.0F);
  for (int64_t begin = 0; begin < head.p.keys; begin += kKeyTile) {
    const int64_t end = std::min(begin + kKeyTile, head.p.keys);
    const int64_t count = end - begin;
    head.k.Load(begin, count, space.k);
    head.v.Load(begin, count, space.v);
    std::fill_n(space.d_k, count * dim, 0.0F);
    std::fill_n(space.d_v, count * dim, 0.0F);
    Rows seeing = RowsThatSee(head.p, {0, head.p.queries}, begin, end);
    if (OnlyPadding(head.bias, begin, end)) seeing = {0, 0};
    for (int64_t row = seeing.first; row < seeing.last; row += kQueryBlock) {
      BackwardBlock(head, {row, std::min(row + kQueryBlock, seeing.last)}, begin, end);
    }
    StoreOrAdd(head.vector, first, d_k, begin, count, space.d_k);
    StoreOrAdd(head.vector, first, d_v, begin, count, space.d_v);
  }
}

}  // namespace

absl::Status SoftmaxForwardCpu(Stream& stream, const SoftmaxProblem& p, const Tensor& q,
                               const Tensor& k, const Tensor& v, const Tensor& valid, Tensor& o,
                               Tensor& lse) {
  CpuStream& cpu = AsCpuStream(stream);
  const KeyBias bias(p, valid);
  const int64_t blocks = (p.queries + kQueryBlock - 1) / kQueryBlock;
  cpu.ParallelFor(p.batch * p.heads * blocks, [&](int64_t index) {
    const int64_t b = index % (p.batch * p.heads) / p.heads;
    const int64_t h = index % p.heads;
    // The last block of a causal problem is the longest: it starts first.
    const int64_t first = (blocks - 1 - index / (p.batch * p.heads)) * kQueryBlock;
    const int64_t kv_head = h / (p.heads / p.kv_heads);
    const auto space = ThreadSpace<ForwardSpace>(p);
    ForwardQueries({p,
                    cpu.vector(),
                    space,
                    {k, b, kv_head},
                    {v, b, kv_head},
                    {first, std::min(first + kQueryBlock, p.queries)},
                    bias.Row(b, 0),
                    p.dropout.Site(p.heads, b, h)},
                   {q, b, h}, {o, b, h}, lse.data<float>() + (b * p.heads + h) * p.queries + first);
  });
  return absl::OkStatus();
}

absl::Status SoftmaxBackwardCpu(Stream& stream, const SoftmaxProblem& p, const Tensor& q,
                                const Tensor& k, const Tensor& v, const Tensor& valid,
                                const Tensor& o, const Tensor& lse, const Tensor& d_o, Tensor& d_q,
                                Tensor& d_k, Tensor& d_v) {
  CpuStream& cpu = AsCpuStream(stream);
  const KeyBias bias(p, valid);
  const int64_t sharing = p.heads / p.kv_heads;
  cpu.ParallelFor(p.batch * p.kv_heads, [&](int64_t index) {
    const int64_t b = index / p.kv_heads;
    const int64_t kv_head = index % p.kv_heads;
    const auto space = ThreadSpace<BackwardSpace>(p);
    for (int64_t h = kv_head * sharing; h < (kv_head + 1) * sharing; ++h) {
      const HeadRows o_rows(o, b, h);
      HeadRows(q, b, h).Load(0, p.queries, space.q);
      HeadRows(d_o, b, h).Load(0, p.queries, space.d_o);
      for (int64_t i = 0; i < p.queries; ++i) {
        space.mean[i] = cpu.vector().dot(space.d_o + i * p.head_dim, o_rows.Row(i), p.head_dim);
      }
      BackwardQueries({p,
                       cpu.vector(),
                       space,
                       {k, b, kv_head},
                       {v, b, kv_head},
                       lse.data<float>() + (b * p.heads + h) * p.queries,
                       bias.Row(b, 0),
                       p.dropout.Site(p.heads, b, h)},
                      h == kv_head * sharing, {d_k, b, kv_head}, {d_v, b, kv_head});
      HeadRows(d_q, b, h).Store(0, p.queries, space.d_q);
    }
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

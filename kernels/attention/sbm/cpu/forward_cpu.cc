// SBM attention along a graph, fp32: some blocks of queries of one head on their own thread. Where
// many pairs are linked a block meets the keys tile by tile, as products under the mask of the
// edges with a running maximum (Dao et al. 2022, "FlashAttention", section 3.1); where few are,
// query by query along its list of edges.
#include <algorithm>
#include <cmath>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/sbm/cpu/attention_head.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Below this many queries a dense copy of the head's keys and values costs more than it saves.
constexpr int64_t kFewQueries = 64;
// Blocks of queries that share a copy: as many as leave work for a good number of threads.
constexpr int64_t kGroupsWanted = 16;

int64_t BlockRows(const SbmProblem& p) { return std::min(p.queries, kQueryBlock); }
int64_t TileKeys(const SbmProblem& p) { return std::min(p.keys, kKeyTile); }

struct Space {
  Space(const SbmProblem& p, Carver& carver)
      : q(carver.Take(BlockRows(p) * p.head_dim)),
        k(carver.Take(p.queries < kFewQueries ? 0 : p.keys * p.head_dim)),
        v(carver.Take(p.queries < kFewQueries ? 0 : p.keys * p.head_dim)),
        o(carver.Take(BlockRows(p) * p.head_dim)),
        x(carver.Take(std::max(BlockRows(p) * TileKeys(p), p.keys))),
        copies(carver.Take(p.keys)),
        largest(carver.Take(BlockRows(p))),
        fading(carver.Take(BlockRows(p))),
        sum(carver.Take(BlockRows(p))),
        keys(carver.Take<int32_t>(p.keys)) {}

  float* q;        // [rows, D]
  float* k;        // [S, D], all of one head
  float* v;        // [S, D]
  float* o;        // [rows, D]: sum of weights times values
  float* x;        // [rows, keys of the tile], or [edges]: logits / scale, then weights
  float* copies;   // [keys of the tile] or [edges]
  float* largest;  // [rows]: the largest logit so far
  float* fading;   // [rows]: by how much the tile diminishes what came before
  float* sum;      // [rows]: sum of weights before dropout
  int32_t* keys;   // [edges]
};

struct Block {
  const SbmProblem& p;
  const VectorTable& vector;
  const GraphHead& graph;
  const Space& space;
  HeadRows q, o;
  // Of all keys, `stride` elements apart.
  const float* k;
  const float* v;
  int64_t stride;
  QueryRows rows;
  float* lse;  // [T]
};

// In double, so that the last bit does not depend on the mathematics library.
float LogSum(float largest, float sum) {
  return static_cast<float>(largest + std::log(double{sum}));
}

// ---- Under a mask

// Turns the logits of one query with the tile into weights; returns their sum before dropout.
float Weights(const Block& block, int64_t i, int64_t begin, int64_t end, float largest, float* x) {
  const int64_t count = end - begin;
  float sum = block.vector.exp_sum(static_cast<float>(block.p.scale), x, largest, x, count);
  if (block.graph.counts_copies()) {
    block.graph.Copies(i, begin, end, block.space.copies);
    block.vector.multiply(x, block.space.copies, x, count);
    sum = block.vector.sum(x, count);
  }
  if (block.graph.drops()) block.graph.Drop(i, begin, end, x, nullptr);
  return sum;
}

void SoftmaxTile(const Block& block, int64_t begin, int64_t end) {
  const Space& space = block.space;
  const int64_t count = end - begin;
  const int64_t rows = block.rows.count();
  for (int64_t row = 0; row < rows; ++row) {
    float* const x = space.x + row * count;
    const uint64_t* const bits = block.graph.edges().Row(block.rows.first + row) + begin / 64;
    block.vector.keep_bits(bits, kNothing, x, x, count);
    const float in_tile = static_cast<float>(block.p.scale) * block.vector.max(x, count);
    const float before = space.largest[row];
    space.largest[row] = std::max(before, in_tile);
    // Without an edge so far there is nothing to diminish.
    space.fading[row] = space.largest[row] == kNothing ? 0.0F : before - space.largest[row];
  }
  block.vector.exp(space.fading, space.fading, rows);
  for (int64_t row = 0; row < rows; ++row) {
    float* const x = space.x + row * count;
    if (space.largest[row] == kNothing) {
      std::fill_n(x, count, 0.0F);
      continue;
    }
    const float in_tile = Weights(block, block.rows.first + row, begin, end, space.largest[row], x);
    space.sum[row] = space.fading[row] * space.sum[row] + in_tile;
    if (space.fading[row] != 1.0F) {
      float* const o = space.o + row * block.p.head_dim;
      block.vector.scale(space.fading[row], o, o, block.p.head_dim);
    }
  }
}

void ForwardTile(const Block& block, int64_t begin, int64_t end) {
  const Space& space = block.space;
  const int64_t dim = block.p.head_dim;
  const int64_t count = end - begin;
  const int64_t rows = block.rows.count();
  if (block.graph.IsEmpty(block.rows, begin, end)) return;
  Gemm(kPlain, kTransposed, rows, count, dim, 1.0F, space.q, dim, block.k + begin * block.stride,
       block.stride, 0.0F, space.x, count);
  SoftmaxTile(block, begin, end);
  Gemm(kPlain, kPlain, rows, dim, count, 1.0F, space.x, count, block.v + begin * block.stride,
       block.stride, 1.0F, space.o, dim);
}

void ForwardDense(const Block& block) {
  const Space& space = block.space;
  const int64_t dim = block.p.head_dim;
  const int64_t rows = block.rows.count();
  block.q.Load(block.rows.first, rows, space.q);
  std::fill_n(space.o, rows * dim, 0.0F);
  std::fill_n(space.largest, rows, kNothing);
  std::fill_n(space.sum, rows, 0.0F);
  const int64_t keys_end = block.graph.KeysEnd(block.rows.last - 1);
  for (int64_t begin = 0; begin < keys_end; begin += kKeyTile) {
    ForwardTile(block, begin, std::min(begin + kKeyTile, block.p.keys));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const bool unlinked = space.largest[row] == kNothing;
    block.vector.scale(unlinked ? 0.0F : 1.0F / space.sum[row], space.o + row * dim,
                       block.o.Row(block.rows.first + row), dim);
    block.lse[block.rows.first + row] =
        unlinked ? kNothing : LogSum(space.largest[row], space.sum[row]);
  }
}

// ---- Along lists

void ForwardQuery(const Block& block, int64_t i) {
  const Space& space = block.space;
  const VectorTable& vector = block.vector;
  const int64_t dim = block.p.head_dim;
  const auto scale = static_cast<float>(block.p.scale);
  float* const o = block.o.Row(i);
  float& lse = block.lse[i];
  std::fill_n(o, dim, 0.0F);
  lse = kNothing;
  const int64_t count =
      ListEdges(block.graph.edges().Row(i), block.graph.edges().words, space.keys);
  if (count == 0) return;
  vector.picked_dots(block.q.Row(i), block.k, block.stride, space.keys, space.x, dim, count);
  const float largest = scale * vector.max(space.x, count);
  float sum = vector.exp_sum(scale, space.x, largest, space.x, count);
  if (block.graph.counts_copies()) {
    block.graph.Copies(i, space.keys, count, space.copies);
    vector.multiply(space.x, space.copies, space.x, count);
    sum = vector.sum(space.x, count);
  }
  if (block.graph.drops()) block.graph.Drop(i, space.keys, count, space.x, nullptr);
  vector.picked_sum(space.x, block.v, block.stride, space.keys, o, dim, count);
  vector.scale(1.0F / sum, o, o, dim);
  lse = LogSum(largest, sum);
}

// Queries [first, last) of one head.
void ForwardGroup(const VectorTable& vector, const SbmProblem& p, const SbmGraph& graph,
                  int64_t index, QueryRows queries, const Tensor& q, const Tensor& k,
                  const Tensor& v, Tensor& o, float* lse) {
  const int64_t b = index / p.heads;
  const int64_t h = index % p.heads;
  const GraphHead head(p, vector, graph, index);
  const auto space = ThreadSpace<Space>(p);
  const HeadRows k_rows(k, b, h);
  const HeadRows v_rows(v, b, h);
  Block block{p,         vector,       head,         space,         {q, b, h},
              {o, b, h}, k_rows.first, v_rows.first, k_rows.stride, queries,
              lse};
  if (queries.count() >= kFewQueries) {
    const int64_t keys = head.KeysEnd(queries.last - 1);
    k_rows.Load(0, keys, space.k);
    v_rows.Load(0, keys, space.v);
    block.k = space.k;
    block.v = space.v;
    block.stride = p.head_dim;
  }
  for (int64_t first = queries.first; first < queries.last; first += kQueryBlock) {
    block.rows = {first, std::min(first + kQueryBlock, queries.last)};
    if (queries.count() >= kFewQueries && head.IsDense(block.rows, 1.5 * p.dense_above)) {
      ForwardDense(block);
    } else {
      for (int64_t i = block.rows.first; i < block.rows.last; ++i) ForwardQuery(block, i);
    }
  }
}

}  // namespace

absl::Status SbmForwardCpu(Stream& stream, const SbmProblem& p, const Tensor& q, const Tensor& k,
                           const Tensor& v, const SbmGraph& graph, Tensor& o, Tensor& lse) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t heads = p.batch * p.heads;
  const int64_t blocks = (p.queries + kQueryBlock - 1) / kQueryBlock;
  const int64_t group = std::max<int64_t>(1, heads * blocks / kGroupsWanted);  // blocks
  const int64_t groups = (blocks + group - 1) / group;
  cpu.ParallelFor(heads * groups, [&](int64_t tile) {
    const int64_t index = tile % heads;
    // The last group of a causal problem is the longest: it starts first.
    const int64_t first = (groups - 1 - tile / heads) * group * kQueryBlock;
    ForwardGroup(cpu.vector(), p, graph, index,
                 {first, std::min(first + group * kQueryBlock, p.queries)}, q, k, v, o,
                 lse.data<float>() + index * p.queries);
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

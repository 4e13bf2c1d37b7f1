// The gradients of SBM attention, fp32. All queries of one head on one thread, so that every sum
// has one owner and one order: the attention itself, Z = Gamma z and Z' = Gamma^T y, Gamma being
// the gradients of p on the edges. Then products that finish the gradients of the memberships. As
// in the forward pass, a block of queries is computed as products under a mask or along its lists
// of edges.
#include <algorithm>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/sbm/cpu/attention_head.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

int64_t BlockRows(const SbmProblem& p) { return std::min(p.queries, kQueryBlock); }
int64_t TileKeys(const SbmProblem& p) { return std::min(p.keys, kKeyTile); }
bool UsesLogits(const SbmProblem& p) { return p.straight_through == SbmStraightThrough::kLogit; }

struct Space {
  Space(const SbmProblem& p, Carver& carver)
      : k(carver.Take(p.keys * p.head_dim)),
        v(carver.Take(p.keys * p.head_dim)),
        d_k(carver.Take(p.keys * p.head_dim)),
        d_v(carver.Take(p.keys * p.head_dim)),
        q(carver.Take(BlockRows(p) * p.head_dim)),
        d_o(carver.Take(BlockRows(p) * p.head_dim)),
        d_q(carver.Take(BlockRows(p) * p.head_dim)),
        mean(carver.Take(BlockRows(p))),
        x(carver.Take(std::max(BlockRows(p) * TileKeys(p), p.keys))),
        d_x(carver.Take(std::max(BlockRows(p) * TileKeys(p), p.keys))),
        gamma(carver.Take(std::max(BlockRows(p) * TileKeys(p), p.keys))),
        whole(carver.Take(p.keys)),
        copies(carver.Take(p.keys)),
        keys(carver.Take<int32_t>(p.keys)) {}

  float* k;       // [S, D], all of one head
  float* v;       // [S, D]
  float* d_k;     // [S, D]
  float* d_v;     // [S, D]
  float* q;       // [rows, D]
  float* d_o;     // [rows, D]
  float* d_q;     // [rows, D]
  float* mean;    // [rows]: d_o_i . o_i
  float* x;       // [rows, keys of the tile], or [edges]: logits / scale, then weights
  float* d_x;     // the same shape: d_o . v, then gradients of logits
  float* gamma;   // the same shape: logits / scale if they are needed, then gradients of p
  float* whole;   // [keys of the tile] or [edges]: weights before dropout
  float* copies;  // the same
  int32_t* keys;  // [edges]
};

struct Head {
  const SbmProblem& p;
  const VectorTable& vector;
  const GraphHead& graph;
  const Space& space;
  HeadRows q, d_o, d_q;
  const float* lse;    // [T]
  const float* query;  // [T, K]: y
  const float* key;    // [S, K]: z
  float* d_query;      // [T, K]: Z
  float* d_key;        // [S, K]: Z'
  float density_part;  // of the gradient of p on every edge
};

// One query and some keys: those of a tile, or those of its edges.
struct Row {
  int64_t i;
  int64_t count;
  float mean;
  float* x;
  float* d_x;
  float* gamma;
  const float* copies;  // null: each is one
};

// Logits to weights, after dropout; d_o . v to the gradients of the logits. `drop` applies dropout
// to two rows.
template <typename Drop>
void RowSlopes(const Head& head, const Row& row, Drop drop) {
  const VectorTable& vector = head.vector;
  if (UsesLogits(head.p)) std::copy_n(row.x, row.count, row.gamma);
  vector.exp_sum(static_cast<float>(head.p.scale), row.x, head.lse[row.i], row.x, row.count);
  if (row.copies != nullptr) vector.multiply(row.x, row.copies, row.x, row.count);
  const float* whole = row.x;
  if (head.graph.drops()) {
    std::copy_n(row.x, row.count, head.space.whole);
    whole = head.space.whole;
    drop(row.x, row.d_x);
  }
  vector.multiply(whole, row.d_x, row.d_x, row.count);
  vector.axpy(-row.mean, whole, row.d_x, row.count);
}

// The gradients of p from those of the logits.
void RowGammas(const Head& head, const Row& row) {
  const auto clip = static_cast<float>(head.p.clip);
  if (UsesLogits(head.p)) {
    head.vector.scaled_multiply(static_cast<float>(head.p.scale), row.gamma, row.d_x, row.gamma,
                                row.count);
  } else {
    std::copy_n(row.d_x, row.count, row.gamma);
  }
  if (row.copies == nullptr) {
    return head.vector.clip(head.density_part, clip, row.gamma, row.gamma, row.count);
  }
  for (int64_t e = 0; e < row.count; ++e) {
    const float one = row.gamma[e] / std::max(row.copies[e], 1.0F) + head.density_part;
    row.gamma[e] = row.copies[e] * std::clamp(one, -clip, clip);
  }
}

// ---- Under a mask

void TileSlopes(const Head& head, QueryRows rows, int64_t begin, int64_t end) {
  const Space& space = head.space;
  const int64_t count = end - begin;
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const int64_t at = (i - rows.first) * count;
    const Row row{i,
                  count,
                  space.mean[i - rows.first],
                  space.x + at,
                  space.d_x + at,
                  space.gamma + at,
                  head.graph.counts_copies() ? space.copies : nullptr};
    if (head.lse[i] == kNothing) {  // no edge at all
      for (float* const x : {row.x, row.d_x, row.gamma}) std::fill_n(x, count, 0.0F);
      continue;
    }
    const uint64_t* const bits = head.graph.edges().Row(i) + begin / 64;
    if (row.copies != nullptr) head.graph.Copies(i, begin, end, space.copies);
    head.vector.keep_bits(bits, kNothing, row.x, row.x, count);
    RowSlopes(head, row, [&](float* x, float* d_x) { head.graph.Drop(i, begin, end, x, d_x); });
    RowGammas(head, row);
    head.vector.keep_bits(bits, 0.0F, row.gamma, row.gamma, count);
  }
}

void BackwardTile(const Head& head, QueryRows rows, int64_t begin, int64_t end) {
  if (head.graph.IsEmpty(rows, begin, end)) return;
  const Space& space = head.space;
  const int64_t dim = head.p.head_dim;
  const int64_t clusters = head.p.clusters;
  const int64_t count = end - begin;
  const int64_t height = rows.count();
  const auto scale = static_cast<float>(head.p.scale);
  const float* const k = space.k + begin * dim;
  Gemm(kPlain, kTransposed, height, count, dim, 1.0F, space.q, dim, k, dim, 0.0F, space.x, count);
  Gemm(kPlain, kTransposed, height, count, dim, 1.0F, space.d_o, dim, space.v + begin * dim, dim,
       0.0F, space.d_x, count);
  TileSlopes(head, rows, begin, end);
  Gemm(kTransposed, kPlain, count, dim, height, 1.0F, space.x, count, space.d_o, dim, 1.0F,
       space.d_v + begin * dim, dim);
  Gemm(kTransposed, kPlain, count, dim, height, scale, space.d_x, count, space.q, dim, 1.0F,
       space.d_k + begin * dim, dim);
  Gemm(kPlain, kPlain, height, dim, count, scale, space.d_x, count, k, dim, 1.0F, space.d_q, dim);
  Gemm(kPlain, kPlain, height, clusters, count, 1.0F, space.gamma, count,
       head.key + begin * clusters, clusters, 1.0F, head.d_query + rows.first * clusters, clusters);
  Gemm(kTransposed, kPlain, count, clusters, height, 1.0F, space.gamma, count,
       head.query + rows.first * clusters, clusters, 1.0F, head.d_key + begin * clusters, clusters);
}

void BackwardDense(const Head& head, QueryRows rows) {
  const Space& space = head.space;
  std::fill_n(space.d_q, rows.count() * head.p.head_dim, 0.0F);
  const int64_t keys_end = head.graph.KeysEnd(rows.last - 1);
  for (int64_t begin = 0; begin < keys_end; begin += kKeyTile) {
    BackwardTile(head, rows, begin, std::min(begin + kKeyTile, head.p.keys));
  }
  head.d_q.Store(rows.first, rows.count(), space.d_q);
}

// ---- Along lists

// Query i, whose row in the block's matrices is given.
void BackwardQuery(const Head& head, int64_t i, int64_t in_block) {
  const Space& space = head.space;
  const VectorTable& vector = head.vector;
  const int64_t dim = head.p.head_dim;
  const int64_t clusters = head.p.clusters;
  float* const d_q = head.d_q.Row(i);
  std::fill_n(d_q, dim, 0.0F);
  const int64_t n = ListEdges(head.graph.edges().Row(i), head.graph.edges().words, space.keys);
  if (n == 0) return;
  const float* const q = space.q + in_block * dim;
  const float* const d_o = space.d_o + in_block * dim;
  const int32_t* const keys = space.keys;
  const Row row{i,
                n,
                space.mean[in_block],
                space.x,
                space.d_x,
                space.gamma,
                head.graph.counts_copies() ? space.copies : nullptr};
  if (row.copies != nullptr) head.graph.Copies(i, keys, n, space.copies);
  vector.picked_dots(q, space.k, dim, keys, row.x, dim, n);
  vector.picked_dots(d_o, space.v, dim, keys, row.d_x, dim, n);
  RowSlopes(head, row, [&](float* x, float* d_x) { head.graph.Drop(i, keys, n, x, d_x); });
  RowGammas(head, row);
  vector.picked_add(row.x, d_o, keys, space.d_v, dim, dim, n);
  vector.scale(static_cast<float>(head.p.scale), row.d_x, row.d_x, n);
  vector.picked_add(row.d_x, q, keys, space.d_k, dim, dim, n);
  vector.picked_sum(row.d_x, space.k, dim, keys, d_q, dim, n);
  vector.picked_sum(row.gamma, head.key, clusters, keys, head.d_query + i * clusters, clusters, n);
  vector.picked_add(row.gamma, head.query + i * clusters, keys, head.d_key, clusters, clusters, n);
}

void BackwardHead(const Head& head, const HeadRows& o) {
  const Space& space = head.space;
  const SbmProblem& p = head.p;
  std::fill_n(head.d_query, p.queries * p.clusters, 0.0F);
  std::fill_n(head.d_key, p.keys * p.clusters, 0.0F);
  std::fill_n(space.d_k, p.keys * p.head_dim, 0.0F);
  std::fill_n(space.d_v, p.keys * p.head_dim, 0.0F);
  for (int64_t first = 0; first < p.queries; first += kQueryBlock) {
    const QueryRows rows{first, std::min(first + kQueryBlock, p.queries)};
    head.q.Load(first, rows.count(), space.q);
    head.d_o.Load(first, rows.count(), space.d_o);
    for (int64_t row = 0; row < rows.count(); ++row) {
      space.mean[row] =
          head.vector.dot(space.d_o + row * p.head_dim, o.Row(first + row), p.head_dim);
    }
    if (head.graph.IsDense(rows, p.dense_above)) {
      BackwardDense(head, rows);
    } else {
      for (int64_t row = 0; row < rows.count(); ++row) BackwardQuery(head, first + row, row);
    }
  }
}

// ---- Memberships

// Pairs of one sequence that could be edges.
int64_t PairsOf(const SbmProblem& p, const int32_t* valid) {
  int64_t pairs = 0;
  int64_t before = 0;  // valid keys up to j
  int64_t queries = 0;
  for (int64_t j = 0; j < p.keys; ++j) {
    if (valid != nullptr && valid[j] == 0) continue;
    ++before;
    if (j < p.keys - p.queries) continue;
    ++queries;
    pairs += before;
  }
  return p.causal ? pairs : queries * before;
}

// The gradient of the affinity: y^T Z, summed over the sequences.
void AffinityGradient(CpuStream& cpu, const SbmProblem& p, const SbmMemberships& memberships,
                      SbmMemberships& gradients) {
  constexpr int64_t kRows = 64;
  const int64_t n = p.clusters;
  const int64_t tiles = (n + kRows - 1) / kRows;
  cpu.ParallelFor(p.heads * tiles, [&](int64_t tile) {
    const int64_t h = tile / tiles;
    const int64_t first = tile % tiles * kRows;
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t at = (b * p.heads + h) * p.queries * n;
      Gemm(kTransposed, kPlain, std::min(kRows, n - first), n, p.queries, 1.0F,
           memberships.query.data<float>() + at + first, n, gradients.query.data<float>() + at, n,
           b == 0 ? 0.0F : 1.0F, gradients.affinity.data<float>() + (h * n + first) * n, n);
    }
  });
}

// rows = rows S or rows S^T in place, for each head's [R, K] of a [B, H, R, K] tensor.
void TimesAffinity(CpuStream& cpu, const Tensor& affinity, Transpose transpose, Tensor& tensor) {
  const int64_t n = tensor.dim(3);
  const int64_t rows = tensor.dim(2);
  const int64_t blocks = (rows + kQueryBlock - 1) / kQueryBlock;
  cpu.ParallelFor(tensor.dim(0) * tensor.dim(1) * blocks, [&](int64_t tile) {
    thread_local Scratch<float> scratch;
    const int64_t index = tile / blocks;
    const int64_t first = tile % blocks * kQueryBlock;
    const int64_t count = std::min(kQueryBlock, rows - first);
    float* const block = tensor.data<float>() + (index * rows + first) * n;
    float* const copy = scratch.Get(count * n);
    std::copy_n(block, count * n, copy);
    Gemm(kPlain, transpose, count, n, n, 1.0F, copy, n,
         affinity.data<float>() + index % tensor.dim(1) * n * n, n, 0.0F, block, n);
  });
}

}  // namespace

absl::Status SbmBackwardCpu(Stream& stream, const SbmProblem& p, const SbmSaved& saved,
                            const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                            SbmMemberships& d_memberships) {
  CpuStream& cpu = AsCpuStream(stream);
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const GraphHead graph(p, cpu.vector(), saved.graph, index);
    const int64_t pairs =
        PairsOf(p, saved.valid.present() ? saved.valid.data<int32_t>() + b * p.keys : nullptr);
    const auto space = ThreadSpace<Space>(p);
    HeadRows(saved.k, b, h).Load(0, p.keys, space.k);
    HeadRows(saved.v, b, h).Load(0, p.keys, space.v);
    const int64_t query_at = index * p.queries * p.clusters;
    const int64_t key_at = index * p.keys * p.clusters;
    BackwardHead(
        {p,
         cpu.vector(),
         graph,
         space,
         {saved.q, b, h},
         {d_o, b, h},
         {d_q, b, h},
         saved.lse.data<float>() + index * p.queries,
         saved.memberships.query.data<float>() + query_at,
         saved.memberships.key.data<float>() + key_at,
         d_memberships.query.data<float>() + query_at,
         d_memberships.key.data<float>() + key_at,
         pairs == 0 ? 0.0F : static_cast<float>(p.density_gradient / static_cast<double>(pairs))},
        {saved.o, b, h});
    HeadRows(d_k, b, h).Store(0, p.keys, space.d_k);
    HeadRows(d_v, b, h).Store(0, p.keys, space.d_v);
  });
  AffinityGradient(cpu, p, saved.memberships, d_memberships);
  TimesAffinity(cpu, saved.memberships.affinity, kTransposed, d_memberships.query);
  TimesAffinity(cpu, saved.memberships.affinity, kPlain, d_memberships.key);
  return absl::OkStatus();
}

}  // namespace weft::kernels

#include <algorithm>
#include <limits>

#include "kernels/attention/scatterbrain/cpu/pairs.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;
constexpr int64_t kRows = 64;
constexpr int64_t kKeys = 128;

// The rows of a chunk's tokens in one of the head's arrays, to read or to add to.
struct Side {
  Side(const ScatterbrainProblem& p, int64_t rows, Carver& carver)
      : u(carver.Take(rows * p.key_dim)),
        features(carver.Take(rows * p.features)),
        values(carver.Take(rows * (p.value_dim + 1))),
        sum(carver.Take(rows * std::max({p.key_dim, p.features, p.value_dim}))) {}
  float* u;
  float* features;
  float* values;  // v1 or g1
  float* sum;     // a product on its way to rows that do not lie together
};

struct ChunkSpace {
  ChunkSpace(const ScatterbrainProblem& p, Carver& carver)
      : queries(p, kRows, carver),
        keys(p, kKeys, carver),
        logits(carver.Take(kRows * kKeys)),
        products(carver.Take(kRows * kKeys)),
        gradients(carver.Take(kRows * kKeys)),
        scales(carver.Take(kKeys)),
        kept(carver.Take(kKeys)),
        dropout(carver.Take(kKeys)),
        row(carver.Take(kKeys)),
        dropped(carver.Take(kKeys)),
        in_sum(carver.Take(kKeys)),
        in_normaliser(carver.Take(kKeys)) {}

  Side queries;
  Side keys;
  float* logits;     // [queries, keys]: logits, then their gradients
  float* products;   // [queries, keys]: phi psi^T, then what values are multiplied by
  float* gradients;  // [queries, keys]: g v^T, then the gradients of phi psi^T
  float* scales;     // [keys]: m
  float* kept;       // [keys] each, of one query:
  float* dropout;
  float* row;
  float* dropped;        // exact weights over the normaliser, after dropout
  float* in_sum;         // what a product is multiplied by in the sum of values,
  float* in_normaliser;  // and in the normaliser
};

class BackwardChunk {
 public:
  BackwardChunk(const HeadTask& task, const Chunk& chunk, const ChunkSpace& space)
      : task_(task),
        p_(task.p),
        vector_(task.vector),
        chunk_(chunk),
        space_(space),
        queries_(Load(task.space.query_u, task.space.phi, task.space.g1, chunk.queries,
                      chunk.query_count, space.queries)),
        keys_(Load(task.space.key_u, task.space.psi, task.space.v1, chunk.keys, chunk.key_count,
                   space.keys)) {}

  void Run() {
    const int64_t rows = chunk_.query_count;
    const int64_t count = chunk_.key_count;
    const int64_t width = p_.value_dim + 1;
    const bool any_exact = AnyExact(task_, chunk_.patch);
    if (any_exact) {
      Gemm(kPlain, kTransposed, rows, count, p_.key_dim, 1.0F, queries_.u, p_.key_dim, keys_.u,
           p_.key_dim, 0.0F, space_.logits, count);
    }
    Gemm(kPlain, kTransposed, rows, count, p_.features, 1.0F, queries_.features, p_.features,
         keys_.features, p_.features, 0.0F, space_.products, count);
    Gemm(kPlain, kTransposed, rows, count, p_.value_dim, 1.0F, queries_.values, width, keys_.values,
         width, 0.0F, space_.gradients, count);
    for (int64_t j = 0; j < count; ++j) space_.scales[j] = task_.space.key_scale[chunk_.keys[j]];
    for (int64_t n = 0; n < rows; ++n) Row(n);
    AddToKeys(space_.products, queries_.values, p_.value_dim, width, task_.space.d_v);
    AddToQueries(space_.gradients, keys_.features, p_.features, task_.space.d_phi);
    AddToKeys(space_.gradients, queries_.features, p_.features, p_.features, task_.space.d_psi);
    if (!any_exact) return;
    AddToQueries(space_.logits, keys_.u, p_.key_dim, task_.space.d_query_u);
    AddToKeys(space_.logits, queries_.u, p_.key_dim, p_.key_dim, task_.space.d_key_u);
  }

 private:
  struct Operands {
    const float* u;
    const float* features;
    const float* values;
  };
  Operands Load(float* u, float* features, float* values, const int32_t* tokens, int64_t count,
                const Side& side) const {
    return {RowsOf(u, p_.key_dim, tokens, count, side.u),
            RowsOf(features, p_.features, tokens, count, side.features),
            RowsOf(values, p_.value_dim + 1, tokens, count, side.values)};
  }

  // With y the exact and x the low-rank weights over the normaliser, s and z what they are
  // multiplied by in the sum of values and in the normaliser, and mean = g_i . o_i:
  //   of the logits     s y (g_i . v_j) - z y mean
  //   of the products   the same for x, over the product
  //   of the values     (s y + s x) g_i
  void Row(int64_t n) {
    const int64_t i = chunk_.queries[n];
    const int64_t count = chunk_.key_count;
    const SeenKeys seen = SeenIn(task_, chunk_, i);
    const float minus_mean = queries_.values[n * (p_.value_dim + 1) + p_.value_dim];
    float* const y = space_.logits + n * count;
    float* const x = space_.products + n * count;
    float* const g = space_.gradients + n * count;
    ExactWeights(i, seen, y);
    LowRankFactors(i, seen);
    // Values.
    vector_.multiply(space_.in_sum, x, x, count);
    vector_.add(space_.dropped, x, x, count);
    // Logits.
    vector_.multiply(space_.dropped, g, space_.row, count);
    vector_.combine(1.0F, space_.row, minus_mean, y, y, count);
    // Products.
    vector_.multiply(space_.in_sum, g, g, count);
    vector_.axpy(minus_mean, space_.in_normaliser, g, count);
  }

  // y: exact weights over the normaliser, 0 elsewhere; `dropped`: after dropout.
  void ExactWeights(int64_t i, const SeenKeys& seen, float* y) {
    const int64_t count = chunk_.key_count;
    const int64_t exact = seen.end - seen.begin;
    std::fill(y, y + seen.begin, 0.0F);
    std::fill(y + seen.end, y + count, 0.0F);
    vector_.exp_sum(1.0F, y + seen.begin, task_.space.log_normaliser[i], y + seen.begin, exact);
    met_ = chunk_.patch.hash_round > 0 && MarkFirstMeetings(task_, chunk_, i, exact, space_.kept);
    if (met_) vector_.multiply(y, space_.kept, y, exact);
    std::copy_n(y, count, space_.dropped);
    if (!p_.dropout.on() || exact == 0) return;
    DropoutFactors(task_, chunk_, i, seen.begin, seen.end, space_.dropout);
    vector_.multiply(y + seen.begin, space_.dropout + seen.begin, space_.dropped + seen.begin,
                     exact);
  }

  void LowRankFactors(int64_t i, const SeenKeys& seen) {
    const int64_t count = chunk_.key_count;
    const int64_t exact = seen.end - seen.begin;
    float* const in_normaliser = space_.in_normaliser;
    std::fill_n(in_normaliser, count, 0.0F);
    if (task_.space.query_scale[i] == -std::numeric_limits<float>::infinity()) {
      std::fill_n(space_.in_sum, count, 0.0F);
      return;
    }
    float* const factor = space_.row;
    vector_.exp_sum(1.0F, space_.scales, task_.space.log_normaliser[i] - task_.space.query_scale[i],
                    factor, seen.seen);
    if (chunk_.patch.kind == PatchKind::kReplace) {
      vector_.scale(-1.0F, factor, in_normaliser, exact);
      if (met_) vector_.multiply(in_normaliser, space_.kept, in_normaliser, exact);
    } else {
      std::copy(factor, factor + seen.begin, in_normaliser);
      std::copy(factor + seen.end, factor + seen.seen, in_normaliser + seen.end);
    }
    std::copy_n(in_normaliser, count, space_.in_sum);
    if (!p_.drops_corrections()) return;
    // A dropped correction leaves the low-rank weight: 1 - dropout more of it.
    float* const in_sum = space_.in_sum + seen.begin;
    const float* const dropout = space_.dropout + seen.begin;
    if (chunk_.patch.kind == PatchKind::kReplace) {
      vector_.multiply(in_sum, dropout, in_sum, exact);
    } else {
      vector_.multiply(factor + seen.begin, dropout, in_sum, exact);
      vector_.combine(1.0F, factor + seen.begin, -1.0F, in_sum, in_sum, exact);
    }
  }

  // d += pairs times rows of the keys.
  void AddToQueries(const float* pairs, const float* rows, int64_t width, float* d) {
    const int64_t count = chunk_.query_count;
    const bool direct = Contiguous(chunk_.queries, count);
    float* const to = direct ? d + chunk_.queries[0] * width : space_.queries.sum;
    Gemm(kPlain, kPlain, count, width, chunk_.key_count, 1.0F, pairs, chunk_.key_count, rows, width,
         direct ? 1.0F : 0.0F, to, width);
    if (!direct) Scatter(chunk_.queries, count, to, width, d);
  }

  // d += pairs^T times rows of the queries, which are `stride` apart.
  void AddToKeys(const float* pairs, const float* rows, int64_t width, int64_t stride, float* d) {
    const int64_t count = chunk_.key_count;
    const bool direct = Contiguous(chunk_.keys, count);
    float* const to = direct ? d + chunk_.keys[0] * width : space_.keys.sum;
    Gemm(kTransposed, kPlain, count, width, chunk_.query_count, 1.0F, pairs, count, rows, stride,
         direct ? 1.0F : 0.0F, to, width);
    if (!direct) Scatter(chunk_.keys, count, to, width, d);
  }

  void Scatter(const int32_t* tokens, int64_t count, const float* from, int64_t width, float* d) {
    for (int64_t n = 0; n < count; ++n) {
      FetchRow(d, width, tokens, count, n);
      float* const row = d + tokens[n] * width;
      vector_.add(row, from + n * width, row, width);
    }
  }

  const HeadTask& task_;
  const ScatterbrainProblem& p_;
  const VectorTable& vector_;
  const Chunk& chunk_;
  const ChunkSpace& space_;
  const Operands queries_;
  const Operands keys_;
  bool met_ = false;  // the present query met some key in an earlier round
};

}  // namespace

void PatchBackward(const HeadTask& task, const Patch& patch) {
  const auto space = ThreadSpace<ChunkSpace>(task.p);
  for (int64_t i = 0; i < patch.query_count; i += kRows) {
    for (int64_t j = 0; j < patch.key_count; j += kKeys) {
      const Chunk chunk{patch, patch.queries + i, std::min(kRows, patch.query_count - i),
                        patch.keys + j, std::min(kKeys, patch.key_count - j)};
      BackwardChunk(task, chunk, space).Run();
    }
  }
}

}  // namespace weft::kernels::scatterbrain

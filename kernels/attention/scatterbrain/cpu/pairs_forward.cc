#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "kernels/attention/scatterbrain/cpu/pairs.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;
constexpr int64_t kRows = 64;
constexpr int64_t kKeys = 256;

struct ChunkSpace {
  ChunkSpace(const ScatterbrainProblem& p, Carver& carver)
      : query_u(carver.Take(kRows * p.key_dim)),
        phi(carver.Take(kRows * p.features)),
        o1(carver.Take(kRows * (p.value_dim + 1))),
        key_u(carver.Take(kKeys * p.key_dim)),
        psi(carver.Take(kKeys * p.features)),
        v1(carver.Take(kKeys * (p.value_dim + 1))),
        weights(carver.Take(kRows * kKeys)),
        products(carver.Take(kRows * kKeys)),
        fading(carver.Take(kRows)),
        low_rank(carver.Take(kRows)),
        scales(carver.Take(kKeys)),
        row(carver.Take(kKeys)),
        kept(carver.Take(kKeys)),
        dropout(carver.Take(kKeys)) {}

  float* query_u;  // rows of the chunk's tokens, where they do not lie together
  float* phi;
  float* o1;
  float* key_u;
  float* psi;
  float* v1;
  float* weights;   // [queries, keys]: logits, then weights
  float* products;  // [queries, keys]: phi psi^T, then low-rank weights
  float* fading;    // [queries]: by how much the chunk diminishes what came before
  float* low_rank;  // [queries]: what turns products into weights, without a causal order
  float* scales;    // [keys]: m
  float* row;       // [keys] each
  float* kept;
  float* dropout;
};

class ForwardChunk {
 public:
  ForwardChunk(const HeadTask& task, const Chunk& chunk, const ChunkSpace& space)
      : task_(task), p_(task.p), vector_(task.vector), chunk_(chunk), space_(space) {}

  void Run() {
    const int64_t width = p_.value_dim + 1;
    Products();
    for (int64_t n = 0; n < chunk_.query_count; ++n) RaiseReference(n);
    vector_.exp(space_.fading, space_.fading, chunk_.query_count);
    vector_.exp(space_.low_rank, space_.low_rank, chunk_.query_count);
    float* const o1 = RowsOf(task_.space.o1, width, chunk_.queries, chunk_.query_count, space_.o1);
    for (int64_t n = 0; n < chunk_.query_count; ++n) {
      float* const row = o1 + n * width;
      if (space_.fading[n] != 1.0F) vector_.scale(space_.fading[n], row, row, width);
      WeighRow(n, row[p_.value_dim]);
    }
    const float* const v1 = RowsOf(task_.space.v1, width, chunk_.keys, chunk_.key_count, space_.v1);
    Gemm(kPlain, kPlain, chunk_.query_count, p_.value_dim, chunk_.key_count, 1.0F, space_.weights,
         chunk_.key_count, v1, width, 1.0F, o1, width);
    if (o1 != space_.o1) return;
    for (int64_t n = 0; n < chunk_.query_count; ++n) {
      std::memcpy(task_.space.o1 + chunk_.queries[n] * width, o1 + n * width,
                  static_cast<size_t>(width) * sizeof(float));
    }
  }

 private:
  // Logits and products of features.
  void Products() {
    const int64_t rows = chunk_.query_count;
    const int64_t count = chunk_.key_count;
    if (AnyExact(task_, chunk_.patch)) {
      Gemm(kPlain, kTransposed, rows, count, p_.key_dim, 1.0F,
           RowsOf(task_.space.query_u, p_.key_dim, chunk_.queries, rows, space_.query_u),
           p_.key_dim, RowsOf(task_.space.key_u, p_.key_dim, chunk_.keys, count, space_.key_u),
           p_.key_dim, 0.0F, space_.weights, count);
    }
    Gemm(kPlain, kTransposed, rows, count, p_.features, 1.0F,
         RowsOf(task_.space.phi, p_.features, chunk_.queries, rows, space_.phi), p_.features,
         RowsOf(task_.space.psi, p_.features, chunk_.keys, count, space_.psi), p_.features, 0.0F,
         space_.products, count);
    for (int64_t j = 0; j < count; ++j) space_.scales[j] = task_.space.key_scale[chunk_.keys[j]];
  }

  // The reference of row n with the logits of the chunk, and the exponents of the two factors.
  void RaiseReference(int64_t n) {
    const int64_t i = chunk_.queries[n];
    seen_[n] = SeenIn(task_, chunk_, i);
    const SeenKeys seen = seen_[n];
    float& reference = task_.space.reference[i];
    const float before = reference;
    if (seen.begin < seen.end) {
      reference = std::max(reference, vector_.max(Weights(n) + seen.begin, seen.end - seen.begin));
    }
    const bool nothing = reference == kNothing;
    space_.fading[n] = nothing ? 0.0F : before - reference;
    const float scale = task_.space.query_scale[i] + task_.SeenScale(i);
    space_.low_rank[n] = nothing ? kNothing : scale - reference;
  }

  // Logits and products of row n become its weights, and their sums join the masses.
  void WeighRow(int64_t n, float& low_rank_mass) {
    const int64_t i = chunk_.queries[n];
    const SeenKeys seen = seen_[n];
    float* const w = Weights(n);
    const float reference = task_.space.reference[i];
    const int64_t exact = seen.end - seen.begin;
    std::fill(w, w + seen.begin, 0.0F);
    std::fill(w + seen.end, w + chunk_.key_count, 0.0F);
    if (reference == kNothing) return;
    float& exact_mass = task_.space.exact_mass[i];
    exact_mass *= space_.fading[n];
    float exact_sum = vector_.exp_sum(1.0F, w + seen.begin, reference, w + seen.begin, exact);
    const float* dropout = nullptr;
    if (p_.dropout.on() && exact > 0) {
      DropoutFactors(task_, chunk_, i, seen.begin, seen.end, space_.dropout);
      dropout = space_.dropout + seen.begin;
    }
    if (chunk_.patch.kind == PatchKind::kFill) {
      if (dropout != nullptr) DropFilled(n, dropout);
      low_rank_mass += LowRank(n, 0, seen.begin, w);
      low_rank_mass += LowRank(n, seen.end, seen.seen, w + seen.end);
    } else {
      float* const x = Products(n);
      if (chunk_.patch.hash_round > 0 && MarkFirstMeetings(task_, chunk_, i, exact, space_.kept)) {
        vector_.multiply(w, space_.kept, w, exact);
        vector_.multiply(x, space_.kept, x, exact);
        exact_sum = vector_.sum(w, exact);
      }
      low_rank_mass -= LowRank(n, seen.begin, seen.end, x);
      Replace(w, x, dropout, exact);
    }
    exact_mass += exact_sum;
  }

  // to = low-rank weights of products [begin, end) of row n; returns their sum.
  float LowRank(int64_t n, int64_t begin, int64_t end, float* to) {
    const int64_t count = end - begin;
    if (count <= 0) return 0.0F;
    const float* const x = Products(n) + begin;
    if (p_.causal) {
      const int64_t i = chunk_.queries[n];
      vector_.exp_sum(1.0F, space_.scales + begin,
                      task_.space.reference[i] - task_.space.query_scale[i], space_.row, count);
      vector_.multiply(x, space_.row, to, count);
    } else {
      vector_.scale(space_.low_rank[n], x, to, count);
    }
    return vector_.sum(to, count);
  }

  // Drops exact weights of a filled row. A dropped correction leaves the low-rank weight.
  void DropFilled(int64_t n, const float* dropout) {
    const SeenKeys seen = seen_[n];
    const int64_t count = seen.end - seen.begin;
    float* const w = Weights(n) + seen.begin;
    float* const x = Products(n) + seen.begin;
    vector_.multiply(w, dropout, w, count);
    if (!p_.drops_corrections()) return;
    LowRank(n, seen.begin, seen.end, x);
    vector_.add(w, x, w, count);
    vector_.multiply(x, dropout, x, count);
    vector_.axpy(-1.0F, x, w, count);
  }

  void Replace(float* w, const float* x, const float* dropout, int64_t count) {
    const bool exact_dropped = !p_.drops_corrections();
    if (dropout != nullptr && exact_dropped) vector_.multiply(w, dropout, w, count);
    vector_.axpy(-1.0F, x, w, count);
    if (dropout != nullptr && !exact_dropped) vector_.multiply(w, dropout, w, count);
  }

  [[nodiscard]] float* Weights(int64_t n) const { return space_.weights + n * chunk_.key_count; }
  [[nodiscard]] float* Products(int64_t n) const { return space_.products + n * chunk_.key_count; }

  const HeadTask& task_;
  const ScatterbrainProblem& p_;
  const VectorTable& vector_;
  const Chunk& chunk_;
  const ChunkSpace& space_;
  std::array<SeenKeys, kRows> seen_{};
};

}  // namespace

void PatchForward(const HeadTask& task, const Patch& patch) {
  const auto space = ThreadSpace<ChunkSpace>(task.p);
  for (int64_t i = 0; i < patch.query_count; i += kRows) {
    for (int64_t j = 0; j < patch.key_count; j += kKeys) {
      const Chunk chunk{patch, patch.queries + i, std::min(kRows, patch.query_count - i),
                        patch.keys + j, std::min(kKeys, patch.key_count - j)};
      ForwardChunk(task, chunk, space).Run();
    }
  }
}

}  // namespace weft::kernels::scatterbrain

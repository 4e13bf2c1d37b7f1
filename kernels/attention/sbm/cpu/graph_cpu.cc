// Graphs by the law of sampling_law.h, a head of a sequence on its own thread: the keys' running
// sums once, then query by query as many draws as edges. All decisions are made on exact integers
// (in fp64 where vectors help), so the graph is the same for every instruction set.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/sbm/cpu/cluster_bins.h"
#include "kernels/attention/sbm/cpu/edge_row.h"
#include "kernels/attention/sbm/cpu/key_table.h"
#include "kernels/attention/sbm/cpu/row_clusters.h"
#include "kernels/attention/sbm/cpu/word_list.h"
#include "kernels/attention/sbm/sampling_law.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"
#include "kernels/random/poisson.h"

namespace weft::kernels {
namespace {

constexpr int64_t kRowBlock = 32;  // queries whose cluster weights are made at once
// Keys up to here have sums of 32 bits.
constexpr int64_t kShortKeys = 4095;

// Matrices of one head; K and so on as in sbm.h, the letters of integers as in sampling_law.h.
struct Space {
  Space(const SbmProblem& p, Carver& carver)
      : k(carver.Take(p.keys * p.clusters)),
        largest(carver.Take(p.clusters)),
        row(carver.Take(p.clusters)),
        a(carver.Take<double>(kRowBlock * p.clusters)),
        s(carver.Take<double>(p.clusters * p.clusters)),
        w(carver.Take<double>(kRowBlock * p.clusters)),
        y(carver.Take<uint64_t>(p.clusters)),
        running(carver.Take<uint64_t>(p.clusters + 1)),
        valid(carver.Take<int32_t>(p.keys)),
        valid_bits(carver.Take<uint64_t>((p.keys + 63) / 64)),
        candidates(carver.Take<int32_t>(p.keys)),
        factors(carver.Take<double>(p.sampler == SbmSampler::kExact ? p.queries : 0)),
        shares(carver.Take(EstimatedRows(p) * p.clusters)),
        estimates(carver.Take(EstimatedRows(p) * p.keys)) {}

  static int64_t EstimatedRows(const SbmProblem& p) {
    const bool visits = p.sampler == SbmSampler::kDense || p.sampler == SbmSampler::kExact;
    return visits ? kRowBlock : 0;
  }

  float* k;              // [S, K]
  float* largest;        // [K]: the largest k_jv of the keys that the current query may reach
  float* row;            // [K]
  double* a;             // [kRowBlock, K]
  double* s;             // [K, K]
  double* w;             // [kRowBlock, K]
  uint64_t* y;           // [K]: Y of the current query
  uint64_t* running;     // [K + 1]: running sums of its r
  int32_t* valid;        // the keys that are no padding
  uint64_t* valid_bits;  // the same as bits
  int32_t* candidates;   // keys to be thinned
  double* factors;       // [T]: by what a query's intensity was multiplied; 0: no thinning
  float* shares;         // [rows, K]: 2^-52 w
  float* estimates;      // [rows, S]: p within a few roundings
};

// One head of one sequence.
template <typename Word, typename Index>
class HeadSampler {
 public:
  // What a thread keeps from head to head.
  struct Tables {
    KeyTable<Word, Index> keys;
    ClusterBins<Word> bins;
  };

  HeadSampler(const SbmProblem& p, const SbmDraws& draws, const VectorTable& vector, int64_t index,
              const Space& space, Tables& tables, SbmGraph& graph)
      : p_(p),
        draws_(draws),
        vector_(vector),
        batch_(index / p.heads),
        head_(index % p.heads),
        space_(space),
        keys_(tables.keys),
        bins_(tables.bins),
        edges_(graph.bits, index, p.queries),
        copies_(p.sampler == SbmSampler::kPoissonCopies
                    ? reinterpret_cast<uint8_t*>(graph.copies.data<uint32_t>() +
                                                 index * p.queries * graph.copies.dim(3))
                    : nullptr),
        copies_stride_(copies_ == nullptr ? 0 : 4 * graph.copies.dim(3)) {}

  // Returns the density.
  double Run(const float* query, const float* key, const float* affinity, const int32_t* valid) {
    LoadKeys(key, valid);
    for (int64_t uv = 0; uv < p_.clusters * p_.clusters; ++uv) {
      space_.s[uv] = InUnits(static_cast<double>(affinity[uv]), kAffinityUnit);
    }
    ForQueries(query, [&](int64_t i) { SampleRow(i, valid); });
    if (p_.sampler != SbmSampler::kDense) {
      for (int64_t v = 0; v < p_.clusters; ++v) bins_.TakeOut(v, FindKeys(v));
    }
    if (p_.sampler == SbmSampler::kExact) {
      ForQueries(query, [&](int64_t i) { Thin(i); });
    }
    return pairs_ == 0 ? 0.0 : static_cast<double>(Edges()) / static_cast<double>(pairs_);
  }

 private:
  using Draw = typename ClusterBins<Word>::Draw;

  // Calls visit(i) for each query, with its w at hand.
  template <typename Visit>
  void ForQueries(const float* query, Visit visit) {
    for (int64_t first = 0; first < p_.queries; first += kRowBlock) {
      const int64_t count = std::min(kRowBlock, p_.queries - first);
      LoadWeights(query + first * p_.clusters, count);
      for (int64_t i = first; i < first + count; ++i) visit(i);
    }
  }

  [[nodiscard]] int64_t Edges() const {
    if (copies_ == nullptr) return edges_.Count(vector_, 0, p_.queries);
    int64_t edges = 0;
    for (int64_t n = 0; n < p_.queries * copies_stride_; ++n) edges += copies_[n];
    return edges;
  }

  [[nodiscard]] GraphDraws Of(RandomTag purpose) const {
    return GraphDraws(draws_, purpose, p_.heads, batch_, head_);
  }

  [[nodiscard]] WordList Words(RandomTag purpose, int64_t position) const {
    const GraphDraws draws = Of(purpose);
    return WordList(vector_, draws.seed, draws.site, position, draws.first_ordinal);
  }

  // The keys' memberships as integers, padding as zeros, and their tables.
  void LoadKeys(const float* key, const int32_t* valid) {
    const int64_t k = p_.clusters;
    std::fill_n(space_.valid_bits, (p_.keys + 63) / 64, uint64_t{0});
    for (int64_t j = 0; j < p_.keys; ++j) {
      float* const units = space_.k + j * k;
      if (valid != nullptr && valid[j] == 0) {
        std::fill_n(units, k, 0.0F);
      } else {
        vector_.to_units(static_cast<float>(kMembershipUnit), key + j * k, units, k);
        space_.valid[valid_count_++] = static_cast<int32_t>(j);
        space_.valid_bits[j / 64] |= uint64_t{1} << (j % 64);
      }
    }
    if (p_.sampler != SbmSampler::kDense) {
      keys_.Build(space_.k, p_.keys, k);
      bins_.Prepare(k);
    }
    std::fill_n(space_.y, k, uint64_t{0});
    std::fill_n(space_.largest, k, 0.0F);
    if (!p_.causal) Reach(p_.keys);
  }

  // Takes keys up to `end` into the sums.
  void Reach(int64_t end) {
    const int64_t k = p_.clusters;
    for (; reach_ < valid_count_ && space_.valid[reach_] < end; ++reach_) {
      const float* const units = space_.k + space_.valid[reach_] * k;
      for (int64_t v = 0; v < k; ++v) {
        space_.y[v] += static_cast<uint64_t>(static_cast<int32_t>(units[v]));
        space_.largest[v] = std::max(space_.largest[v], units[v]);
      }
    }
  }

  // w of `count` queries.
  void LoadWeights(const float* query, int64_t count) {
    const int64_t k = p_.clusters;
    for (int64_t row = 0; row < count; ++row) {
      vector_.to_units(static_cast<float>(kMembershipUnit), query + row * k, space_.row, k);
      std::copy_n(space_.row, k, space_.a + row * k);
    }
    vector_.integer_product(space_.a, space_.s, space_.w, count, k, k);
    for (int64_t n = 0; n < count * k; ++n) {
      const auto sum = static_cast<int64_t>(std::min(space_.w[n], 0x1p52));
      space_.w[n] = static_cast<double>(sum >> kWeightShift);
    }
    rows_ = count;
    estimated_ = false;
    if (p_.sampler == SbmSampler::kDense) Estimate();
  }

  // p of the block's queries with all keys, in fp32.
  void Estimate() {
    const int64_t k = p_.clusters;
    for (int64_t n = 0; n < rows_ * k; ++n) {
      space_.shares[n] = static_cast<float>(space_.w[n] * kIntensityUnit);
    }
    Gemm(Transpose::kNo, Transpose::kYes, rows_, p_.keys, k, 1.0F, space_.shares, k, space_.k, k,
         0.0F, space_.estimates, p_.keys);
    estimated_ = true;
  }

  [[nodiscard]] const double* Weights(int64_t i) const {
    return space_.w + i % kRowBlock * p_.clusters;
  }

  void SampleRow(int64_t i, const int32_t* valid) {
    const int64_t position = i + p_.keys - p_.queries;
    std::fill_n(edges_.Row(i), edges_.words, uint64_t{0});
    if (copies_ != nullptr) std::fill_n(copies_ + i * copies_stride_, copies_stride_, uint8_t{0});
    if (p_.sampler == SbmSampler::kExact) space_.factors[i] = 0.0;
    if (p_.causal) Reach(position + 1);
    if (valid != nullptr && valid[position] == 0) return;
    pairs_ += reach_;
    switch (p_.sampler) {
      case SbmSampler::kPoisson:
      case SbmSampler::kPoissonCopies:
        return DrawPoisson(i, position, Intensities(Weights(i)));
      case SbmSampler::kExact:
        return DrawExact(i, position);
      case SbmSampler::kDense:
        return DrawDense(i, position);
    }
  }

  // The running sums of r; returns the expected number of edges.
  double Intensities(const double* weights) {
    const int64_t k = p_.clusters;
    const int shortening = Shortening(reach_);
    uint64_t total = 0;
    for (int64_t v = 0; v < k; ++v) {
      total +=
          static_cast<uint64_t>(static_cast<int64_t>(weights[v])) * (space_.y[v] >> shortening);
      space_.running[v] = total;
    }
    total += static_cast<uint64_t>(std::rint(p_.exploration * kAffinityUnit)) *
             ((static_cast<uint64_t>(reach_) << 20) >> shortening);
    space_.running[k] = total;
    return static_cast<double>(total) * std::ldexp(kIntensityUnit, shortening);
  }

  // A Poisson count of edges with mean `lambda`, each in proportion to the running sums of r. Their
  // keys may stay in the bins for later.
  void DrawPoisson(int64_t i, int64_t position, double lambda) {
    const GraphDraws counts = Of(RandomTag::kRowCounts);
    const int64_t edges = PoissonCount(counts.seed, counts.site, static_cast<uint32_t>(position),
                                       counts.first_ordinal, lambda);
    const RowClusters clusters(space_.running, p_.clusters + 1, edges);
    WordList words = Words(RandomTag::kEdgeEndpoints, position);
    for (int64_t first = 0; first < edges; first += WordList::kMost) {
      const int64_t count = std::min(WordList::kMost, edges - first);
      words.Fill(first, count);
      for (int64_t e = 0; e < count; ++e) DrawEdge(i, clusters, words.Words(e));
    }
  }

  void DrawEdge(int64_t i, const RowClusters& clusters, const uint32_t* words) {
    const uint64_t total = space_.running[p_.clusters];
    const int64_t v = clusters.Find(ChooseBelow(words[0], words[1], total));
    if (v == p_.clusters) {
      const auto reach = static_cast<uint64_t>(reach_);
      return AddEdge(i, space_.valid[ChooseBelow(words[2], words[3], reach)]);
    }
    const auto drawn = static_cast<Word>(ChooseBelow(words[2], words[3], space_.y[v]));
    bins_.Add(v, {drawn, static_cast<int32_t>(i)}, FindKeys(v));
  }

  // What becomes of the bin of cluster v.
  auto FindKeys(int64_t v) {
    return [this, v](const Draw* draws, int64_t count) {
      for (int64_t n = 0; n < count; ++n) AddEdge(draws[n].query, keys_.Find(v, draws[n].drawn));
    };
  }

  void AddEdge(int64_t i, int64_t key) {
    edges_.Row(i)[key / 64] |= uint64_t{1} << (key % 64);
    if (copies_ == nullptr) return;
    uint8_t& copies = copies_[i * copies_stride_ + key];
    copies = static_cast<uint8_t>(std::min(255, copies + 1));
  }

  // p + exploration of one pair.
  [[nodiscard]] double Intensity(const double* weights, int64_t key) const {
    const double sum = vector_.integer_dot(weights, space_.k + key * p_.clusters, p_.clusters);
    return sum * kIntensityUnit + p_.exploration;
  }

  void DrawExact(int64_t i, int64_t position) {
    const double* const weights = Weights(i);
    const double largest =
        vector_.integer_dot(weights, space_.largest, p_.clusters) * kIntensityUnit + p_.exploration;
    if (!(largest > 0.0)) return;
    const double factor = CandidateFactor(std::min(largest, kLargestThinned));
    const double candidates = factor * Intensities(weights);
    if (VisitsAll(largest, candidates, reach_)) {
      if (!estimated_) Estimate();
      return DrawDense(i, position);
    }
    space_.factors[i] = factor;
    DrawPoisson(i, position, candidates);
  }

  // Drops some of the candidates of query i, so that the rest have the probability p.
  void Thin(int64_t i) {
    const double factor = space_.factors[i];
    if (factor == 0.0) return;
    uint64_t* const row = edges_.Row(i);
    int32_t* const keys = space_.candidates;
    const int64_t candidates = ListEdges(row, edges_.words, keys);
    WordList words = Words(RandomTag::kThinning, i + p_.keys - p_.queries);
    for (int64_t first = 0; first < candidates; first += WordList::kMost) {
      const int64_t count = std::min(WordList::kMost, candidates - first);
      words.Fill(keys + first, count);
      for (int64_t e = 0; e < count; ++e) {
        const int64_t key = keys[first + e];
        const double share = KeptShare(Intensity(Weights(i), key), factor);
        if (U53(words.Words(e)[0], words.Words(e)[1]) >= share) {
          row[key / 64] &= ~(uint64_t{1} << (key % 64));
        }
      }
    }
  }

  // Every pair by itself. The estimated p decides unless the word is too near; then the exact one
  // does.
  void DrawDense(int64_t i, int64_t position) {
    const float* const estimates = space_.estimates + i % kRowBlock * p_.keys;
    // Each of K + 4 roundings errs by at most 2^-24 of a sum of at most about 1, and as much is cut
    // off the word; twice that.
    const auto doubt = static_cast<float>(p_.clusters + 5) * 0x1p-23F;
    const auto exploration = static_cast<float>(p_.exploration);
    constexpr int64_t kStretch = 4 * WordList::kMost;
    WordList words = Words(RandomTag::kDenseMask, position);
    const int64_t end = p_.causal ? position + 1 : p_.keys;
    for (int64_t begin = 0; begin < end; begin += kStretch) {
      const int64_t count = std::min(kStretch, end - begin);
      words.Fill(begin / 4, (count + 3) / 4);
      uint64_t sure[kStretch / 64];
      uint64_t possible[kStretch / 64];
      vector_.bits_below(words.Words(0), exploration - doubt, estimates + begin, sure, count);
      vector_.bits_below(words.Words(0), exploration + doubt, estimates + begin, possible, count);
      for (int64_t w = 0; w < (count + 63) / 64; ++w) {
        const uint64_t valid = space_.valid_bits[begin / 64 + w];
        uint64_t linked = sure[w] & valid;
        for (uint64_t open = possible[w] & ~sure[w] & valid; open != 0; open &= open - 1) {
          const int64_t in_stretch = 64 * w + std::countr_zero(open);
          const double p = Intensity(Weights(i), begin + in_stretch);
          if (words.Words(0)[in_stretch] < WordsBelow(p)) linked |= open & -open;
        }
        edges_.Row(i)[begin / 64 + w] = linked;
      }
    }
  }

  const SbmProblem& p_;
  const SbmDraws& draws_;
  const VectorTable& vector_;
  int64_t batch_, head_;
  const Space& space_;
  KeyTable<Word, Index>& keys_;
  ClusterBins<Word>& bins_;
  EdgeRows edges_;
  uint8_t* copies_;  // [T, copies_stride_]; null: not counted
  int64_t copies_stride_;

  int64_t valid_count_ = 0;
  int64_t reach_ = 0;  // how many of the valid keys the current query may be linked to
  int64_t pairs_ = 0;
  int64_t rows_ = 0;  // queries of the current block
  bool estimated_ = false;
};

template <typename Word, typename Index>
void SampleHeads(CpuStream& cpu, const SbmProblem& p, const SbmDraws& draws,
                 const SbmMemberships& memberships, const Tensor& valid, SbmGraph& graph) {
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    thread_local typename HeadSampler<Word, Index>::Tables tables;
    const auto space = ThreadSpace<Space>(p);
    HeadSampler<Word, Index> head(p, draws, cpu.vector(), index, space, tables, graph);
    const double density =
        head.Run(memberships.query.data<float>() + index * p.queries * p.clusters,
                 memberships.key.data<float>() + index * p.keys * p.clusters,
                 memberships.affinity.data<float>() + index % p.heads * p.clusters * p.clusters,
                 valid.present() ? valid.data<int32_t>() + index / p.heads * p.keys : nullptr);
    graph.density.data<float>()[index] = static_cast<float>(density);
  });
}

}  // namespace

absl::Status SbmSampleGraphCpu(Stream& stream, const SbmProblem& p, const SbmDraws& draws,
                               const SbmMemberships& memberships, const Tensor& valid,
                               SbmGraph& graph) {
  CpuStream& cpu = AsCpuStream(stream);
  if (p.keys <= kShortKeys) {
    SampleHeads<uint32_t, uint16_t>(cpu, p, draws, memberships, valid, graph);
  } else {
    SampleHeads<uint64_t, uint32_t>(cpu, p, draws, memberships, valid, graph);
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

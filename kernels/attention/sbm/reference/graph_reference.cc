// Graphs as written down in sampling_law.h: for every query, all sums over all keys and clusters
// anew, in integers, one thread.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/attention/sbm/sampling_law.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/random/poisson.h"

namespace weft::kernels {
namespace {

using Integers = std::vector<uint64_t>;

Integers Rounded(const double* x, int64_t count, double unit) {
  Integers result(count);
  for (int64_t i = 0; i < count; ++i) result[i] = static_cast<uint64_t>(InUnits(x[i], unit));
  return result;
}

// The first entry at which the running sum exceeds `drawn`; the last one when none does.
int64_t FirstBeyond(const Integers& weights, uint64_t drawn) {
  uint64_t sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum > drawn) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(weights.size()) - 1;
}

// One head of one sequence.
struct Head {
  const SbmProblem& p;
  const SbmDraws& draws;
  int64_t batch, head;
  Integers a, k, s;         // [T, K], [S, K], [K, K]
  std::vector<bool> valid;  // [S]

  [[nodiscard]] GraphDraws Of(RandomTag purpose) const {
    return GraphDraws(draws, purpose, p.heads, batch, head);
  }
};

// One query: what its draws depend on.
struct Row {
  Row(const Head& head, int64_t i)
      : position(i + head.p.keys - head.p.queries), w(head.p.clusters), sums(head.p.clusters) {
    const SbmProblem& p = head.p;
    const int64_t end = p.causal ? position + 1 : p.keys;
    for (int64_t j = 0; j < end && head.valid[position]; ++j) {
      if (head.valid[j]) keys.push_back(j);
    }
    for (int64_t v = 0; v < p.clusters; ++v) {
      double sum = 0.0;
      for (int64_t u = 0; u < p.clusters; ++u) {
        sum += static_cast<double>(head.a[i * p.clusters + u]) *
               static_cast<double>(head.s[u * p.clusters + v]);
      }
      w[v] = static_cast<uint64_t>(std::min(sum, 0x1p52)) >> kWeightShift;
      for (const int64_t j : keys) sums[v] += head.k[j * p.clusters + v];
    }
  }

  // p_ij + exploration.
  [[nodiscard]] double Intensity(const Head& head, int64_t j) const {
    uint64_t sum = 0;
    for (int64_t v = 0; v < head.p.clusters; ++v) sum += w[v] * head.k[j * head.p.clusters + v];
    return static_cast<double>(sum) * kIntensityUnit + head.p.exploration;
  }

  // What no intensity of the row exceeds: every cluster at its best key.
  [[nodiscard]] double LargestIntensity(const Head& head) const {
    uint64_t sum = 0;
    for (int64_t v = 0; v < head.p.clusters; ++v) {
      uint64_t largest = 0;
      for (const int64_t j : keys) largest = std::max(largest, head.k[j * head.p.clusters + v]);
      sum += w[v] * largest;
    }
    return static_cast<double>(sum) * kIntensityUnit + head.p.exploration;
  }

  int64_t position;
  std::vector<int64_t> keys;  // that the query may be linked to
  Integers w, sums;           // [K]
};

using Counts = std::vector<int64_t>;  // [S]: edges to each key

// What an edge of the row chooses its cluster from.
struct Choice {
  Choice(const Head& head, const Row& row) : r(head.p.clusters + 1) {
    const int64_t clusters = head.p.clusters;
    const auto reach = static_cast<int64_t>(row.keys.size());
    const int shortening = Shortening(reach);
    for (int64_t v = 0; v < clusters; ++v) r[v] = row.w[v] * (row.sums[v] >> shortening);
    r[clusters] = static_cast<uint64_t>(std::rint(head.p.exploration * kAffinityUnit)) *
                  ((static_cast<uint64_t>(reach) << 20) >> shortening);
    for (const uint64_t weight : r) total += weight;
    expected = static_cast<double>(total) * std::ldexp(kIntensityUnit, shortening);
  }

  Integers r;
  uint64_t total = 0;
  double expected = 0.0;  // edges of the row
};

// A Poisson count of edges with mean `lambda`.
void DrawPoisson(const Head& head, const Row& row, const Choice& choice, double lambda,
                 Counts& counts) {
  const SbmProblem& p = head.p;
  const GraphDraws count_draws = head.Of(RandomTag::kRowCounts);
  const int64_t edges =
      PoissonCount(count_draws.seed, count_draws.site, static_cast<uint32_t>(row.position),
                   count_draws.first_ordinal, lambda);
  const GraphDraws edge_draws = head.Of(RandomTag::kEdgeEndpoints);
  for (int64_t edge = 0; edge < edges; ++edge) {
    const PhiloxWords words = edge_draws.Words(row.position, edge);
    const int64_t v = FirstBeyond(choice.r, ChooseBelow(words[0], words[1], choice.total));
    if (v == p.clusters) {
      ++counts[row.keys[ChooseBelow(words[2], words[3], row.keys.size())]];
      continue;
    }
    Integers column;
    for (const int64_t j : row.keys) column.push_back(head.k[j * p.clusters + v]);
    ++counts[row.keys[FirstBeyond(column, ChooseBelow(words[2], words[3], row.sums[v]))]];
  }
}

// Every pair by itself.
void DrawDense(const Head& head, const Row& row, Counts& counts) {
  const GraphDraws draws = head.Of(RandomTag::kDenseMask);
  for (const int64_t j : row.keys) {
    const uint64_t word = draws.Words(row.position, j / 4)[j % 4];
    counts[j] = word < WordsBelow(row.Intensity(head, j)) ? 1 : 0;
  }
}

// Candidates from a larger intensity, then thinned.
void DrawExact(const Head& head, const Row& row, Counts& counts) {
  const double largest = row.LargestIntensity(head);
  if (!(largest > 0.0)) return;
  const Choice choice(head, row);
  const double factor = CandidateFactor(std::min(largest, kLargestThinned));
  const double candidates = factor * choice.expected;
  if (VisitsAll(largest, candidates, static_cast<int64_t>(row.keys.size()))) {
    return DrawDense(head, row, counts);
  }
  DrawPoisson(head, row, choice, candidates, counts);
  const GraphDraws draws = head.Of(RandomTag::kThinning);
  for (const int64_t j : row.keys) {
    if (counts[j] == 0) continue;
    const PhiloxWords words = draws.Words(row.position, j);
    counts[j] = U53(words[0], words[1]) < KeptShare(row.Intensity(head, j), factor) ? 1 : 0;
  }
}

Counts DrawRow(const Head& head, const Row& row) {
  Counts counts(head.p.keys, 0);
  switch (head.p.sampler) {
    case SbmSampler::kPoisson:
    case SbmSampler::kPoissonCopies: {
      const Choice choice(head, row);
      DrawPoisson(head, row, choice, choice.expected, counts);
      break;
    }
    case SbmSampler::kExact:
      DrawExact(head, row, counts);
      break;
    case SbmSampler::kDense:
      DrawDense(head, row, counts);
      break;
  }
  return counts;
}

}  // namespace

absl::Status SbmSampleGraphReference(Stream& /*stream*/, const SbmProblem& p, const SbmDraws& draws,
                                     const SbmMemberships& memberships, const Tensor& valid,
                                     SbmGraph& graph) {
  const bool keep_copies = p.sampler == SbmSampler::kPoissonCopies;
  for (int64_t index = 0; index < p.batch * p.heads; ++index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const double* const query = memberships.query.data<double>() + index * p.queries * p.clusters;
    const double* const key = memberships.key.data<double>() + index * p.keys * p.clusters;
    const double* const affinity =
        memberships.affinity.data<double>() + h * p.clusters * p.clusters;
    Head head{p,
              draws,
              b,
              h,
              Rounded(query, p.queries * p.clusters, kMembershipUnit),
              Rounded(key, p.keys * p.clusters, kMembershipUnit),
              Rounded(affinity, p.clusters * p.clusters, kAffinityUnit),
              std::vector<bool>(p.keys, true)};
    for (int64_t j = 0; j < p.keys && valid.present(); ++j) {
      head.valid[j] = valid.data<int32_t>()[b * p.keys + j] != 0;
    }
    int64_t edges = 0;
    int64_t pairs = 0;
    for (int64_t i = 0; i < p.queries; ++i) {
      const Row row(head, i);
      const Counts counts = DrawRow(head, row);
      auto* const bits = graph.bits.data<uint32_t>() + (index * p.queries + i) * graph.bits.dim(3);
      std::fill_n(bits, graph.bits.dim(3), 0U);
      uint8_t* copies = nullptr;
      if (keep_copies) {
        copies = reinterpret_cast<uint8_t*>(graph.copies.data<uint32_t>() +
                                            (index * p.queries + i) * graph.copies.dim(3));
        std::fill_n(copies, 4 * graph.copies.dim(3), uint8_t{0});
      }
      for (int64_t j = 0; j < p.keys; ++j) {
        const int64_t count = std::min<int64_t>(counts[j], keep_copies ? 255 : 1);
        if (count > 0) bits[j / 32] |= 1U << (j % 32);
        if (keep_copies) copies[j] = static_cast<uint8_t>(count);
        edges += count;
      }
      pairs += static_cast<int64_t>(row.keys.size());
    }
    graph.density.data<double>()[index] =
        pairs == 0 ? 0.0 : static_cast<double>(edges) / static_cast<double>(pairs);
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

// The law of drawn graphs: mean, variance and share of every entry of small graphs, and the
// independence of all pairs of entries, over many graphs; of the kernels and of samplers of the
// textbook, one of which is known to be wrong.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/random/poisson.h"
#include "tests/kernels/attention/sbm_testing.h"

namespace weft::kernels::testing {
namespace {

constexpr int64_t kGraphs = 100000;
constexpr int64_t kQueries = 4, kKeys = 5, kClusters = 3;
constexpr int64_t kEntries = kQueries * kKeys;
// Some thousand statistics are looked at in this file; each is beyond this with probability 7e-6.
constexpr double kLargestScore = 4.5;

struct Moments {
  double mean, variance, fourth;  // central
};

Moments OfPoisson(double p) { return {p, p, p + 3 * p * p}; }
Moments OfBernoulli(double p) {
  const double v = p * (1 - p);
  return {p, v, v * (1 - 3 * v)};
}

// By how many standard errors the worst of all statistics of `counts` [graphs, entries] is off.
double WorstScore(const Mask& counts, const std::vector<Moments>& law) {
  const double n = static_cast<double>(counts.size()) / kEntries;
  std::vector<double> sums(kEntries), squares(kEntries), products(kEntries * kEntries);
  for (size_t at = 0; at < counts.size(); at += kEntries) {
    std::vector<double> x(kEntries);
    for (int64_t e = 0; e < kEntries; ++e) x[e] = counts[at + e] - law[e].mean;
    for (int64_t a = 0; a < kEntries; ++a) {
      sums[a] += x[a];
      squares[a] += x[a] * x[a];
      for (int64_t b = 0; b < a; ++b) products[a * kEntries + b] += x[a] * x[b];
    }
  }
  double worst = 0.0;
  // A statistic without variance must not be off at all.
  const auto look = [&](double sum, double variance) {
    const double score = variance > 0.0 ? std::abs(sum) / std::sqrt(n * variance)
                                        : (std::abs(sum) > 1e-9 * n ? HUGE_VAL : 0.0);
    worst = std::max(worst, score);
  };
  for (int64_t a = 0; a < kEntries; ++a) {
    look(sums[a], law[a].variance);
    look(squares[a] - n * law[a].variance, law[a].fourth - law[a].variance * law[a].variance);
    for (int64_t b = 0; b < a; ++b) {
      look(products[a * kEntries + b], law[a].variance * law[b].variance);
    }
  }
  return worst;
}

// Edges merged: whether there is one.
Mask Linked(Mask counts) {
  for (int& count : counts) count = std::min(count, 1);
  return counts;
}

// One small model, many graphs: every sequence of the batch has the same memberships.
struct Model {
  explicit Model(SbmSampler sampler, bool causal = false, double lowest = 0.0)
      : one(RandomSbm({.queries = kQueries,
                       .keys = kKeys,
                       .head_dim = 1,
                       .clusters = kClusters,
                       .causal = causal,
                       .sampler = sampler,
                       .exploration = 0.03},
                      5, lowest)) {}

  [[nodiscard]] Mask Draw(bool training = true) const {
    SbmInputs many = one;
    many.problem.batch = kGraphs;
    many.draws.training = training;
    const auto repeat = [](Values& values) {
      const Values first = values;
      values.clear();
      values.reserve(first.size() * kGraphs);
      for (int64_t g = 0; g < kGraphs; ++g) values.insert(values.end(), first.begin(), first.end());
    };
    for (Values* values : {&many.q, &many.k, &many.v, &many.d_o, &many.query, &many.key}) {
      repeat(*values);
    }
    return MaskOf(many, SampleSbm(DeviceRun::Cpu(), many));
  }

  // The intensity of an entry, exploration included.
  [[nodiscard]] double Intensity(int64_t e) const {
    const int64_t i = e / kKeys;
    const int64_t j = e % kKeys;
    return one.MayLink(0, i, j) ? one.P(0, 0, i, j) + one.problem.exploration : 0.0;
  }
  template <typename Law>
  [[nodiscard]] std::vector<Moments> Entries(Law law) const {
    std::vector<Moments> moments;
    for (int64_t e = 0; e < kEntries; ++e) moments.push_back(law(Intensity(e)));
    return moments;
  }

  SbmInputs one;
};

Moments OfMerged(double p) { return OfBernoulli(1.0 - std::exp(-p)); }
Moments OfClamped(double p) { return OfBernoulli(std::min(p, 1.0)); }

TEST(SbmLawTest, CopiesAreIndependentPoissonCounts) {
  for (const bool causal : {false, true}) {
    const Model model(SbmSampler::kPoissonCopies, causal);
    for (const bool training : {true, false}) {
      const Mask counts = model.Draw(training);
      EXPECT_LT(WorstScore(counts, model.Entries(OfPoisson)), kLargestScore);
      EXPECT_LT(WorstScore(Linked(counts), model.Entries(OfMerged)), kLargestScore);
    }
  }
}

TEST(SbmLawTest, MergedCopiesAreIndependentEdges) {
  for (const bool causal : {false, true}) {
    const Model model(SbmSampler::kPoisson, causal, /*lowest=*/0.5);
    EXPECT_LT(WorstScore(model.Draw(), model.Entries(OfMerged)), kLargestScore);
  }
}

TEST(SbmLawTest, DenseDrawsAreIndependentEdgesOfProbabilityP) {
  for (const bool causal : {false, true}) {
    for (const double lowest : {0.0, 0.9}) {
      const Model model(SbmSampler::kDense, causal, lowest);
      EXPECT_LT(WorstScore(model.Draw(/*training=*/!causal), model.Entries(OfClamped)),
                kLargestScore)
          << model.one.Name() << " lowest " << lowest;
    }
  }
}

TEST(SbmLawTest, ThinnedDrawsAreIndependentEdgesOfProbabilityP) {
  for (const bool causal : {false, true}) {
    Model model(SbmSampler::kExact, causal);
    // Queries 0 to 2 have few enough candidates to be thinned, query 3 visits its keys. One key
    // beside others that are nearly nobody's: candidates of that key are drawn more than once.
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t u = 0; u < kClusters; ++u) model.one.query[i * kClusters + u] *= 0.9;
    }
    for (int64_t j = 0; j < kKeys; ++j) {
      for (int64_t v = 0; v < kClusters; ++v) {
        model.one.key[j * kClusters + v] *= j == 1 ? 1.0 : 0.02;
      }
    }
    RoundToFloat(model.one.query);
    RoundToFloat(model.one.key);
    model.one.problem.exploration = 0.001;
    for (const bool training : {true, false}) {
      EXPECT_LT(WorstScore(model.Draw(training), model.Entries(OfClamped)), kLargestScore)
          << model.one.Name();
    }
  }
}

// ---- Rivals

// A stream of draws for graph number `graph`, with a place of its own for each.
class GraphNumbers {
 public:
  explicit GraphNumbers(int64_t graph)
      : site_{.tag = RandomTag::kInitialisation, .sample = static_cast<uint32_t>(graph)} {}
  int64_t Poisson(double mean) { return PoissonCount(99, site_, next_++, 0, mean); }
  // A category in proportion to its weight.
  int64_t Category(const Values& weights) {
    const PhiloxWords words = kernels::Draw(99, site_, next_++, 0);
    double left = U53(words[0], words[1]) * std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t i = 0; i + 1 < weights.size(); ++i) {
      left -= weights[i];
      if (left < 0.0) return static_cast<int64_t>(i);
    }
    return static_cast<int64_t>(weights.size()) - 1;
  }

 private:
  DrawSite site_;
  uint32_t next_ = 0;
};

// Factors X S Y^T of the intensity, with one more cluster for the exploration.
struct Factors {
  explicit Factors(const Model& model) : x(kAll), y(kAll), s(kAll * kAll, 0.0) {
    for (int64_t u = 0; u < kAll; ++u) {
      for (int64_t i = 0; i < kQueries; ++i) {
        x[u].push_back(u == kClusters ? 1.0 : model.one.query[i * kClusters + u]);
      }
      for (int64_t j = 0; j < kKeys; ++j) {
        y[u].push_back(u == kClusters ? 1.0 : model.one.key[j * kClusters + u]);
      }
      for (int64_t v = 0; v < kClusters && u < kClusters; ++v) {
        s[u * kAll + v] = model.one.affinity[u * kClusters + v];
      }
    }
    s[kAll * kAll - 1] = model.one.problem.exploration;
  }

  static constexpr int64_t kAll = kClusters + 1;
  std::vector<Values> x, y;  // [cluster][token]
  Values s;
};

// Rohe et al. 2018, algorithm 1 with Poisson edges: counts for pairs of clusters, then sources laid
// out by their cluster and targets by theirs. `reorder` brings the targets into the order of the
// sources, cell by cell; without it the k-th source meets the k-th target.
Mask FastRg(const Factors& f, GraphNumbers numbers, bool reorder) {
  constexpr int64_t n = Factors::kAll;
  std::vector<int64_t> cells(n * n);
  std::vector<int64_t> sources, targets;
  for (int64_t uv = 0; uv < n * n; ++uv) {
    const Values& x = f.x[uv / n];
    const Values& y = f.y[uv % n];
    cells[uv] = numbers.Poisson(std::accumulate(x.begin(), x.end(), 0.0) * f.s[uv] *
                                std::accumulate(y.begin(), y.end(), 0.0));
  }
  std::vector<int64_t> column_start(n + 1, 0);
  for (int64_t u = 0; u < n; ++u) {
    for (int64_t v = 0; v < n; ++v) {
      for (int64_t k = 0; k < cells[u * n + v]; ++k) sources.push_back(numbers.Category(f.x[u]));
    }
  }
  for (int64_t v = 0; v < n; ++v) {
    column_start[v] = static_cast<int64_t>(targets.size());
    for (int64_t u = 0; u < n; ++u) {
      for (int64_t k = 0; k < cells[u * n + v]; ++k) targets.push_back(numbers.Category(f.y[v]));
    }
  }
  Mask graph(kEntries, 0);
  int64_t edge = 0;
  std::vector<int64_t> taken(n, 0);  // of each target cluster, by the cells before
  for (int64_t uv = 0; uv < n * n; ++uv) {
    for (int64_t k = 0; k < cells[uv]; ++k, ++edge) {
      const int64_t target = reorder ? column_start[uv % n] + taken[uv % n]++ : edge;
      ++graph[sources[edge] * kKeys + targets[target]];
    }
  }
  return graph;
}

template <typename Sampler>
Mask Many(Sampler sampler) {
  Mask all;
  for (int64_t g = 0; g < kGraphs; ++g) {
    const Mask one = sampler(g);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

// Clusters that seek out others.
Model Communities() {
  Model model(SbmSampler::kPoissonCopies, /*causal=*/false, /*lowest=*/0.1);
  model.one.affinity = {0.02, 0.5, 0.02, 0.1, 0.02, 0.1, 0.02, 0.02, 0.2};
  RoundToFloat(model.one.affinity);
  return model;
}

TEST(SbmLawTest, TheTextbooksSamplersHaveTheSameLaw) {
  const Model model = Communities();
  const Factors factors(model);
  const Mask direct = Many([&](int64_t g) {
    GraphNumbers numbers(g);
    Mask graph;
    for (int64_t e = 0; e < kEntries; ++e) {
      graph.push_back(static_cast<int>(numbers.Poisson(model.Intensity(e))));
    }
    return graph;
  });
  EXPECT_LT(WorstScore(direct, model.Entries(OfPoisson)), kLargestScore);
  const Mask fast = Many([&](int64_t g) { return FastRg(factors, GraphNumbers(g), true); });
  EXPECT_LT(WorstScore(fast, model.Entries(OfPoisson)), kLargestScore);
}

TEST(SbmLawTest, PairingWithoutReorderingIsFoundOut) {
  const Model model = Communities();
  const Factors factors(model);
  EXPECT_LT(WorstScore(model.Draw(), model.Entries(OfPoisson)), kLargestScore);
  const Mask wrong = Many([&](int64_t g) { return FastRg(factors, GraphNumbers(g), false); });
  EXPECT_GT(WorstScore(wrong, model.Entries(OfPoisson)), 3 * kLargestScore);
}

}  // namespace
}  // namespace weft::kernels::testing

// SBM attention as written down in sbm.h: edge by edge, fp64, one thread.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/sbm/sbm_kernels.h"

namespace weft::kernels {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

struct Edge {
  int64_t key;
  double copies;
  double kept;  // 1 / (1 - dropout), or 0 when the weight is dropped
  double logit;
  double weight;  // before dropout
};

// One head of one sequence, and where its rows begin.
struct Head {
  const SbmProblem& p;
  const SbmGraph& graph;
  int64_t batch, head;

  [[nodiscard]] int64_t Index() const { return batch * p.heads + head; }
  [[nodiscard]] int64_t Query(int64_t i) const {
    return ((batch * p.queries + i) * p.heads + head) * p.head_dim;
  }
  [[nodiscard]] int64_t Key(int64_t j) const {
    return ((batch * p.keys + j) * p.heads + head) * p.head_dim;
  }

  // Of query i, in ascending order of keys, with their logits and factors but no weights.
  [[nodiscard]] std::vector<Edge> Edges(const Tensor& q, const Tensor& k, int64_t i) const {
    std::vector<Edge> edges;
    const int64_t row = Index() * p.queries + i;
    const DrawSite dropped = p.dropout.Site(p.heads, batch, head);
    for (int64_t j = 0; j < p.keys; ++j) {
      const uint32_t word = graph.bits.data<uint32_t>()[row * graph.bits.dim(3) + j / 32];
      if ((word >> (j % 32) & 1U) == 0) continue;
      Edge edge{.key = j, .copies = 1.0, .kept = 1.0, .logit = 0.0, .weight = 0.0};
      if (p.sampler == SbmSampler::kPoissonCopies) {
        const uint32_t four = graph.copies.data<uint32_t>()[row * graph.copies.dim(3) + j / 4];
        edge.copies = four >> (j % 4 * 8) & 255U;
      }
      if (p.dropout.on()) {
        edge.kept = DropoutFactor(p.dropout, dropped, i + p.keys - p.queries, j);
      }
      edge.logit = p.scale * Dot(q, Query(i), k, Key(j));
      edges.push_back(edge);
    }
    return edges;
  }
  [[nodiscard]] double Dot(const Tensor& x, int64_t x_row, const Tensor& y, int64_t y_row) const {
    double sum = 0.0;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      sum += x.data<double>()[x_row + d] * y.data<double>()[y_row + d];
    }
    return sum;
  }
  // y_row += factor x_row.
  void Add(double factor, const Tensor& x, int64_t x_row, Tensor& y, int64_t y_row) const {
    for (int64_t d = 0; d < p.head_dim; ++d) {
      y.data<double>()[y_row + d] += factor * x.data<double>()[x_row + d];
    }
  }
};

// Pairs that could be edges.
int64_t PairsOf(const SbmProblem& p, const Tensor& valid, int64_t batch) {
  const auto is_valid = [&](int64_t j) {
    return !valid.present() || valid.data<int32_t>()[batch * p.keys + j] != 0;
  };
  int64_t pairs = 0;
  for (int64_t i = p.keys - p.queries; i < p.keys; ++i) {
    for (int64_t j = 0; j < (p.causal ? i + 1 : p.keys); ++j) {
      pairs += is_valid(i) && is_valid(j) ? 1 : 0;
    }
  }
  return pairs;
}

// The gradient of p on one edge; `h` is that of its logit, all copies together.
double StraightThrough(const SbmProblem& p, const Edge& edge, double h, double density_part) {
  const double mask = p.straight_through == SbmStraightThrough::kMask ? h : h * edge.logit;
  return edge.copies * std::clamp(mask / edge.copies + density_part, -p.clip, p.clip);
}

// y[K] += factor x[K].
void AddClusters(double factor, const double* x, int64_t clusters, double* y) {
  for (int64_t c = 0; c < clusters; ++c) y[c] += factor * x[c];
}

void BackwardRow(const Head& at, const SbmSaved& saved, const Tensor& d_o, int64_t i,
                 double density_part, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                 SbmMemberships& d_memberships) {
  const SbmProblem& p = at.p;
  const int64_t n = p.clusters;
  const double mean = at.Dot(d_o, at.Query(i), saved.o, at.Query(i));
  const double lse = saved.lse.data<double>()[at.Index() * p.queries + i];
  const double* const y = saved.memberships.query.data<double>() + (at.Index() * p.queries + i) * n;
  const double* const s = saved.memberships.affinity.data<double>() + at.head * n * n;
  double* const d_y = d_memberships.query.data<double>() + (at.Index() * p.queries + i) * n;
  double* const d_s = d_memberships.affinity.data<double>() + at.head * n * n;
  for (const Edge& edge : at.Edges(saved.q, saved.k, i)) {
    const int64_t key = at.Key(edge.key);
    const double weight = edge.copies * std::exp(edge.logit - lse);
    const double slope = at.Dot(d_o, at.Query(i), saved.v, key);
    const double h = weight * (edge.kept * slope - mean);
    at.Add(p.scale * h, saved.k, key, d_q, at.Query(i));
    at.Add(p.scale * h, saved.q, at.Query(i), d_k, key);
    at.Add(weight * edge.kept, d_o, at.Query(i), d_v, key);

    const double d_p = StraightThrough(p, edge, h, density_part);
    const int64_t row = (at.Index() * p.keys + edge.key) * n;
    const double* const z = saved.memberships.key.data<double>() + row;
    for (int64_t u = 0; u < n; ++u) {
      for (int64_t v = 0; v < n; ++v) {
        d_y[u] += d_p * s[u * n + v] * z[v];
        d_memberships.key.data<double>()[row + v] += d_p * y[u] * s[u * n + v];
      }
      AddClusters(d_p * y[u], z, n, d_s + u * n);
    }
  }
}

void Clear(Tensor& tensor) { std::fill_n(tensor.data<double>(), tensor.count(), 0.0); }

}  // namespace

absl::Status SbmForwardReference(Stream& /*stream*/, const SbmProblem& p, const Tensor& q,
                                 const Tensor& k, const Tensor& v, const SbmGraph& graph, Tensor& o,
                                 Tensor& lse) {
  Clear(o);
  for (int64_t index = 0; index < p.batch * p.heads * p.queries; ++index) {
    const int64_t i = index % p.queries;
    const Head at{p, graph, index / p.queries / p.heads, index / p.queries % p.heads};
    std::vector<Edge> edges = at.Edges(q, k, i);
    double largest = kNothing;
    for (const Edge& edge : edges) largest = std::max(largest, edge.logit);
    double sum = 0.0;
    for (Edge& edge : edges) {
      edge.weight = edge.copies * std::exp(edge.logit - largest);
      sum += edge.weight;
    }
    lse.data<double>()[index] = edges.empty() ? kNothing : largest + std::log(sum);
    for (const Edge& edge : edges) {
      at.Add(edge.kept * edge.weight / sum, v, at.Key(edge.key), o, at.Query(i));
    }
  }
  return absl::OkStatus();
}

absl::Status SbmBackwardReference(Stream& /*stream*/, const SbmProblem& p, const SbmSaved& saved,
                                  const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                                  SbmMemberships& d_memberships) {
  for (Tensor* const result :
       {&d_q, &d_k, &d_v, &d_memberships.query, &d_memberships.key, &d_memberships.affinity}) {
    Clear(*result);
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t pairs = PairsOf(p, saved.valid, b);
    const double density_part = pairs == 0 ? 0.0 : p.density_gradient / static_cast<double>(pairs);
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head at{p, saved.graph, b, h};
      for (int64_t i = 0; i < p.queries; ++i) {
        BackwardRow(at, saved, d_o, i, density_part, d_q, d_k, d_v, d_memberships);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

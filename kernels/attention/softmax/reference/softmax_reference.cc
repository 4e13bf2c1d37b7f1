// Softmax attention row by row, fp64, one thread: all logits of a query, their softmax, the sums.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/softmax/softmax_kernels.h"
#include "kernels/attention/softmax/visible_keys.h"

namespace weft::kernels {
namespace {

// Where the row of a query, a key, and the log-sum-exp of a query begin.
struct Layout {
  const SoftmaxProblem& p;
  int64_t batch;
  int64_t head;

  [[nodiscard]] int64_t Query(int64_t i) const {
    return ((batch * p.queries + i) * p.heads + head) * p.head_dim;
  }
  [[nodiscard]] int64_t Key(int64_t j) const {
    return ((batch * p.keys + j) * p.kv_heads + head / (p.heads / p.kv_heads)) * p.head_dim;
  }
  [[nodiscard]] int64_t Lse(int64_t i) const { return (batch * p.heads + head) * p.queries + i; }
  // The keys of query i's run that are not padding.
  [[nodiscard]] std::vector<int64_t> SeenKeys(int64_t i, const Tensor& valid) const {
    std::vector<int64_t> seen;
    const KeyRange range = VisibleKeys(p, i);
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (!valid.present() || valid.data<int32_t>()[batch * p.keys + j] != 0) seen.push_back(j);
    }
    return seen;
  }
  // What dropout multiplies a weight by.
  [[nodiscard]] double Kept(int64_t i, int64_t j) const {
    if (!p.dropout.on()) return 1.0;
    return DropoutFactor(p.dropout, p.dropout.Site(p.heads, batch, head), i, j);
  }
};

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// to += factor * from
void AddScaled(const double* from, double factor, int64_t n, double* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

}  // namespace

absl::Status SoftmaxForwardReference(Stream& /*stream*/, const SoftmaxProblem& p, const Tensor& q,
                                     const Tensor& k, const Tensor& v, const Tensor& valid,
                                     Tensor& o, Tensor& lse) {
  const int64_t dim = p.head_dim;
  std::vector<double> logits(p.keys);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Layout at{p, b, h};
      for (int64_t i = 0; i < p.queries; ++i) {
        const std::vector<int64_t> seen = at.SeenKeys(i, valid);
        double* o_i = o.data<double>() + at.Query(i);
        double& lse_i = lse.data<double>()[at.Lse(i)];
        std::fill_n(o_i, dim, 0.0);
        lse_i = -std::numeric_limits<double>::infinity();
        if (seen.empty()) continue;

        double largest = -std::numeric_limits<double>::infinity();
        for (const int64_t j : seen) {
          logits[j] =
              p.scale * Dot(q.data<double>() + at.Query(i), k.data<double>() + at.Key(j), dim);
          largest = std::max(largest, logits[j]);
        }
        double sum = 0.0;
        for (const int64_t j : seen) sum += std::exp(logits[j] - largest);
        lse_i = largest + std::log(sum);
        for (const int64_t j : seen) {
          AddScaled(v.data<double>() + at.Key(j), at.Kept(i, j) * std::exp(logits[j] - lse_i), dim,
                    o_i);
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SoftmaxBackwardReference(Stream& /*stream*/, const SoftmaxProblem& p, const Tensor& q,
                                      const Tensor& k, const Tensor& v, const Tensor& valid,
                                      const Tensor& o, const Tensor& lse, const Tensor& d_o,
                                      Tensor& d_q, Tensor& d_k, Tensor& d_v) {
  const int64_t dim = p.head_dim;
  std::fill_n(d_q.data<double>(), d_q.count(), 0.0);
  std::fill_n(d_k.data<double>(), d_k.count(), 0.0);
  std::fill_n(d_v.data<double>(), d_v.count(), 0.0);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Layout at{p, b, h};
      for (int64_t i = 0; i < p.queries; ++i) {
        const double* q_i = q.data<double>() + at.Query(i);
        const double* d_o_i = d_o.data<double>() + at.Query(i);
        // sum_j p_ij dp_ij, because o_i = sum_j p_ij v_j, each times what dropout does to it.
        const double mean_d_p = Dot(d_o_i, o.data<double>() + at.Query(i), dim);
        for (const int64_t j : at.SeenKeys(i, valid)) {
          const double* k_j = k.data<double>() + at.Key(j);
          const double p_ij =
              std::exp(p.scale * Dot(q_i, k_j, dim) - lse.data<double>()[at.Lse(i)]);
          const double kept = at.Kept(i, j);
          const double d_p = kept * Dot(d_o_i, v.data<double>() + at.Key(j), dim);
          const double d_logit = p.scale * p_ij * (d_p - mean_d_p);
          AddScaled(d_o_i, kept * p_ij, dim, d_v.data<double>() + at.Key(j));
          AddScaled(k_j, d_logit, dim, d_q.data<double>() + at.Query(i));
          AddScaled(q_i, d_logit, dim, d_k.data<double>() + at.Key(j));
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

// SBM attention as dense matrices of a given mask, in the arithmetic of T: shares nothing with the
// kernels, and is the plain rival of the tolerance rule.
#pragma once

#include <vector>

#include "tests/kernels/attention/sbm_testing.h"

namespace weft::kernels::testing {

template <typename T>
class PlainSbm {
 public:
  static SbmResults Run(const SbmInputs& in, const Mask& mask) {
    PlainSbm plain(in, mask);
    for (int64_t b = 0; b < in.problem.batch; ++b) {
      for (int64_t h = 0; h < in.problem.heads; ++h) {
        for (int64_t i = 0; i < in.problem.queries; ++i) plain.RunRow(b, h, i);
      }
    }
    SbmResults& r = plain.r_;
    r.o = Widened(plain.o_);
    r.d_q = Widened(plain.d_q_);
    r.d_k = Widened(plain.d_k_);
    r.d_v = Widened(plain.d_v_);
    r.d_query = Widened(plain.d_query_);
    r.d_key = Widened(plain.d_key_);
    r.d_affinity = Widened(plain.d_affinity_);
    return r;
  }

  // What dropout makes of the weight of a pair: nothing, or more of it.
  static double Kept(const SbmInputs& in, int64_t b, int64_t h, int64_t i, int64_t j) {
    const SbmProblem& p = in.problem;
    if (p.dropout.probability == 0.0) return 1.0;
    const DrawSite site{
        .tag = RandomTag::kAttentionDropout,
        .step = static_cast<uint32_t>(p.dropout.step),
        .layer = static_cast<uint32_t>(p.dropout.layer),
        .sample = static_cast<uint32_t>((p.dropout.first_sequence + b) * p.heads + h)};
    const PhiloxWords words =
        Draw(p.dropout.seed, site, static_cast<uint32_t>(i + p.keys - p.queries),
             static_cast<uint32_t>(j / 4));
    return words[j % 4] < std::floor(p.dropout.probability * 0x1p32)
               ? 0.0
               : 1.0 / (1.0 - p.dropout.probability);
  }

 private:
  using Row = std::vector<T>;

  PlainSbm(const SbmInputs& in, const Mask& mask)
      : in_(in),
        p_(in.problem),
        mask_(mask),
        o_(in.q.size()),
        d_q_(in.q.size()),
        d_k_(in.k.size()),
        d_v_(in.v.size()),
        d_query_(in.query.size()),
        d_key_(in.key.size()),
        d_affinity_(in.affinity.size()) {
    r_.lse.resize(in.LseShape().count());
  }

  static Values Widened(const Row& row) { return {row.begin(), row.end()}; }

  [[nodiscard]] T Dot(const Values& x, int64_t x_at, const Values& y, int64_t y_at) const {
    T sum = 0;
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      sum += static_cast<T>(x[x_at + d]) * static_cast<T>(y[y_at + d]);
    }
    return sum;
  }
  void Add(T factor, const Values& x, int64_t x_at, Row& y, int64_t y_at, int64_t width) const {
    for (int64_t d = 0; d < width; ++d) y[y_at + d] += factor * static_cast<T>(x[x_at + d]);
  }
  [[nodiscard]] T DensityPart(int64_t b) const {
    int64_t pairs = 0;
    for (int64_t i = 0; i < p_.queries; ++i) {
      for (int64_t j = 0; j < p_.keys; ++j) pairs += in_.MayLink(b, i, j) ? 1 : 0;
    }
    return pairs == 0 ? T{0} : static_cast<T>(p_.density_gradient / static_cast<double>(pairs));
  }

  void RunRow(int64_t b, int64_t h, int64_t i) {
    const int64_t row = (b * p_.heads + h) * p_.queries + i;
    const int64_t q = ((b * p_.queries + i) * p_.heads + h) * p_.head_dim;
    const auto key = [&](int64_t j) { return ((b * p_.keys + j) * p_.heads + h) * p_.head_dim; };
    const int* const copies = mask_.data() + row * p_.keys;
    Row logit(p_.keys), weight(p_.keys), kept(p_.keys);
    T largest = -std::numeric_limits<T>::infinity();
    for (int64_t j = 0; j < p_.keys; ++j) {
      logit[j] = static_cast<T>(p_.scale) * Dot(in_.q, q, in_.k, key(j));
      if (copies[j] > 0) largest = std::max(largest, logit[j]);
    }
    T sum = 0;
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (copies[j] > 0) weight[j] = static_cast<T>(copies[j]) * std::exp(logit[j] - largest);
      sum += weight[j];
    }
    r_.lse[row] = largest + std::log(sum);
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (sum > 0) weight[j] /= sum;
      kept[j] = static_cast<T>(Kept(in_, b, h, i, j));
      Add(weight[j] * kept[j], in_.v, key(j), o_, q, p_.head_dim);
    }
    T mean = 0;
    for (int64_t d = 0; d < p_.head_dim; ++d) mean += static_cast<T>(in_.d_o[q + d]) * o_[q + d];
    const T density_part = DensityPart(b);
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (copies[j] == 0) continue;
      const T h_ij = weight[j] * (kept[j] * Dot(in_.d_o, q, in_.v, key(j)) - mean);
      Add(static_cast<T>(p_.scale) * h_ij, in_.k, key(j), d_q_, q, p_.head_dim);
      Add(static_cast<T>(p_.scale) * h_ij, in_.q, q, d_k_, key(j), p_.head_dim);
      Add(weight[j] * kept[j], in_.d_o, q, d_v_, key(j), p_.head_dim);
      const auto many = static_cast<T>(copies[j]);
      const T mask =
          (p_.straight_through == SbmStraightThrough::kMask ? h_ij : h_ij * logit[j]) / many;
      const T clip = static_cast<T>(p_.clip);
      AddMemberships(b, h, row, j, many * std::min(clip, std::max(-clip, mask + density_part)));
    }
  }

  // The gradients of p_ij = y_i S z_j^T.
  void AddMemberships(int64_t b, int64_t h, int64_t row, int64_t j, T d_p) {
    const int64_t n = p_.clusters;
    const int64_t z = ((b * p_.heads + h) * p_.keys + j) * n;
    for (int64_t u = 0; u < n; ++u) {
      const T y_u = static_cast<T>(in_.query[row * n + u]);
      for (int64_t v = 0; v < n; ++v) {
        const T s = static_cast<T>(in_.affinity[(h * n + u) * n + v]);
        const T z_v = static_cast<T>(in_.key[z + v]);
        d_query_[row * n + u] += d_p * s * z_v;
        d_key_[z + v] += d_p * y_u * s;
        d_affinity_[(h * n + u) * n + v] += d_p * y_u * z_v;
      }
    }
  }

  const SbmInputs& in_;
  const SbmProblem& p_;
  const Mask& mask_;
  SbmResults r_;
  Row o_, d_q_, d_k_, d_v_, d_query_, d_key_, d_affinity_;
};

}  // namespace weft::kernels::testing

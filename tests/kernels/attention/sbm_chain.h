// The whole of an SBM head: memberships and affinity from queries, keys and parameters, attention
// along a given graph, all gradients. As ops on a device, and as the loss that the straight-through
// estimate pretends to have, written down in fp64.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention/sbm/memberships.h"
#include "tests/kernels/attention/plain_sbm.h"

namespace weft::kernels::testing {

// Everything that has a gradient; also holds gradients.
struct SbmParameters {
  Values q, k, v;
  Values w1, b1, w2, b2, clusters;

  template <typename Visit>
  void Each(Visit visit) {
    visit("q", q);
    visit("k", k);
    visit("v", v);
    visit("w1", w1);
    visit("b1", b1);
    visit("w2", w2);
    visit("b2", b2);
    visit("clusters", clusters);
  }
};

struct SbmChain {
  SbmInputs in;  // memberships and affinity are results here
  SbmParameters at;
  Mask mask;
};

inline SbmChain RandomChain(const SbmProblem& problem, uint32_t seed, int64_t padding = 0) {
  SbmChain chain{.in = RandomSbm(problem, seed), .at = {}, .mask = {}};
  if (padding > 0) PadEnds(chain.in, padding);
  NumberStream numbers(seed + 1);
  const int64_t d = problem.head_dim;
  chain.at = {.q = chain.in.q,
              .k = chain.in.k,
              .v = chain.in.v,
              .w1 = numbers.Symmetric(d * d),
              .b1 = numbers.Symmetric(d),
              .w2 = numbers.Symmetric(d * d),
              .b2 = numbers.Symmetric(d),
              .clusters = numbers.Symmetric(problem.heads * problem.clusters * d)};
  chain.at.Each([](const char*, Values& values) { RoundToFloat(values); });
  return chain;
}

// Memberships [B, H, T, K] of x [B, T, H, D], in the arithmetic of T.
template <typename T>
std::vector<T> PlainMemberships(const SbmProblem& p, const SbmParameters& at, const Values& x,
                                int64_t tokens) {
  const int64_t dim = p.head_dim;
  std::vector<T> memberships;
  for (int64_t row = 0; row < p.batch * p.heads * tokens; ++row) {
    const int64_t h = row / tokens % p.heads;
    const int64_t from = ((row / tokens / p.heads * tokens + row % tokens) * p.heads + h) * dim;
    std::vector<T> hidden(dim), f(dim);
    for (int64_t a = 0; a < dim; ++a) {
      hidden[a] = static_cast<T>(at.b1[a]);
      for (int64_t d = 0; d < dim; ++d) {
        hidden[a] += static_cast<T>(at.w1[a * dim + d]) * static_cast<T>(x[from + d]);
      }
      hidden[a] = std::max(hidden[a], T{0});
    }
    for (int64_t a = 0; a < dim; ++a) {
      f[a] = static_cast<T>(at.b2[a]);
      for (int64_t d = 0; d < dim; ++d) f[a] += static_cast<T>(at.w2[a * dim + d]) * hidden[d];
    }
    for (int64_t c = 0; c < p.clusters; ++c) {
      T logit = 0;
      for (int64_t d = 0; d < dim; ++d) {
        logit += f[d] * static_cast<T>(at.clusters[(h * p.clusters + c) * dim + d]);
      }
      memberships.push_back(T{1} / (T{1} + std::exp(-logit)));
    }
  }
  return memberships;
}

template <typename T>
std::vector<T> PlainAffinity(const SbmProblem& p, const SbmParameters& at) {
  const int64_t n = p.clusters;
  std::vector<T> affinity;
  for (int64_t h = 0; h < p.heads; ++h) {
    T sum = 0;
    for (int64_t uv = 0; uv < n * n; ++uv) {
      T logit = 0;
      for (int64_t d = 0; d < p.head_dim; ++d) {
        logit += static_cast<T>(at.clusters[(h * n + uv / n) * p.head_dim + d]) *
                 static_cast<T>(at.clusters[(h * n + uv % n) * p.head_dim + d]);
      }
      affinity.push_back(std::exp(logit));
      sum += affinity.back();
    }
    for (int64_t uv = 0; uv < n * n; ++uv) affinity[h * n * n + uv] /= sum;
  }
  return affinity;
}

// All p [B, H, T, S].
inline Values PlainProbabilities(const SbmChain& chain, const SbmParameters& at) {
  SbmInputs in = chain.in;
  in.query = PlainMemberships<double>(in.problem, at, at.q, in.problem.queries);
  in.key = PlainMemberships<double>(in.problem, at, at.k, in.problem.keys);
  in.affinity = PlainAffinity<double>(in.problem, at);
  Values p;
  for (int64_t row = 0; row < in.LseShape().count(); ++row) {
    const int64_t t = in.problem.queries;
    for (int64_t j = 0; j < in.problem.keys; ++j) {
      p.push_back(in.P(row / t / in.problem.heads, row / t % in.problem.heads, row % t, j));
    }
  }
  return p;
}

// d_o . o + density_gradient * density, an edge being worth 1 + p - p0 of itself: equal to the loss
// where p = p0, and with the gradients of the straight-through estimate there.
inline double SurrogateLoss(const SbmChain& chain, const SbmParameters& at, const Values& p0) {
  const SbmInputs& in = chain.in;
  const SbmProblem& p = in.problem;
  const Values probabilities = PlainProbabilities(chain, at);
  double loss = 0.0;
  for (int64_t row = 0; row < in.LseShape().count(); ++row) {
    const int64_t b = row / p.queries / p.heads;
    const int64_t h = row / p.queries % p.heads;
    const int64_t i = row % p.queries;
    const int64_t q = ((b * p.queries + i) * p.heads + h) * p.head_dim;
    int64_t pairs = 0;
    for (int64_t n = 0; n < p.queries * p.keys; ++n) {
      pairs += in.MayLink(b, n / p.keys, n % p.keys) ? 1 : 0;
    }
    double sum = 0.0;
    double weighted = 0.0;
    for (int64_t j = 0; j < p.keys; ++j) {
      const int64_t n = row * p.keys + j;
      if (chain.mask[n] == 0) continue;
      const int64_t key = ((b * p.keys + j) * p.heads + h) * p.head_dim;
      double logit = 0.0;
      double slope = 0.0;
      for (int64_t d = 0; d < p.head_dim; ++d) {
        logit += p.scale * at.q[q + d] * at.k[key + d];
        slope += in.d_o[q + d] * at.v[key + d];
      }
      const double edge = 1.0 + probabilities[n] - p0[n];
      const double weight = chain.mask[n] * (p.straight_through == SbmStraightThrough::kMask
                                                 ? edge * std::exp(logit)
                                                 : std::exp(edge * logit));
      sum += weight;
      weighted += weight * PlainSbm<double>::Kept(in, b, h, i, j) * slope;
      loss += p.density_gradient * chain.mask[n] * edge / static_cast<double>(pairs);
    }
    if (sum > 0.0) loss += weighted / sum;
  }
  return loss;
}

// The ops along chain.mask. Gradients of parameters are added to `before` in all their elements.
inline SbmParameters ChainGradients(DeviceRun run, const SbmChain& chain, double before = 0.0) {
  const SbmInputs& in = chain.in;
  const SbmProblem& p = in.problem;
  const int64_t dim = p.head_dim;
  const auto check = [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; };
  const SbmClusterModel model{
      .w1 = run.Upload(chain.at.w1, {dim, dim}),
      .w2 = run.Upload(chain.at.w2, {dim, dim}),
      .b1 = run.Upload(chain.at.b1, {dim}),
      .b2 = run.Upload(chain.at.b2, {dim}),
      .clusters = run.Upload(chain.at.clusters, {p.heads, p.clusters, dim})};
  SbmSaved saved{.q = run.Upload(chain.at.q, in.QueryShape()),
                 .k = run.Upload(chain.at.k, in.KeyShape()),
                 .v = run.Upload(chain.at.v, in.KeyShape()),
                 .o = run.New(in.QueryShape()),
                 .lse = run.NewSum(in.LseShape()),
                 .memberships = {.query = run.NewSum(in.QueryMemberships()),
                                 .key = run.NewSum(in.KeyMemberships()),
                                 .affinity = run.NewSum(in.AffinityShape())},
                 .valid = {},
                 .graph = NewSbmGraph(run.device(), p).value()};
  if (!in.valid.empty()) {
    saved.valid = NewTensor(run.device(), DType::kI32, {p.batch, p.keys}).value();
    check(run.device().CopyFromHost(saved.valid, in.valid.data(), run.stream()));
  }
  check(SbmMembershipForward(run.stream(), saved.q, model, saved.memberships.query));
  check(SbmMembershipForward(run.stream(), saved.k, model, saved.memberships.key));
  check(SbmAffinityForward(run.stream(), model.clusters, saved.memberships.affinity));
  const SbmResults graph = GraphOf(in, chain.mask);
  check(run.device().CopyFromHost(saved.graph.bits, graph.bits.data(), run.stream()));
  if (saved.graph.copies.present()) {
    check(run.device().CopyFromHost(saved.graph.copies, graph.copies.data(), run.stream()));
  }
  check(SbmForward(run.stream(), p, saved.q, saved.k, saved.v, saved.graph, saved.o, saved.lse));

  const auto filled = [&](const Tensor& like) {
    return run.UploadSum(Values(like.count(), before), like.shape());
  };
  Tensor d_q = run.New(in.QueryShape());
  Tensor d_k = run.New(in.KeyShape());
  Tensor d_v = run.New(in.KeyShape());
  SbmMemberships d_memberships{.query = run.NewSum(in.QueryMemberships()),
                               .key = run.NewSum(in.KeyMemberships()),
                               .affinity = run.NewSum(in.AffinityShape())};
  SbmClusterModel d_model{.w1 = filled(model.w1),
                          .w2 = filled(model.w2),
                          .b1 = filled(model.b1),
                          .b2 = filled(model.b2),
                          .clusters = filled(model.clusters)};
  check(SbmBackward(run.stream(), p, saved, run.Upload(in.d_o, in.QueryShape()), d_q, d_k, d_v,
                    d_memberships));
  check(SbmMembershipBackward(run.stream(), saved.q, model, saved.memberships.query,
                              d_memberships.query, d_q, Accumulate::kYes, d_model));
  check(SbmMembershipBackward(run.stream(), saved.k, model, saved.memberships.key,
                              d_memberships.key, d_k, Accumulate::kYes, d_model));
  check(SbmAffinityBackward(run.stream(), model.clusters, saved.memberships.affinity,
                            d_memberships.affinity, d_model.clusters));
  return {.q = run.Download(d_q),
          .k = run.Download(d_k),
          .v = run.Download(d_v),
          .w1 = run.Download(d_model.w1),
          .b1 = run.Download(d_model.b1),
          .w2 = run.Download(d_model.w2),
          .b2 = run.Download(d_model.b2),
          .clusters = run.Download(d_model.clusters)};
}

}  // namespace weft::kernels::testing

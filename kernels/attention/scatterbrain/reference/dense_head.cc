#include "kernels/attention/scatterbrain/reference/dense_head.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weft::kernels {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

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

DenseHead::DenseHead(const ScatterbrainProblem& problem, const ScatterbrainOperands& in,
                     int64_t batch, int64_t head)
    : p_(problem),
      in_(in),
      batch_(batch),
      head_(head),
      offset_(problem.epsilon / std::sqrt(static_cast<double>(problem.features))),
      queries_(NewFeatures(in.q, /*of_keys=*/false)),
      keys_(NewFeatures(in.k, /*of_keys=*/true)) {
  QueryFeatures();
  KeyFeatures();
}

DenseFeatures DenseHead::NewFeatures(const Tensor& rows, bool of_keys) const {
  const int64_t count = of_keys ? p_.keys : p_.queries;
  DenseFeatures f;
  f.u.resize(count * p_.key_dim);
  for (int64_t t = 0; t < count; ++t) {
    const double* row = rows.data<double>() + RowAt(rows, t);
    AddScaled(row, std::sqrt(p_.scale), p_.key_dim, f.u.data() + t * p_.key_dim);
  }
  f.stored.resize(count * p_.features);
  f.scale.resize(count);
  f.top.resize(count);
  return f;
}

double DenseHead::Project(int64_t feature, const double* u) const {
  const int64_t rows = p_.feature_rows();
  const double* w = in_.w.data<double>() + feature % rows * p_.key_dim;
  return (feature < rows ? 1.0 : -1.0) * Dot(w, u, p_.key_dim);
}

void DenseHead::AddRow(int64_t feature, double factor, double* to) const {
  const int64_t rows = p_.feature_rows();
  const double* w = in_.w.data<double>() + feature % rows * p_.key_dim;
  AddScaled(w, feature < rows ? factor : -factor, p_.key_dim, to);
}

void DenseHead::QueryFeatures() {
  DenseFeatures& f = queries_;
  for (int64_t i = 0; i < p_.queries; ++i) {
    const double* u = f.u.data() + i * p_.key_dim;
    double largest = kNothing;
    for (int64_t l = 0; l < p_.features; ++l) {
      const double x = Project(l, u);
      if (x > largest) {
        largest = x;
        f.top[i] = {i, l};
      }
    }
    for (int64_t l = 0; l < p_.features; ++l) {
      f.stored[i * p_.features + l] = std::exp(Project(l, u) - largest) + offset_;
    }
    f.scale[i] =
        largest - Dot(u, u, p_.key_dim) / 2 - std::log(static_cast<double>(p_.features)) / 2;
  }
}

void DenseHead::KeyFeatures() {
  DenseFeatures& f = keys_;
  const auto lambda = [&](int64_t j, int64_t l) {
    const double* u = f.u.data() + j * p_.key_dim;
    return Project(l, u) - Dot(u, u, p_.key_dim) / 2 -
           std::log(static_cast<double>(p_.features)) / 2;
  };
  const auto padding = [&](int64_t j) {
    return in_.valid.present() && in_.valid.data<int32_t>()[batch_ * p_.keys + j] == 0;
  };
  double largest = kNothing;
  DenseFeatures::Top top;
  for (int64_t j = 0; j < p_.keys; ++j) {
    for (int64_t l = 0; l < p_.features && !padding(j); ++l) {
      if (lambda(j, l) > largest) {
        largest = lambda(j, l);
        top = {j, l};
      }
    }
    f.scale[j] = largest;
    f.top[j] = top;
  }
  for (int64_t j = 0; j < p_.keys; ++j) {
    if (!p_.causal) {
      f.scale[j] = largest;
      f.top[j] = top;
    }
    for (int64_t l = 0; l < p_.features && !padding(j); ++l) {
      f.stored[j * p_.features + l] = std::exp(lambda(j, l) - f.scale[j]) + offset_;
    }
  }
}

bool DenseHead::Visible(int64_t i, int64_t j) const {
  if (in_.valid.present() && in_.valid.data<int32_t>()[batch_ * p_.keys + j] == 0) return false;
  return !p_.causal || j <= i;
}

bool DenseHead::Exact(int64_t i, int64_t j) const {
  if (const auto* window = std::get_if<WindowSupport>(&p_.support)) {
    return j - i >= -(window->width / 2) && j - i < (window->width + 1) / 2;
  }
  if (const auto* blocks = std::get_if<BlockSupport>(&p_.support)) {
    return blocks->layout->exact(i / blocks->layout->block(), j / blocks->layout->block());
  }
  const auto* hash = std::get_if<HashSupport>(&p_.support);
  if (hash == nullptr) return false;
  const int64_t first = (batch_ * p_.heads + head_) * hash->rounds;
  for (int64_t round = first; round < first + hash->rounds; ++round) {
    const int32_t query = in_.buckets.queries.data<int32_t>()[round * p_.queries + i];
    if (query >= 0 && query == in_.buckets.keys.data<int32_t>()[round * p_.keys + j]) return true;
  }
  return false;
}

double DenseHead::Logit(int64_t i, int64_t j) const {
  return Dot(queries_.u.data() + i * p_.key_dim, keys_.u.data() + j * p_.key_dim, p_.key_dim);
}

double DenseHead::LowRankLogit(int64_t i, int64_t j) const {
  return queries_.scale[i] + keys_.scale[j] +
         std::log(Dot(queries_.stored.data() + i * p_.features,
                      keys_.stored.data() + j * p_.features, p_.features));
}

DenseHead::Kept DenseHead::Keep(int64_t i, int64_t j) const {
  if (!Exact(i, j)) return {0.0, 1.0};
  if (!p_.dropout.on()) return {1.0, 0.0};
  const double factor = DropoutFactor(p_.dropout, p_.dropout.Site(p_.heads, batch_, head_), i, j);
  return {factor, p_.dropped == ScatterbrainProblem::Dropped::kCorrection ? 1.0 - factor : 0.0};
}

void DenseHead::Forward(int64_t i, double* o, double& log_normaliser,
                        double& low_rank_share) const {
  std::fill_n(o, p_.value_dim, 0.0);
  log_normaliser = kNothing;
  low_rank_share = 0.0;
  double largest = kNothing;
  for (int64_t j = 0; j < p_.keys; ++j) {
    if (Visible(i, j)) largest = std::max(largest, Exact(i, j) ? Logit(i, j) : LowRankLogit(i, j));
  }
  if (largest == kNothing) return;
  double sum = 0.0;
  double low_rank = 0.0;
  for (int64_t j = 0; j < p_.keys; ++j) {
    if (!Visible(i, j)) continue;
    const bool exact = Exact(i, j);
    const double weight = std::exp((exact ? Logit(i, j) : LowRankLogit(i, j)) - largest);
    sum += weight;
    if (!exact) low_rank += weight;
    const Kept kept = Keep(i, j);
    double total = 0.0;
    if (kept.exact != 0.0) total += kept.exact * std::exp(Logit(i, j) - largest);
    if (kept.low_rank != 0.0) total += kept.low_rank * std::exp(LowRankLogit(i, j) - largest);
    AddScaled(in_.v.data<double>() + RowAt(in_.v, j), total, p_.value_dim, o);
  }
  for (int64_t e = 0; e < p_.value_dim; ++e) o[e] /= sum;
  log_normaliser = largest + std::log(sum);
  low_rank_share = low_rank / sum;
}

// phi_l = exp(w_l u - c) + offset with c = w_top u, times exp(c - |u|^2 / 2): the gradient of phi,
// and by the scale's own dependence on u.
void DenseHead::QueryBackward(int64_t i, const double* d_stored, double* d_u) const {
  const double* stored = queries_.stored.data() + i * p_.features;
  const double d_scale = Dot(d_stored, stored, p_.features);
  double d_top = d_scale;
  for (int64_t l = 0; l < p_.features; ++l) {
    const double d_exponent = d_stored[l] * (stored[l] - offset_);
    AddRow(l, d_exponent, d_u);
    d_top -= d_exponent;
  }
  AddRow(queries_.top[i].feature, d_top, d_u);
  AddScaled(queries_.u.data() + i * p_.key_dim, -d_scale, p_.key_dim, d_u);
}

// psi_l = exp(lambda_l - m) + offset, times exp(m): what m gets goes to the lambda that it is.
void DenseHead::KeyBackward(int64_t j, const double* d_stored, std::vector<double>& d_u) const {
  const auto add_lambda = [&](DenseFeatures::Top at, double d_lambda) {
    double* to = d_u.data() + at.row * p_.key_dim;
    AddRow(at.feature, d_lambda, to);
    AddScaled(keys_.u.data() + at.row * p_.key_dim, -d_lambda, p_.key_dim, to);
  };
  const double* stored = keys_.stored.data() + j * p_.features;
  if (keys_.top[j].row < 0) return;  // nothing but padding so far
  double d_largest = Dot(d_stored, stored, p_.features);
  for (int64_t l = 0; l < p_.features; ++l) {
    const double d_lambda = d_stored[l] * (stored[l] - offset_);
    d_largest -= d_lambda;
    add_lambda({j, l}, d_lambda);
  }
  add_lambda(keys_.top[j], d_largest);
}

DenseHead::Gradients DenseHead::Backward(const Tensor& o, const ScatterbrainSaved& saved,
                                         const Tensor& d_o) const {
  const int64_t r = p_.features;
  Gradients g{std::vector<double>(p_.queries * p_.key_dim),
              std::vector<double>(p_.keys * p_.key_dim),
              std::vector<double>(p_.keys * p_.value_dim)};
  std::vector<double> d_psi(p_.keys * r);
  std::vector<double> d_phi(r);
  for (int64_t i = 0; i < p_.queries; ++i) {
    const double* d_o_i = d_o.data<double>() + RowAt(d_o, i);
    const double mean = Dot(d_o_i, o.data<double>() + RowAt(o, i), p_.value_dim);
    const double log_normaliser =
        saved.log_normaliser.data<double>()[(batch_ * p_.heads + head_) * p_.queries + i];
    std::fill(d_phi.begin(), d_phi.end(), 0.0);
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (!Visible(i, j)) continue;
      const bool exact = Exact(i, j);
      const Kept kept = Keep(i, j);
      const double* value = in_.v.data<double>() + RowAt(in_.v, j);
      const double product = Dot(d_o_i, value, p_.value_dim);
      const double y = exact ? std::exp(Logit(i, j) - log_normaliser) : 0.0;
      double weight = kept.exact * y;
      if (kept.low_rank != 0.0) {
        weight += kept.low_rank * std::exp(LowRankLogit(i, j) - log_normaliser);
      }
      AddScaled(d_o_i, weight, p_.value_dim, g.v.data() + j * p_.value_dim);
      const double d_logit = y * (kept.exact * product - mean);
      AddScaled(keys_.u.data() + j * p_.key_dim, d_logit, p_.key_dim, g.q.data() + i * p_.key_dim);
      AddScaled(queries_.u.data() + i * p_.key_dim, d_logit, p_.key_dim,
                g.k.data() + j * p_.key_dim);
      // Of phi_i . psi_j; the normaliser holds the low-rank weight of no exact pair.
      double d_dot = kept.low_rank * product - (exact ? 0.0 : mean);
      if (d_dot == 0.0) continue;
      d_dot *= std::exp(queries_.scale[i] + keys_.scale[j] - log_normaliser);
      AddScaled(keys_.stored.data() + j * r, d_dot, r, d_phi.data());
      AddScaled(queries_.stored.data() + i * r, d_dot, r, d_psi.data() + j * r);
    }
    QueryBackward(i, d_phi.data(), g.q.data() + i * p_.key_dim);
  }
  for (int64_t j = 0; j < p_.keys; ++j) KeyBackward(j, d_psi.data() + j * r, g.k);
  for (double& x : g.q) x *= std::sqrt(p_.scale);  // from u to q and k
  for (double& x : g.k) x *= std::sqrt(p_.scale);
  return g;
}

}  // namespace weft::kernels

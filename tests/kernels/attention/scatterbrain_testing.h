// Scatterbrain problems as host arrays, their results on a device, and the formulas on dense
// matrices.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/attention/scatterbrain/scatterbrain.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

using Ids = std::vector<int32_t>;

struct ScatterbrainInputs {
  ScatterbrainProblem problem = {};
  Values q = {};
  Values k = {};
  Values v = {};
  Values w = {};
  Values d_o = {};
  Ids valid = {};                            // empty: absent
  Ids query_buckets = {}, key_buckets = {};  // of a hash support

  [[nodiscard]] Shape QueryShape() const {
    return {problem.batch, problem.queries, problem.heads, problem.key_dim};
  }
  [[nodiscard]] Shape KeyShape() const {
    return {problem.batch, problem.keys, problem.heads, problem.key_dim};
  }
  [[nodiscard]] Shape ValueShape() const {
    return {problem.batch, problem.keys, problem.heads, problem.value_dim};
  }
  [[nodiscard]] Shape OutputShape() const {
    return {problem.batch, problem.queries, problem.heads, problem.value_dim};
  }
  [[nodiscard]] std::string Name() const {
    const char* supports[] = {"none", "window", "hash", "blocks"};
    return absl::StrCat(supports[problem.support.index()], " B", problem.batch, " T",
                        problem.queries, " S", problem.keys, " H", problem.heads, " D",
                        problem.key_dim, " Dv", problem.value_dim, " r", problem.features,
                        problem.hyperbolic ? " hyperbolic" : "", " eps ", problem.epsilon,
                        problem.causal ? " causal" : "", valid.empty() ? "" : " padded",
                        problem.dropout.on() ? " dropout" : "");
  }
  [[nodiscard]] bool Visible(int64_t b, int64_t i, int64_t j) const {
    return (valid.empty() || valid[b * problem.keys + j] != 0) && (!problem.causal || j <= i);
  }
  // Written down from the header's words, not from the kernels' ranges.
  [[nodiscard]] bool Exact(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (const auto* window = std::get_if<WindowSupport>(&problem.support)) {
      return -(window->width / 2) <= j - i && j - i < (window->width + 1) / 2;
    }
    if (const auto* blocks = std::get_if<BlockSupport>(&problem.support)) {
      const int64_t size = blocks->layout->block();
      return blocks->layout->exact(i / size, j / size);
    }
    const auto* hash = std::get_if<HashSupport>(&problem.support);
    if (hash == nullptr) return false;
    for (int64_t round = 0; round < hash->rounds; ++round) {
      const int64_t row = (b * problem.heads + h) * hash->rounds + round;
      const int32_t id = query_buckets[row * problem.queries + i];
      if (id >= 0 && id == key_buckets[row * problem.keys + j]) return true;
    }
    return false;
  }
};

struct ScatterbrainResults {
  Values o, log_normaliser, share;
  Values d_q, d_k, d_v;
  // Of the formulas: the largest low-rank total that exact pairs are taken out of, in units of the
  // normaliser.
  double largest_total = 0.0;
};

// Independent tokens in random buckets: every bucket gets its tokens, but for padding.
inline Ids RandomBuckets(NumberStream& numbers, int64_t rows, int64_t count, int64_t bucket,
                         const std::function<bool(int64_t row, int64_t token)>& padding) {
  Ids ids(rows * count, -1);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<std::pair<double, int64_t>> order;
    for (int64_t t = 0; t < count; ++t) {
      if (!padding(row, t)) order.emplace_back(numbers.Uniform(), t);
    }
    std::sort(order.begin(), order.end());
    for (size_t rank = 0; rank < order.size(); ++rank) {
      ids[row * count + order[rank].second] =
          static_cast<int32_t>(static_cast<int64_t>(rank) / bucket);
    }
  }
  return ids;
}

// Standard normal rows of W; queries, keys and values in [-1, 1) but for `spread` of the queries.
// `padded`: about a fifth of the keys, never the first.
inline ScatterbrainInputs RandomScatterbrain(ScatterbrainProblem problem, uint32_t seed = 1,
                                             bool padded = false, double spread = 1.0) {
  NumberStream numbers(seed);
  ScatterbrainInputs in;
  in.problem = problem;
  in.q = numbers.Symmetric(in.QueryShape().count());
  in.k = numbers.Symmetric(in.KeyShape().count());
  in.v = numbers.Symmetric(in.ValueShape().count());
  in.d_o = numbers.Symmetric(in.OutputShape().count());
  in.w.resize(problem.feature_rows() * problem.key_dim);
  FillNormal(seed, {.tag = RandomTag::kFeatureMatrix}, 0, 0, absl::MakeSpan(in.w));
  for (double& q : in.q) q *= spread;
  for (Values* values : {&in.q, &in.k, &in.v, &in.w, &in.d_o}) RoundToFloat(*values);
  if (padded) {
    in.valid.resize(problem.batch * problem.keys);
    for (size_t j = 0; j < in.valid.size(); ++j) {
      in.valid[j] = j % problem.keys == 0 || numbers.Uniform() > 0.2 ? 1 : 0;
    }
  }
  if (const auto* hash = std::get_if<HashSupport>(&problem.support)) {
    const int64_t rows = problem.batch * problem.heads * hash->rounds;
    const auto padding = [&](int64_t row, int64_t key) {
      const int64_t b = row / (problem.heads * hash->rounds);
      return padded && in.valid[b * problem.keys + key] == 0;
    };
    in.query_buckets = RandomBuckets(
        numbers, rows, problem.queries, hash->query_bucket, [&](int64_t row, int64_t query) {
          return problem.queries == problem.keys && padding(row, query);
        });
    in.key_buckets = RandomBuckets(numbers, rows, problem.keys, hash->key_bucket, padding);
  }
  return in;
}

inline ScatterbrainOperands UploadScatterbrain(DeviceRun& run, const ScatterbrainInputs& in) {
  const ScatterbrainProblem& p = in.problem;
  ScatterbrainOperands operands{.q = run.Upload(in.q, in.QueryShape()),
                                .k = run.Upload(in.k, in.KeyShape()),
                                .v = run.Upload(in.v, in.ValueShape()),
                                .w = run.Upload(in.w, {p.feature_rows(), p.key_dim}),
                                .valid = {},
                                .buckets = {}};
  if (!in.valid.empty()) operands.valid = run.UploadIntegers(in.valid, {p.batch, p.keys});
  if (const auto* hash = std::get_if<HashSupport>(&p.support)) {
    operands.buckets.queries =
        run.UploadIntegers(in.query_buckets, {p.batch, p.heads, hash->rounds, p.queries});
    operands.buckets.keys =
        run.UploadIntegers(in.key_buckets, {p.batch, p.heads, hash->rounds, p.keys});
  }
  return operands;
}

inline ScatterbrainResults RunScatterbrain(DeviceRun run, const ScatterbrainInputs& in) {
  const ScatterbrainOperands operands = UploadScatterbrain(run, in);
  Tensor o = run.New(in.OutputShape());
  ScatterbrainSaved saved = NewScatterbrainSaved(run.device(), in.problem).value();
  const absl::Status forward = ScatterbrainForward(run.stream(), in.problem, operands, o, saved);
  EXPECT_TRUE(forward.ok()) << forward;

  // Results must be overwritten, whatever they held.
  Tensor d_q = run.Upload(Values(in.q.size(), 1e6), in.QueryShape());
  Tensor d_k = run.Upload(Values(in.k.size(), 1e6), in.KeyShape());
  Tensor d_v = run.Upload(Values(in.v.size(), 1e6), in.ValueShape());
  const absl::Status backward =
      ScatterbrainBackward(run.stream(), in.problem, operands, o, saved,
                           run.Upload(in.d_o, in.OutputShape()), d_q, d_k, d_v);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.o = run.Download(o),
          .log_normaliser = run.Download(saved.log_normaliser),
          .share = run.Download(saved.low_rank_share),
          .d_q = run.Download(d_q),
          .d_k = run.Download(d_k),
          .d_v = run.Download(d_v)};
}

// The mechanism on dense matrices in the arithmetic of T, with the backward formulas written out:
// shares nothing with the kernels, and is the plain rival of the tolerance rule.
//
// Like the kernels, it takes the exact pairs out of the low-rank totals where a support lies
// anywhere, which costs an fp32 result some digits, and adds up only the others in a window.
template <typename T>
class PlainScatterbrain {
 public:
  static ScatterbrainResults Run(const ScatterbrainInputs& in) {
    const ScatterbrainProblem& p = in.problem;
    ScatterbrainResults r;
    r.o.resize(in.OutputShape().count());
    r.log_normaliser.resize(p.batch * p.heads * p.queries);
    r.share.resize(p.batch * p.heads * p.queries);
    r.d_q.resize(in.q.size());
    r.d_k.resize(in.k.size());
    r.d_v.resize(in.v.size());
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t h = 0; h < p.heads; ++h) {
        PlainScatterbrain one(in, b, h);
        one.Features();
        one.Forward(r);
        one.Backward(r);
      }
    }
    return r;
  }

 private:
  using Row = std::vector<T>;
  using Matrix = std::vector<Row>;
  // A vector summed over all visible pairs, and over the exact ones.
  struct Remainder {
    explicit Remainder(int64_t width) : all(width), exact(width) {}
    [[nodiscard]] T At(int64_t x) const { return all[x] - exact[x]; }
    Row all, exact;
  };

  PlainScatterbrain(const ScatterbrainInputs& in, int64_t b, int64_t h)
      : in_(in),
        p_(in.problem),
        b_(b),
        h_(h),
        subtract_(!std::holds_alternative<WindowSupport>(p_.support)),
        offset_(static_cast<T>(p_.epsilon / std::sqrt(static_cast<double>(p_.features)))),
        query_u_(Load(in.q, p_.queries, p_.key_dim, std::sqrt(p_.scale))),
        key_u_(Load(in.k, p_.keys, p_.key_dim, std::sqrt(p_.scale))),
        v_(Load(in.v, p_.keys, p_.value_dim, 1.0)) {}

  [[nodiscard]] int64_t At(int64_t t, int64_t count, int64_t width) const {
    return ((b_ * count + t) * p_.heads + h_) * width;
  }
  [[nodiscard]] Matrix Load(const Values& values, int64_t count, int64_t width,
                            double scale) const {
    Matrix rows(count, Row(width));
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t x = 0; x < width; ++x) {
        rows[t][x] = static_cast<T>(values[At(t, count, width) + x]) * static_cast<T>(scale);
      }
    }
    return rows;
  }
  void Store(const Matrix& rows, int64_t width, double scale, Values& values) const {
    for (size_t t = 0; t < rows.size(); ++t) {
      for (int64_t x = 0; x < width; ++x) {
        values[At(static_cast<int64_t>(t), static_cast<int64_t>(rows.size()), width) + x] =
            rows[t][x] * static_cast<T>(scale);
      }
    }
  }
  static T Dot(const Row& a, const Row& b) {
    T sum = 0;
    for (size_t x = 0; x < a.size(); ++x) sum += a[x] * b[x];
    return sum;
  }
  [[nodiscard]] T W(int64_t l, int64_t d) const {
    const int64_t rows = p_.feature_rows();
    const T w = static_cast<T>(in_.w[l % rows * p_.key_dim + d]);
    return l < rows ? w : -w;
  }
  // w_l . u - |u|^2 / 2 - ln(r) / 2
  [[nodiscard]] T Exponent(int64_t l, const Row& u) const {
    T x = 0;
    for (int64_t d = 0; d < p_.key_dim; ++d) x += W(l, d) * u[d];
    return x - Dot(u, u) / 2 - std::log(static_cast<T>(p_.features)) / 2;
  }
  [[nodiscard]] bool Padding(int64_t j) const {
    return !in_.valid.empty() && in_.valid[b_ * p_.keys + j] == 0;
  }

  void Features() {
    phi_.assign(p_.queries, Row(p_.features));
    s_.assign(p_.queries, 0);
    top_.assign(p_.queries, 0);
    for (int64_t i = 0; i < p_.queries; ++i) {
      for (int64_t l = 0; l < p_.features; ++l) phi_[i][l] = Exponent(l, query_u_[i]);
      const auto largest = std::max_element(phi_[i].begin(), phi_[i].end());
      top_[i] = largest - phi_[i].begin();
      s_[i] = *largest;
      for (T& x : phi_[i]) x = std::exp(x - s_[i]) + offset_;
    }
    psi_.assign(p_.keys, Row(p_.features));
    m_.assign(p_.keys, -std::numeric_limits<T>::infinity());
    owner_.assign(p_.keys, {-1, -1});
    T largest = -std::numeric_limits<T>::infinity();
    std::pair<int64_t, int64_t> owner = {-1, -1};
    for (int64_t j = 0; j < p_.keys; ++j) {
      for (int64_t l = 0; l < p_.features && !Padding(j); ++l) {
        psi_[j][l] = Exponent(l, key_u_[j]);
        if (psi_[j][l] > largest) {
          largest = psi_[j][l];
          owner = {j, l};
        }
      }
      m_[j] = largest;
      owner_[j] = owner;
    }
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (!p_.causal) {
        m_[j] = largest;
        owner_[j] = owner;
      }
      for (int64_t l = 0; l < p_.features && !Padding(j); ++l) {
        psi_[j][l] = std::exp(psi_[j][l] - m_[j]) + offset_;
      }
    }
  }

  // Calls pair(j, visible key counts in the totals, exact).
  template <typename Pair>
  void ForKeys(int64_t i, Pair pair) const {
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (!in_.Visible(b_, i, j)) continue;
      const bool exact = in_.Exact(b_, h_, i, j);
      pair(j, subtract_ || !exact, exact);
    }
  }
  [[nodiscard]] T Kept(int64_t i, int64_t j) const {
    if (!p_.dropout.on()) return 1;
    return static_cast<T>(DropoutFactor(p_.dropout, p_.dropout.Site(p_.heads, b_, h_), i, j));
  }

  void Forward(ScatterbrainResults& r) {
    log_z_.assign(p_.queries, -std::numeric_limits<T>::infinity());
    has_low_rank_.assign(p_.queries, false);
    for (int64_t i = 0; i < p_.queries; ++i) {
      const int64_t row = (b_ * p_.heads + h_) * p_.queries + i;
      r.log_normaliser[row] = -std::numeric_limits<double>::infinity();
      T reference = -std::numeric_limits<T>::infinity();
      bool complete = !p_.drops_corrections();
      ForKeys(i, [&](int64_t j, bool in_total, bool exact) {
        if (in_total) complete = false;
        if (exact) reference = std::max(reference, Dot(query_u_[i], key_u_[j]));
        if (in_total) reference = std::max(reference, s_[i] + m_[j]);
      });
      if (std::isinf(reference)) continue;
      Row sum(p_.value_dim);
      T all = 0, taken = 0, exact_mass = 0;
      ForKeys(i, [&](int64_t j, bool in_total, bool exact) {
        const T low = complete ? T{0} : std::exp(s_[i] + m_[j] - reference) * Dot(phi_[i], psi_[j]);
        const T weight = exact ? std::exp(Dot(query_u_[i], key_u_[j]) - reference) : T{0};
        const T kept = exact ? Kept(i, j) : T{1};
        if (in_total) all += low;
        if (in_total && exact) taken += low;
        exact_mass += weight;
        T value = kept * weight;
        if (in_total && !exact) value += low;
        if (p_.drops_corrections() && exact) value += (1 - kept) * low;
        for (int64_t e = 0; e < p_.value_dim; ++e) sum[e] += value * v_[j][e];
        if (subtract_ && exact) {
          // The same rounding as a total that holds the pair and a term that takes it out.
          for (int64_t e = 0; e < p_.value_dim; ++e) {
            sum[e] += low * v_[j][e];
            sum[e] -= low * v_[j][e];
          }
        }
      });
      const T low_mass = std::max(T{0}, all - taken);
      const T mass = exact_mass + low_mass;
      log_z_[i] = reference + std::log(mass);
      has_low_rank_[i] = low_mass > 0 || p_.drops_corrections();
      r.log_normaliser[row] = log_z_[i];
      r.share[row] = low_mass / mass;
      if (taken > 0) r.largest_total = std::max<double>(r.largest_total, all / mass);
      for (int64_t e = 0; e < p_.value_dim; ++e) {
        r.o[At(i, p_.queries, p_.value_dim) + e] = sum[e] / mass;
      }
    }
  }

  void Backward(ScatterbrainResults& r) {
    const Matrix g = Load(in_.d_o, p_.queries, p_.value_dim, 1.0);
    const Matrix o = Load(r.o, p_.queries, p_.value_dim, 1.0);
    Matrix d_query(p_.queries, Row(p_.key_dim));
    Matrix d_key(p_.keys, Row(p_.key_dim));
    Matrix d_v(p_.keys, Row(p_.value_dim));
    std::vector<Remainder> d_psi(p_.keys, Remainder(p_.features));
    for (int64_t i = 0; i < p_.queries; ++i) {
      const T delta = Dot(g[i], o[i]);
      Remainder d_phi(p_.features);
      T exact_sum = 0;
      ForKeys(i, [&](int64_t j, bool in_total, bool exact) {
        const T product = Dot(g[i], v_[j]);
        const T kept = exact ? Kept(i, j) : T{1};
        const T eta = has_low_rank_[i] ? std::exp(s_[i] + m_[j] - log_z_[i]) : T{0};
        const T low = eta * Dot(phi_[i], psi_[j]);
        T value = exact || !in_total ? T{0} : low;
        const auto add = [&](Row Remainder::*part, T t) {
          for (int64_t l = 0; l < p_.features; ++l) {
            (d_phi.*part)[l] += t * psi_[j][l];
            (d_psi[j].*part)[l] += t * phi_[i][l];
          }
        };
        if (in_total) add(&Remainder::all, eta * (product - delta));
        if (exact) {
          const T y = std::exp(Dot(query_u_[i], key_u_[j]) - log_z_[i]);
          value += kept * y;
          if (p_.drops_corrections()) value += (1 - kept) * low;
          if (in_total) {
            add(&Remainder::exact,
                eta * ((p_.drops_corrections() ? kept : T{1}) * product - delta));
          } else if (p_.drops_corrections()) {
            add(&Remainder::all, eta * (1 - kept) * product);
          }
          const T d_logit = y * (kept * product - delta);
          exact_sum += d_logit;
          for (int64_t d = 0; d < p_.key_dim; ++d) {
            d_query[i][d] += d_logit * key_u_[j][d];
            d_key[j][d] += d_logit * query_u_[i][d];
          }
        }
        for (int64_t e = 0; e < p_.value_dim; ++e) d_v[j][e] += value * g[i][e];
      });
      T t = 0;
      T gammas = 0;
      for (int64_t l = 0; l < p_.features; ++l) {
        const T gamma = d_phi.At(l) * (phi_[i][l] - offset_);
        t += d_phi.At(l) * phi_[i][l];
        gammas += gamma;
        for (int64_t d = 0; d < p_.key_dim; ++d) d_query[i][d] += gamma * W(l, d);
      }
      for (int64_t d = 0; d < p_.key_dim; ++d) {
        d_query[i][d] += (t - gammas) * W(top_[i], d) - t * query_u_[i][d];
      }
      if (!p_.dropout.on() && std::is_same_v<T, double>) {
        EXPECT_NEAR(exact_sum + t, 0.0, 1e-13) << "row " << i << " of " << in_.Name();
      }
    }
    KeyFeaturesBackward(d_psi, d_key);
    Store(d_query, p_.key_dim, std::sqrt(p_.scale), r.d_q);
    Store(d_key, p_.key_dim, std::sqrt(p_.scale), r.d_k);
    Store(d_v, p_.value_dim, 1.0, r.d_v);
  }

  void KeyFeaturesBackward(const std::vector<Remainder>& d_psi, Matrix& d_key) {
    const auto add = [&](int64_t j, int64_t l, T gamma) {
      for (int64_t d = 0; d < p_.key_dim; ++d) d_key[j][d] += gamma * (W(l, d) - key_u_[j][d]);
    };
    for (int64_t j = 0; j < p_.keys; ++j) {
      if (Padding(j) || owner_[j].first < 0) continue;
      T rest = 0;
      for (int64_t l = 0; l < p_.features; ++l) {
        const T gamma = d_psi[j].At(l) * (psi_[j][l] - offset_);
        rest += d_psi[j].At(l) * psi_[j][l] - gamma;
        add(j, l, gamma);
      }
      if (p_.epsilon > 0.0) add(owner_[j].first, owner_[j].second, rest);
    }
  }

  const ScatterbrainInputs& in_;
  const ScatterbrainProblem& p_;
  const int64_t b_;
  const int64_t h_;
  const bool subtract_;
  const T offset_;
  const Matrix query_u_, key_u_, v_;
  Matrix phi_, psi_;
  Row s_, m_, log_z_;
  std::vector<int64_t> top_;
  std::vector<std::pair<int64_t, int64_t>> owner_;
  std::vector<bool> has_low_rank_;
};

// Two heads of odd widths.
inline ScatterbrainProblem SmallScatterbrain(int64_t queries, int64_t keys, bool causal,
                                             ExactSupport support) {
  return {.queries = queries,
          .keys = keys,
          .heads = 2,
          .key_dim = 8,
          .value_dim = 5,
          .scale = 0.35,
          .causal = causal,
          .features = 12,
          .support = std::move(support)};
}

inline BlockSupport RandomBlocks(int64_t block, int64_t queries, int64_t keys, bool causal) {
  return {NewBlockLayout({.block = block, .window = 3, .global = 1, .random = 2}, queries, keys,
                         causal, 3, {.tag = RandomTag::kHashProjections})
              .value()};
}

// Every kind of support, hashes into at most `most_buckets`.
inline std::vector<ScatterbrainProblem> EverySupport(int64_t queries, int64_t keys, bool causal,
                                                     const std::vector<int64_t>& windows,
                                                     int64_t most_buckets) {
  std::vector<ScatterbrainProblem> problems = {SmallScatterbrain(queries, keys, causal, {})};
  for (const int64_t width : windows) {
    problems.push_back(SmallScatterbrain(queries, keys, causal, WindowSupport{width}));
  }
  const int64_t buckets = std::min(most_buckets, std::min(queries, keys));
  for (const int64_t rounds : {1, 3}) {
    const int64_t query_bucket = (queries + buckets - 1) / buckets;
    const int64_t key_bucket = (keys + buckets - 1) / buckets;
    if ((queries + query_bucket - 1) / query_bucket != (keys + key_bucket - 1) / key_bucket) {
      continue;
    }
    problems.push_back(
        SmallScatterbrain(queries, keys, causal, HashSupport{rounds, query_bucket, key_bucket}));
  }
  for (const int64_t block : {16, 64, 100}) {
    problems.push_back(
        SmallScatterbrain(queries, keys, causal, RandomBlocks(block, queries, keys, causal)));
  }
  return problems;
}

// Calls check(name, a's array, b's array, ...) for each of the results.
template <typename Check, typename... Results>
void ForEachScatterbrainResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("log_normaliser", results.log_normaliser...);
  check("share", results.share...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_v", results.d_v...);
}

}  // namespace weft::kernels::testing

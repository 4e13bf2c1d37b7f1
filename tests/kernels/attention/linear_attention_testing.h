// Linear attention problems as host arrays, their results on a device, and the textbook loops.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/attention/linear_attention/linear_attention.h"
#include "kernels/random/feature_matrix.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

struct LinearAttentionCase {
  LinearAttentionProblem problem = {};
  Values q = {};
  Values k = {};
  Values v = {};
  Values projection = {};           // empty: absent
  std::vector<int32_t> valid = {};  // empty: absent
  Values s0 = {};                   // empty: absent
  Values d_o = {};                  // gradients of the results
  Values d_s = {};                  // empty: absent

  [[nodiscard]] int64_t Features() const { return FeatureCount(problem.features, problem.key_dim); }
  [[nodiscard]] Shape KeyShape() const {
    return {problem.batch, problem.tokens, problem.heads, problem.key_dim};
  }
  [[nodiscard]] Shape ValueShape() const {
    return {problem.batch, problem.tokens, problem.heads, problem.value_dim};
  }
  [[nodiscard]] Shape StateShape() const {
    return {problem.batch, problem.heads, LinearAttentionStateSize(problem)};
  }
  [[nodiscard]] bool HasLevels() const { return problem.features.feature == Feature::kExponential; }
  [[nodiscard]] bool Sees(int64_t b, int64_t i, int64_t j) const {
    return (!problem.causal || j <= i) && (valid.empty() || valid[b * problem.tokens + j] != 0);
  }
  [[nodiscard]] std::string Name() const {
    return absl::StrCat(
        "B", problem.batch, " T", problem.tokens, " H", problem.heads, " Dk", problem.key_dim,
        " Dv", problem.value_dim, " feature ", static_cast<int>(problem.features.feature), " rows ",
        problem.features.rows, problem.features.both_signs ? " both signs" : "", " floor ",
        problem.features.floor, " C", problem.chunk, problem.causal ? " causal" : "",
        valid.empty() ? "" : " padded", s0.empty() ? "" : " with states");
  }
};

struct LinearAttentionResults {
  Values o, s;
  Values d_q, d_k, d_v, d_s0;
  // By the plain loops alone: the largest sums of magnitudes behind an element of d_q, d_k and
  // d_s0, where numerator and denominator pull against each other.
  double terms_q = 0.0, terms_k = 0.0, terms_s0 = 0.0;
};

// Every feature function, with and without a projection.
inline std::vector<FeatureMap> AllFeatureMaps(int64_t rows) {
  return {{.feature = Feature::kSquare},
          {.feature = Feature::kRelu, .floor = 1e-3},
          {.feature = Feature::kElu1, .scale = 0.5},
          {.feature = Feature::kMagnitude},
          {.feature = Feature::kRelu, .rows = rows, .scale = 0.25, .floor = 1e-3},
          {.feature = Feature::kElu1, .rows = rows},
          {.feature = Feature::kExponential, .rows = rows, .scale = 0.5},
          {.feature = Feature::kExponential,
           .rows = rows,
           .both_signs = true,
           .scale = 0.5,
           .floor = 1e-3}};
}

// Uniform numbers in [-2, 2), so that features vary; everything rounded to fp32.
inline LinearAttentionCase RandomLinearAttention(const LinearAttentionProblem& problem,
                                                 bool with_states, uint32_t seed = 1) {
  NumberStream numbers(seed);
  LinearAttentionCase in{.problem = problem};
  in.q = numbers.Symmetric(in.KeyShape().count());
  in.k = numbers.Symmetric(in.KeyShape().count());
  in.v = numbers.Symmetric(in.ValueShape().count());
  in.d_o = numbers.Symmetric(in.ValueShape().count());
  for (Values* values : {&in.q, &in.k}) {
    for (double& value : *values) value *= 2.0;
  }
  if (problem.features.rows > 0) {
    in.projection =
        FeatureMatrix(seed, 0, FeatureRows::kOrthogonal, problem.features.rows, problem.key_dim);
  }
  if (with_states) {
    in.s0 = numbers.Uniform(in.StateShape().count());  // sums of weights are not negative
    in.d_s = numbers.Symmetric(in.StateShape().count());
    const int64_t size = LinearAttentionStateSize(problem);
    for (size_t i = size - 1; i < in.s0.size(); i += size) {
      in.s0[i] = in.HasLevels() ? in.s0[i] - 0.5 : 0.0;  // the level
      in.d_s[i] = 0.0;
    }
  }
  for (Values* values : {&in.q, &in.k, &in.v, &in.projection, &in.d_o, &in.s0, &in.d_s}) {
    RoundToFloat(*values);
  }
  return in;
}

// The last `padding` tokens of every other sequence, and one early token, are not valid.
inline LinearAttentionCase Padded(LinearAttentionCase in, int64_t padding) {
  const int64_t tokens = in.problem.tokens;
  in.valid.assign(in.problem.batch * tokens, 1);
  for (int64_t b = 0; b < in.problem.batch; ++b) {
    if (tokens > 2) in.valid[b * tokens + 2] = 0;
    for (int64_t t = tokens - padding; b % 2 == 0 && t < tokens; ++t) in.valid[b * tokens + t] = 0;
  }
  return in;
}

inline LinearAttentionResults RunLinearAttention(DeviceRun& run, const LinearAttentionCase& in) {
  LinearAttentionInputs inputs{.q = run.Upload(in.q, in.KeyShape()),
                               .k = run.Upload(in.k, in.KeyShape()),
                               .v = run.Upload(in.v, in.ValueShape()),
                               .projection = {},
                               .valid = {}};
  if (!in.projection.empty()) {
    inputs.projection = run.Upload(in.projection, {in.problem.features.rows, in.problem.key_dim});
  }
  if (!in.valid.empty()) {
    inputs.valid = run.UploadIntegers(in.valid, {in.problem.batch, in.problem.tokens});
  }
  const Tensor s0 = in.s0.empty() ? Tensor() : run.UploadSum(in.s0, in.StateShape());
  Tensor o = run.New(in.ValueShape());
  Tensor s = in.problem.causal ? run.NewSum(in.StateShape()) : Tensor();
  LinearAttentionSaved saved = NewLinearAttentionSaved(run.device(), in.problem).value();
  const absl::Status forward =
      LinearAttentionForward(run.stream(), in.problem, inputs, s0, o, s, saved);
  EXPECT_TRUE(forward.ok()) << forward;

  const Tensor d_s = in.d_s.empty() ? Tensor() : run.UploadSum(in.d_s, in.StateShape());
  // Results must be overwritten, whatever they held.
  Tensor d_q = run.Upload(Values(in.q.size(), 1e6), in.KeyShape());
  Tensor d_k = run.Upload(Values(in.k.size(), 1e6), in.KeyShape());
  Tensor d_v = run.Upload(Values(in.v.size(), 1e6), in.ValueShape());
  Tensor d_s0 = in.problem.causal
                    ? run.UploadSum(Values(in.StateShape().count(), 1e6), in.StateShape())
                    : Tensor();
  const absl::Status backward =
      LinearAttentionBackward(run.stream(), in.problem, inputs, o, saved,
                              run.Upload(in.d_o, in.ValueShape()), d_s, d_q, d_k, d_v, d_s0);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.o = run.Download(o),
          .s = in.problem.causal ? run.Download(s) : Values(),
          .d_q = run.Download(d_q),
          .d_k = run.Download(d_k),
          .d_v = run.Download(d_v),
          .d_s0 = in.problem.causal ? run.Download(d_s0) : Values()};
}

inline LinearAttentionResults RunLinearAttention(DeviceRun&& run, const LinearAttentionCase& in) {
  return RunLinearAttention(run, in);
}

// Whole rows of the weight matrix in the arithmetic of T: shares nothing with the kernels, and is
// the plain rival of the tolerance rule.
template <typename T>
class PlainLinearAttention {
 public:
  static LinearAttentionResults Run(const LinearAttentionCase& in) {
    PlainLinearAttention plain(in);
    for (int64_t head = 0; head < in.problem.batch * in.problem.heads; ++head) plain.RunHead(head);
    return plain.r_;
  }

 private:
  struct Row {            // of q or k
    std::vector<T> a, f;  // projected, features divided by exp(level)
    T level = 0;
    std::vector<T> d_f, terms;
  };

  explicit PlainLinearAttention(const LinearAttentionCase& in)
      : in_(in),
        p_(in.problem),
        map_(in.problem.features),
        m_(in.Features()),
        r_{Values(in.v.size()), {}, Values(in.q.size()), Values(in.q.size()),
           Values(in.v.size()), {}} {
    if (p_.causal) r_.s = r_.d_s0 = Values(in.StateShape().count());
  }

  [[nodiscard]] int64_t Token(int64_t head, int64_t t) const {
    return (head / p_.heads * p_.tokens + t) * p_.heads + head % p_.heads;
  }
  [[nodiscard]] T Projection(int64_t l, int64_t i) const {
    const int64_t rows = map_.rows == 0 ? p_.key_dim : map_.rows;
    const T sign = l < rows ? T{1} : T{-1};
    if (map_.rows == 0) return l == i ? T{1} : T{0};
    return sign * static_cast<T>(in_.projection[l % rows * p_.key_dim + i]);
  }

  [[nodiscard]] Row FeaturesOf(const Values& x, int64_t at) const {
    Row row{std::vector<T>(m_), std::vector<T>(m_), 0, std::vector<T>(m_), std::vector<T>(m_)};
    T square = 0;
    for (int64_t i = 0; i < p_.key_dim; ++i) {
      const T x_i = static_cast<T>(map_.scale) * static_cast<T>(x[at + i]);
      square += x_i * x_i;
      for (int64_t l = 0; l < m_; ++l) row.a[l] += Projection(l, i) * x_i;
    }
    const T largest = *std::max_element(row.a.begin(), row.a.end());
    if (in_.HasLevels()) row.level = largest - square / 2;
    for (int64_t l = 0; l < m_; ++l) {
      const T a = row.a[l];
      T f = std::exp(a - largest);
      if (map_.feature == Feature::kSquare) f = a * a;
      if (map_.feature == Feature::kRelu) f = std::max(a, T{0});
      if (map_.feature == Feature::kElu1) f = a > 0 ? a + 1 : std::exp(a);
      if (map_.feature == Feature::kMagnitude) f = std::abs(a);
      row.f[l] = f + static_cast<T>(map_.floor);
    }
    return row;
  }

  void FeaturesBackward(const Values& x, int64_t at, const Row& row, Values& d_x,
                        double& terms) const {
    const T floor = static_cast<T>(map_.floor);
    std::vector<T> d(m_);
    std::vector<T> slopes(m_);
    T sum = 0;
    T all = 0;
    int64_t top = 0;
    for (int64_t l = 0; l < m_; ++l) {
      T slope = row.f[l] - floor;
      if (map_.feature == Feature::kSquare) slope = 2 * row.a[l];
      if (map_.feature == Feature::kRelu) slope = row.a[l] > 0 ? 1 : 0;
      if (map_.feature == Feature::kElu1) slope = row.a[l] > 0 ? T{1} : std::exp(row.a[l]);
      if (map_.feature == Feature::kMagnitude) slope = row.a[l] > 0 ? 1 : -1;
      d[l] = row.d_f[l] * slope;
      slopes[l] = slope;
      all += row.d_f[l];
      sum += row.d_f[l] * row.f[l];
      if (row.a[l] > row.a[top]) top = l;
    }
    if (in_.HasLevels()) d[top] += floor * all;
    const T scale = static_cast<T>(map_.scale);
    for (int64_t i = 0; i < p_.key_dim; ++i) {
      T d_i = in_.HasLevels() ? -sum * scale * static_cast<T>(x[at + i]) : T{0};
      T all_terms = 0;
      for (int64_t l = 0; l < m_; ++l) {
        d_i += d[l] * Projection(l, i);
        all_terms += std::abs(row.terms[l] * slopes[l] * Projection(l, i));
      }
      d_x[at + i] = scale * d_i;
      terms = std::max(terms, static_cast<double>(scale * all_terms));
    }
  }

  [[nodiscard]] T Guarded(T sum) const {
    const T epsilon = static_cast<T>(p_.guard_epsilon);
    if (p_.guard == DenominatorGuard::kAdd) return sum + epsilon;
    return std::abs(sum) <= epsilon ? sum + 2 * epsilon : sum;
  }
  // Element (l, j) of a head's state; j = value_dim is z.
  [[nodiscard]] int64_t StateAt(int64_t head, int64_t l, int64_t j) const {
    const int64_t first = head * in_.StateShape().dim(2);
    return j < p_.value_dim ? first + l * p_.value_dim + j : first + m_ * p_.value_dim + l;
  }
  [[nodiscard]] T ValueAt(int64_t head, int64_t t, int64_t j) const {
    return j < p_.value_dim ? static_cast<T>(in_.v[Token(head, t) * p_.value_dim + j]) : T{1};
  }

  void RunHead(int64_t head) {
    std::vector<Row> q;
    std::vector<Row> k;
    for (int64_t t = 0; t < p_.tokens; ++t) {
      q.push_back(FeaturesOf(in_.q, Token(head, t) * p_.key_dim));
      k.push_back(FeaturesOf(in_.k, Token(head, t) * p_.key_dim));
    }
    d_v_.assign(p_.tokens * p_.value_dim, 0);
    d_s0_.assign(m_ * (p_.value_dim + 1), 0);
    terms_s0_ = d_s0_;
    for (int64_t i = 0; i < p_.tokens; ++i) RunRow(head, i, q[i], k);
    if (p_.causal) FinalState(head, k);
    for (int64_t t = 0; t < p_.tokens; ++t) {
      FeaturesBackward(in_.q, Token(head, t) * p_.key_dim, q[t], r_.d_q, r_.terms_q);
      FeaturesBackward(in_.k, Token(head, t) * p_.key_dim, k[t], r_.d_k, r_.terms_k);
      for (int64_t j = 0; j < p_.value_dim; ++j) {
        r_.d_v[Token(head, t) * p_.value_dim + j] = d_v_[t * p_.value_dim + j];
      }
    }
    for (int64_t l = 0; p_.causal && l < m_; ++l) {
      for (int64_t j = 0; j <= p_.value_dim; ++j) {
        r_.d_s0[StateAt(head, l, j)] = d_s0_[l * (p_.value_dim + 1) + j];
        r_.terms_s0 =
            std::max(r_.terms_s0, static_cast<double>(terms_s0_[l * (p_.value_dim + 1) + j]));
      }
    }
  }

  [[nodiscard]] T InitialLevel(int64_t head) const {
    if (!in_.HasLevels()) return 0;
    if (in_.s0.empty()) return -std::numeric_limits<T>::infinity();
    return static_cast<T>(in_.s0[(head + 1) * in_.StateShape().dim(2) - 1]);
  }

  // The measure of row i, and what key j and the initial state count in it.
  [[nodiscard]] T Unit(int64_t head, int64_t i, const std::vector<Row>& k) const {
    T unit = InitialLevel(head);
    for (int64_t j = 0; j < p_.tokens; ++j) {
      if (in_.Sees(head / p_.heads, i, j)) unit = std::max(unit, k[j].level);
    }
    return std::isinf(unit) ? T{0} : unit;
  }

  void RunRow(int64_t head, int64_t i, Row& q, std::vector<Row>& k) {
    const int64_t columns = p_.value_dim + 1;  // the last: the sum of weights
    const T unit = Unit(head, i, k);
    const T before = std::exp(InitialLevel(head) - unit);
    std::vector<T> sums(columns);
    std::vector<T> factor(p_.tokens);
    for (int64_t j = 0; j < p_.tokens; ++j) {
      if (!in_.Sees(head / p_.heads, i, j)) continue;
      factor[j] = std::exp(k[j].level - unit);
      T weight = 0;
      for (int64_t l = 0; l < m_; ++l) weight += q.f[l] * k[j].f[l];
      for (int64_t c = 0; c < columns; ++c) sums[c] += factor[j] * weight * ValueAt(head, j, c);
    }
    for (int64_t l = 0; !in_.s0.empty() && l < m_; ++l) {
      for (int64_t c = 0; c < columns; ++c) {
        sums[c] += before * q.f[l] * static_cast<T>(in_.s0[StateAt(head, l, c)]);
      }
    }
    const T sum = Guarded(sums.back());
    std::vector<T> slopes(columns);
    std::vector<T> terms(columns);
    for (int64_t j = 0; j < p_.value_dim; ++j) {
      const int64_t at = Token(head, i) * p_.value_dim + j;
      const T o = sum == 0 ? T{0} : sums[j] / sum;
      r_.o[at] = o;
      slopes[j] = sum == 0 ? T{0} : static_cast<T>(in_.d_o[at]) / sum;
      slopes.back() -= slopes[j] * o;
      terms[j] = std::abs(slopes[j]);
      terms.back() += std::abs(slopes[j] * o);
    }
    for (int64_t j = 0; j < p_.tokens; ++j) {
      if (factor[j] != 0) BackwardPair(head, j, factor[j], slopes, terms, q, k[j]);
    }
    for (int64_t l = 0; l < m_; ++l) {
      for (int64_t c = 0; c < columns; ++c) {
        d_s0_[l * columns + c] += before * q.f[l] * slopes[c];
        terms_s0_[l * columns + c] += before * q.f[l] * terms[c];
        if (in_.s0.empty()) continue;
        const T state = static_cast<T>(in_.s0[StateAt(head, l, c)]);
        q.d_f[l] += before * slopes[c] * state;
        q.terms[l] += before * terms[c] * std::abs(state);
      }
    }
  }

  void BackwardPair(int64_t head, int64_t j, T factor, const std::vector<T>& slopes,
                    const std::vector<T>& terms, Row& q, Row& k) {
    T d_weight = 0;
    T all_terms = 0;
    for (int64_t c = 0; c <= p_.value_dim; ++c) {
      d_weight += slopes[c] * ValueAt(head, j, c);
      all_terms += terms[c] * std::abs(ValueAt(head, j, c));
    }
    T weight = 0;
    for (int64_t l = 0; l < m_; ++l) {
      weight += q.f[l] * k.f[l];
      q.d_f[l] += factor * d_weight * k.f[l];
      k.d_f[l] += factor * d_weight * q.f[l];
      q.terms[l] += factor * all_terms * k.f[l];
      k.terms[l] += factor * all_terms * q.f[l];
    }
    for (int64_t c = 0; c < p_.value_dim; ++c) {
      d_v_[j * p_.value_dim + c] += factor * weight * slopes[c];
    }
  }

  void FinalState(int64_t head, std::vector<Row>& k) {
    const T unit = Unit(head, p_.tokens - 1, k);
    const T before = std::exp(InitialLevel(head) - unit);
    if (in_.HasLevels()) r_.s[(head + 1) * in_.StateShape().dim(2) - 1] = unit;
    for (int64_t l = 0; l < m_; ++l) {
      for (int64_t c = 0; c <= p_.value_dim; ++c) {
        const int64_t at = StateAt(head, l, c);
        const T d = in_.d_s.empty() ? T{0} : static_cast<T>(in_.d_s[at]);
        T sum = in_.s0.empty() ? T{0} : before * static_cast<T>(in_.s0[at]);
        for (int64_t j = 0; j < p_.tokens; ++j) {
          if (!in_.Sees(head / p_.heads, p_.tokens - 1, j)) continue;
          const T factor = std::exp(k[j].level - unit);
          sum += factor * k[j].f[l] * ValueAt(head, j, c);
          k[j].d_f[l] += factor * d * ValueAt(head, j, c);
          if (c < p_.value_dim) d_v_[j * p_.value_dim + c] += factor * d * k[j].f[l];
        }
        r_.s[at] = sum;
        d_s0_[l * (p_.value_dim + 1) + c] += before * d;
      }
    }
  }

  const LinearAttentionCase& in_;
  const LinearAttentionProblem& p_;
  const FeatureMap& map_;
  const int64_t m_;
  LinearAttentionResults r_;
  std::vector<T> d_v_;
  std::vector<T> d_s0_, terms_s0_;
};

// Calls check(name, a's array, b's array, ...) for each of the six results.
template <typename Check, typename... Results>
void ForEachLinearAttentionResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("s", results.s...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_v", results.d_v...);
  check("d_s0", results.d_s0...);
}

}  // namespace weft::kernels::testing

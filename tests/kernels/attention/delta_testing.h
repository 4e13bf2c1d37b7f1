// Delta-rule problems as host arrays, their results on a device, and the textbook recurrence.
#pragma once

#include <string>

#include "kernels/attention/delta/delta.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

struct DeltaInputs {
  DeltaProblem problem = {};
  Values q = {};
  Values k = {};
  Values v = {};
  Values beta = {};
  Values s0 = {};   // empty: absent
  Values d_o = {};  // gradients of the results
  Values d_s = {};  // empty: absent

  [[nodiscard]] Shape KeyShape() const {
    return {problem.batch, problem.tokens, problem.heads, problem.key_dim};
  }
  [[nodiscard]] Shape ValueShape() const {
    return {problem.batch, problem.tokens, problem.heads, problem.value_dim};
  }
  [[nodiscard]] Shape BetaShape() const { return {problem.batch, problem.tokens, problem.heads}; }
  [[nodiscard]] Shape StateShape() const {
    return {problem.batch, problem.heads, problem.key_dim, problem.value_dim};
  }
  [[nodiscard]] std::string Name() const {
    return absl::StrCat("B", problem.batch, " T", problem.tokens, " H", problem.heads, " Dk",
                        problem.key_dim, " Dv", problem.value_dim, " C", problem.chunk,
                        s0.empty() ? "" : " with states");
  }
};

struct DeltaResults {
  Values o, s;
  Values d_q, d_k, d_v, d_beta, d_s0;
};

// Unit keys, queries of length 1/sqrt(Dk), beta in (0, largest_beta), all rounded to fp32.
inline DeltaInputs RandomDelta(const DeltaProblem& problem, bool with_states, uint32_t seed = 1,
                               double largest_beta = 1.0) {
  NumberStream numbers(seed);
  DeltaInputs in{.problem = problem};
  in.q = numbers.Symmetric(in.KeyShape().count());
  in.k = numbers.Symmetric(in.KeyShape().count());
  in.v = numbers.Symmetric(in.ValueShape().count());
  in.beta = numbers.Uniform(in.BetaShape().count());
  in.d_o = numbers.Symmetric(in.ValueShape().count());
  if (with_states) {
    in.s0 = numbers.Symmetric(in.StateShape().count());
    in.d_s = numbers.Symmetric(in.StateShape().count());
  }
  NormalizeRows(in.q, problem.key_dim);
  NormalizeRows(in.k, problem.key_dim);
  for (double& q : in.q) q /= std::sqrt(static_cast<double>(problem.key_dim));
  for (double& beta : in.beta) beta *= largest_beta;
  for (Values* values : {&in.q, &in.k, &in.v, &in.beta, &in.d_o, &in.s0, &in.d_s}) {
    RoundToFloat(*values);
  }
  return in;
}

inline DeltaResults RunDelta(DeviceRun& run, const DeltaInputs& in) {
  const Tensor q = run.Upload(in.q, in.KeyShape());
  const Tensor k = run.Upload(in.k, in.KeyShape());
  const Tensor v = run.Upload(in.v, in.ValueShape());
  const Tensor beta = run.UploadSum(in.beta, in.BetaShape());
  const Tensor s0 = in.s0.empty() ? Tensor() : run.UploadSum(in.s0, in.StateShape());
  Tensor o = run.New(in.ValueShape());
  Tensor s = run.NewSum(in.StateShape());
  DeltaSaved saved = NewDeltaSaved(run.device(), in.problem).value();
  const absl::Status forward =
      DeltaForward(run.stream(), in.problem, q, k, v, beta, s0, o, s, saved);
  EXPECT_TRUE(forward.ok()) << forward;

  const Tensor d_o = run.Upload(in.d_o, in.ValueShape());
  const Tensor d_s = in.d_s.empty() ? Tensor() : run.UploadSum(in.d_s, in.StateShape());
  Tensor d_q = run.New(in.KeyShape());
  Tensor d_k = run.New(in.KeyShape());
  Tensor d_v = run.New(in.ValueShape());
  Tensor d_beta = run.NewSum(in.BetaShape());
  Tensor d_s0 = run.NewSum(in.StateShape());
  const absl::Status backward = DeltaBackward(run.stream(), in.problem, q, k, beta, saved, d_o, d_s,
                                              d_q, d_k, d_v, d_beta, d_s0);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.o = run.Download(o),
          .s = run.Download(s),
          .d_q = run.Download(d_q),
          .d_k = run.Download(d_k),
          .d_v = run.Download(d_v),
          .d_beta = run.Download(d_beta),
          .d_s0 = run.Download(d_s0)};
}

inline DeltaResults RunDelta(DeviceRun&& run, const DeltaInputs& in) { return RunDelta(run, in); }

// The recurrence and its reverse in the arithmetic of T, keeping every state: an account of the
// formulas that shares nothing with the kernels, and the plain rival of the tolerance rule.
template <typename T>
class PlainDelta {
 public:
  static DeltaResults Run(const DeltaInputs& in) {
    DeltaResults r{Values(in.v.size()),
                   Values(in.StateShape().count()),
                   Values(in.q.size()),
                   Values(in.q.size()),
                   Values(in.v.size()),
                   Values(in.beta.size()),
                   Values(in.StateShape().count())};
    for (int64_t head = 0; head < in.problem.batch * in.problem.heads; ++head) {
      PlainDelta one(in, head);
      one.Forward(r);
      one.Backward(r);
    }
    return r;
  }

 private:
  PlainDelta(const DeltaInputs& in, int64_t head)
      : in_(in),
        head_(head),
        dk_(in.problem.key_dim),
        dv_(in.problem.value_dim),
        s_(in.problem.tokens + 1, std::vector<T>(dk_ * dv_)),
        e_(in.problem.tokens, std::vector<T>(dv_)) {}

  [[nodiscard]] int64_t Token(int64_t t) const {
    const int64_t heads = in_.problem.heads;
    return (head_ / heads * in_.problem.tokens + t) * heads + head_ % heads;
  }
  [[nodiscard]] std::vector<T> Row(const Values& values, int64_t row, int64_t width) const {
    const auto first = values.begin() + row * width;
    return std::vector<T>(first, first + width);
  }

  void Forward(DeltaResults& r) {
    if (!in_.s0.empty()) s_[0] = Row(in_.s0, head_, dk_ * dv_);
    for (int64_t t = 0; t < in_.problem.tokens; ++t) {
      const std::vector<T> q = Row(in_.q, Token(t), dk_);
      const std::vector<T> k = Row(in_.k, Token(t), dk_);
      const std::vector<T> v = Row(in_.v, Token(t), dv_);
      const T beta = static_cast<T>(in_.beta[Token(t)]);
      for (int64_t j = 0; j < dv_; ++j) {
        T seen = 0;
        for (int64_t i = 0; i < dk_; ++i) seen += s_[t][i * dv_ + j] * k[i];
        e_[t][j] = v[j] - seen;
        T out = 0;
        for (int64_t i = 0; i < dk_; ++i) {
          s_[t + 1][i * dv_ + j] = s_[t][i * dv_ + j] + k[i] * beta * e_[t][j];
          out += s_[t + 1][i * dv_ + j] * q[i];
        }
        r.o[Token(t) * dv_ + j] = out;
      }
    }
    for (int64_t x = 0; x < dk_ * dv_; ++x) r.s[head_ * dk_ * dv_ + x] = s_.back()[x];
  }

  void Backward(DeltaResults& r) {
    std::vector<T> d(dk_ * dv_);  // the gradient of the state
    if (!in_.d_s.empty()) d = Row(in_.d_s, head_, dk_ * dv_);
    for (int64_t t = in_.problem.tokens - 1; t >= 0; --t) {
      const std::vector<T> q = Row(in_.q, Token(t), dk_);
      const std::vector<T> k = Row(in_.k, Token(t), dk_);
      const std::vector<T> d_o = Row(in_.d_o, Token(t), dv_);
      const T beta = static_cast<T>(in_.beta[Token(t)]);
      std::vector<T> d_v(dv_);
      T d_beta = 0;
      for (int64_t j = 0; j < dv_; ++j) {
        T y = 0;
        for (int64_t i = 0; i < dk_; ++i) {
          d[i * dv_ + j] += q[i] * d_o[j];
          y += d[i * dv_ + j] * k[i];
        }
        d_beta += y * e_[t][j];
        d_v[j] = beta * y;
        r.d_v[Token(t) * dv_ + j] = d_v[j];
      }
      r.d_beta[Token(t)] = d_beta;
      for (int64_t i = 0; i < dk_; ++i) {
        T d_q = 0;
        T d_k = 0;
        for (int64_t j = 0; j < dv_; ++j) {
          const int64_t x = i * dv_ + j;
          d_q += s_[t + 1][x] * d_o[j];
          d_k += d[x] * beta * e_[t][j] - s_[t][x] * d_v[j];
          d[x] -= k[i] * d_v[j];
        }
        r.d_q[Token(t) * dk_ + i] = d_q;
        r.d_k[Token(t) * dk_ + i] = d_k;
      }
    }
    for (int64_t x = 0; x < dk_ * dv_; ++x) r.d_s0[head_ * dk_ * dv_ + x] = d[x];
  }

  const DeltaInputs& in_;
  const int64_t head_;
  const int64_t dk_;
  const int64_t dv_;
  std::vector<std::vector<T>> s_;  // before token t, and after the last
  std::vector<std::vector<T>> e_;
};

// Calls check(name, a's array, b's array, ...) for each of the seven results.
template <typename Check, typename... Results>
void ForEachDeltaResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("s", results.s...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_v", results.d_v...);
  check("d_beta", results.d_beta...);
  check("d_s0", results.d_s0...);
}

}  // namespace weft::kernels::testing

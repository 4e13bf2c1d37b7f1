// Softmax attention problems as host arrays, their results on a device, and the textbook loops.
#pragma once

#include <string>

#include "kernels/attention/softmax/softmax.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

struct SoftmaxInputs {
  SoftmaxProblem problem = {};
  Values q = {};
  Values k = {};
  Values v = {};
  Values d_o = {};
  std::vector<int32_t> valid = {};  // [B, S]; empty: no padding

  [[nodiscard]] Shape QueryShape() const {
    return {problem.batch, problem.queries, problem.heads, problem.head_dim};
  }
  [[nodiscard]] Shape KeyShape() const {
    return {problem.batch, problem.keys, problem.kv_heads, problem.head_dim};
  }
  [[nodiscard]] Shape LseShape() const { return {problem.batch, problem.heads, problem.queries}; }
  [[nodiscard]] std::string Name() const {
    return absl::StrCat("B", problem.batch, " T", problem.queries, " S", problem.keys, " H",
                        problem.heads, " Hk", problem.kv_heads, " D", problem.head_dim,
                        problem.causal ? " causal" : "", " window ", problem.window,
                        valid.empty() ? "" : " padded", problem.dropout.on() ? " dropout" : "");
  }
  // Written down from the header's words, not from the kernels' ranges.
  [[nodiscard]] bool Sees(int64_t b, int64_t i, int64_t j) const {
    const int64_t distance = i + problem.keys - problem.queries - j;
    if (!valid.empty() && valid[b * problem.keys + j] == 0) return false;
    return (!problem.causal || distance >= 0) &&
           (problem.window == 0 || std::abs(distance) < problem.window);
  }
};

struct SoftmaxResults {
  Values o, lse;
  Values d_q, d_k, d_v;
};

// Uniform numbers; logits reach about `spread` times their usual size.
inline SoftmaxInputs RandomSoftmax(SoftmaxProblem problem, uint32_t seed = 1, double spread = 1.0) {
  problem.scale = 1.0 / std::sqrt(static_cast<double>(problem.head_dim));
  NumberStream numbers(seed);
  SoftmaxInputs in{.problem = problem};
  in.q = numbers.Symmetric(in.QueryShape().count());
  in.k = numbers.Symmetric(in.KeyShape().count());
  in.v = numbers.Symmetric(in.KeyShape().count());
  in.d_o = numbers.Symmetric(in.QueryShape().count());
  for (double& q : in.q) q *= spread;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) RoundToFloat(*values);
  return in;
}

// Hides about a fifth of the keys, and the last `tail` of every sequence.
inline void AddPadding(SoftmaxInputs& in, int64_t tail, uint32_t seed = 3) {
  NumberStream numbers(seed);
  in.valid.resize(in.problem.batch * in.problem.keys);
  for (size_t j = 0; j < in.valid.size(); ++j) {
    const auto left = in.problem.keys - static_cast<int64_t>(j) % in.problem.keys;
    in.valid[j] = left > tail && numbers.Uniform() > 0.2 ? 1 : 0;
  }
}

// Every kind of mask, over lengths around the tiles of the CPU (256 queries, 128 keys).
inline std::vector<SoftmaxProblem> MaskedProblems() {
  std::vector<SoftmaxProblem> problems;
  const auto add = [&](int64_t queries, int64_t keys, bool causal, int64_t window) {
    problems.push_back({.queries = queries,
                        .keys = keys,
                        .heads = 2,
                        .kv_heads = 2,
                        .head_dim = 8,
                        .causal = causal,
                        .window = window});
  };
  for (const int64_t length : {1, 63, 64, 65, 200, 300}) {
    for (const int64_t window : {0, 1, 17, 128, 1000}) {
      add(length, length, true, window);
      add(length, length, false, window);
    }
  }
  for (const bool causal : {true, false}) {
    for (const int64_t window : {0, 5, 150}) {
      add(1, 200, causal, window);   // decoding
      add(70, 300, causal, window);  // a prefix is known
      add(300, 40, causal, window);  // most queries stand before the first key
      add(5, 0, causal, window);     // no keys
      add(0, 5, causal, window);     // no queries
    }
  }
  return problems;
}

inline SoftmaxInputs Padded(SoftmaxInputs in) {
  AddPadding(in, /*tail=*/in.problem.keys / 3);
  return in;
}

inline SoftmaxInputs Dropping(SoftmaxInputs in) {
  in.problem.dropout = {.probability = 0.3, .seed = 4, .step = 7, .layer = 2, .first_sequence = 5};
  return in;
}

inline SoftmaxResults RunSoftmax(DeviceRun& run, const SoftmaxInputs& in) {
  const Tensor q = run.Upload(in.q, in.QueryShape());
  const Tensor k = run.Upload(in.k, in.KeyShape());
  const Tensor v = run.Upload(in.v, in.KeyShape());
  const Tensor valid = in.valid.empty()
                           ? Tensor()
                           : run.UploadIntegers(in.valid, {in.problem.batch, in.problem.keys});
  Tensor o = run.New(in.QueryShape());
  Tensor lse = run.NewSum(in.LseShape());
  const absl::Status forward = SoftmaxForward(run.stream(), in.problem, q, k, v, valid, o, lse);
  EXPECT_TRUE(forward.ok()) << forward;

  // Results must be overwritten, whatever they held.
  Tensor d_q = run.Upload(Values(in.q.size(), 1e6), in.QueryShape());
  Tensor d_k = run.Upload(Values(in.k.size(), 1e6), in.KeyShape());
  Tensor d_v = run.Upload(Values(in.k.size(), 1e6), in.KeyShape());
  const absl::Status backward = SoftmaxBackward(run.stream(), in.problem, q, k, v, valid, o, lse,
                                                run.Upload(in.d_o, in.QueryShape()), d_q, d_k, d_v);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.o = run.Download(o),
          .lse = run.Download(lse),
          .d_q = run.Download(d_q),
          .d_k = run.Download(d_k),
          .d_v = run.Download(d_v)};
}
inline SoftmaxResults RunSoftmax(DeviceRun&& run, const SoftmaxInputs& in) {
  return RunSoftmax(run, in);
}

// Whole rows of the matrix of probabilities in the arithmetic of T: shares nothing with the
// kernels, and is the plain rival of the tolerance rule.
template <typename T>
class PlainSoftmax {
 public:
  static SoftmaxResults Run(const SoftmaxInputs& in) {
    PlainSoftmax plain(in);
    for (int64_t row = 0; row < in.LseShape().count(); ++row) plain.RunRow(row);
    plain.r_.d_k.assign(plain.d_k_.begin(), plain.d_k_.end());
    plain.r_.d_v.assign(plain.d_v_.begin(), plain.d_v_.end());
    return plain.r_;
  }

 private:
  explicit PlainSoftmax(const SoftmaxInputs& in)
      : in_(in),
        p_(in.problem),
        r_{Values(in.q.size()), Values(in.LseShape().count()), Values(in.q.size()), {}, {}},
        d_k_(in.k.size()),
        d_v_(in.k.size()) {}

  [[nodiscard]] T Dot(const Values& x, int64_t x_at, const Values& y, int64_t y_at) const {
    T sum = 0;
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      sum += static_cast<T>(x[x_at + d]) * static_cast<T>(y[y_at + d]);
    }
    return sum;
  }

  void RunRow(int64_t row) {  // [B, H, T]
    const int64_t i = row % p_.queries;
    const int64_t h = row / p_.queries % p_.heads;
    const int64_t b = row / p_.queries / p_.heads;
    const int64_t q = ((b * p_.queries + i) * p_.heads + h) * p_.head_dim;
    const auto key = [&](int64_t j) {
      return ((b * p_.keys + j) * p_.kv_heads + h * p_.kv_heads / p_.heads) * p_.head_dim;
    };
    std::vector<T> weight(p_.keys);
    T largest = -std::numeric_limits<T>::infinity();
    for (int64_t j = 0; j < p_.keys; ++j) {
      weight[j] = in_.Sees(b, i, j) ? static_cast<T>(p_.scale) * Dot(in_.q, q, in_.k, key(j))
                                    : -std::numeric_limits<T>::infinity();
      largest = std::max(largest, weight[j]);
    }
    T sum = 0;
    for (T& w : weight) {
      w = std::isinf(largest) ? T{0} : std::exp(w - largest);
      sum += w;
    }
    r_.lse[row] = largest + std::log(sum);
    std::vector<T> d_p(p_.keys);
    std::vector<T> kept(p_.keys);
    T mean = 0;
    for (int64_t j = 0; j < p_.keys; ++j) {
      weight[j] = sum > 0 ? weight[j] / sum : T{0};
      kept[j] =
          p_.dropout.on()
              ? static_cast<T>(DropoutFactor(p_.dropout, p_.dropout.Site(p_.heads, b, h), i, j))
              : T{1};
      d_p[j] = kept[j] * Dot(in_.d_o, q, in_.v, key(j));
      mean += weight[j] * d_p[j];
    }
    for (int64_t j = 0; j < p_.keys; ++j) {
      AddKey(q, key(j), kept[j] * weight[j],
             static_cast<T>(p_.scale) * weight[j] * (d_p[j] - mean));
    }
  }

  void AddKey(int64_t q, int64_t key, T weight, T d_logit) {
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      r_.o[q + d] = static_cast<T>(r_.o[q + d]) + weight * static_cast<T>(in_.v[key + d]);
      r_.d_q[q + d] = static_cast<T>(r_.d_q[q + d]) + d_logit * static_cast<T>(in_.k[key + d]);
      d_k_[key + d] += d_logit * static_cast<T>(in_.q[q + d]);
      d_v_[key + d] += weight * static_cast<T>(in_.d_o[q + d]);
    }
  }

  const SoftmaxInputs& in_;
  const SoftmaxProblem& p_;
  SoftmaxResults r_;
  std::vector<T> d_k_;
  std::vector<T> d_v_;
};

// Calls check(name, a's array, b's array, ...) for each of the five results.
template <typename Check, typename... Results>
void ForEachSoftmaxResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("lse", results.lse...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_v", results.d_v...);
}

}  // namespace weft::kernels::testing

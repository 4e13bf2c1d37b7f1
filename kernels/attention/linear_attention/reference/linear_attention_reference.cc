// Linear attention as written down in linear_attention.h: token by token, fp64, one thread. The
// backward pass goes forwards once for the queries' gradients, which need the states, and backwards
// once for those of keys and values, which need only the gradient of the state.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/features/reference/feature_reference.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"

namespace weft::kernels {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

// One head of one sequence.
struct Head {
  const LinearAttentionProblem& p;
  const LinearAttentionInputs& inputs;
  int64_t batch;
  int64_t head;

  [[nodiscard]] int64_t Token(int64_t t) const { return (batch * p.tokens + t) * p.heads + head; }
  [[nodiscard]] int64_t Row(int64_t t) const { return (batch * p.heads + head) * p.tokens + t; }
  [[nodiscard]] int64_t Index() const { return batch * p.heads + head; }
  [[nodiscard]] int64_t Features() const { return FeatureCount(p.features, p.key_dim); }
  [[nodiscard]] bool HasLevels() const { return p.features.feature == Feature::kExponential; }
  [[nodiscard]] bool Seen(int64_t t) const {
    return !inputs.valid.present() || inputs.valid.data<int32_t>()[batch * p.tokens + t] != 0;
  }
  [[nodiscard]] const double* Projection() const {
    return inputs.projection.present() ? inputs.projection.data<double>() : nullptr;
  }
  // Writes the features of row t of q or k; returns their level.
  double FeaturesAt(const Tensor& x, int64_t t, std::vector<double>& f) const {
    return FeaturesReference(p.features, Projection(), x.data<double>() + Token(t) * p.key_dim,
                             p.key_dim, f.data());
  }
  void FeaturesBackwardAt(const Tensor& x, int64_t t, const std::vector<double>& d_f,
                          Tensor& d_x) const {
    FeaturesBackwardReference(p.features, Projection(), x.data<double>() + Token(t) * p.key_dim,
                              p.key_dim, d_f.data(), d_x.data<double>() + Token(t) * p.key_dim);
  }
  [[nodiscard]] double Guarded(double sum) const {
    if (p.guard == DenominatorGuard::kAdd) return sum + p.guard_epsilon;
    return std::abs(sum) <= p.guard_epsilon ? sum + 2.0 * p.guard_epsilon : sum;
  }
};

// R, z and m, or the gradients of R and z.
struct State {
  explicit State(const Head& head)
      : features(head.Features()), width(head.p.value_dim), r(features * width), z(features) {}

  // Fades what is here by `factor` and adds `weight` x y^T and `weight` x y_one.
  void Add(double factor, double weight, const std::vector<double>& x, const double* y,
           double y_one) {
    for (int64_t l = 0; l < features; ++l) {
      for (int64_t j = 0; j < width; ++j) {
        r[l * width + j] = factor * r[l * width + j] + weight * x[l] * y[j];
      }
      z[l] = factor * z[l] + weight * x[l] * y_one;
    }
  }
  void AddToken(double level, const std::vector<double>& features_of_key, const double* value) {
    const double before = m;
    m = std::max(m, level);
    Add(std::exp(before - m), std::exp(level - m), features_of_key, value, 1.0);
  }

  int64_t features;
  int64_t width;
  std::vector<double> r;
  std::vector<double> z;
  double m = kNothing;
};

State LoadState(const Head& head, const Tensor& tensor, int64_t index) {
  State state(head);
  if (!head.HasLevels()) state.m = 0.0;
  if (!tensor.present()) return state;
  const double* from = tensor.data<double>() + index * tensor.dim(-1);
  state.r.assign(from, from + state.r.size());
  from += state.r.size();
  state.z.assign(from, from + state.z.size());
  const bool empty = std::all_of(state.z.begin(), state.z.end(), [](double z) { return z == 0.0; });
  if (head.HasLevels() && !empty) state.m = from[state.z.size()];
  return state;
}

void StoreState(const State& state, int64_t index, const Tensor& tensor) {
  if (!tensor.present()) return;
  double* to = tensor.data<double>() + index * tensor.dim(-1);
  to = std::copy(state.r.begin(), state.r.end(), to);
  to = std::copy(state.z.begin(), state.z.end(), to);
  *to = std::isfinite(state.m) ? state.m : 0.0;
}

State Total(const Head& head) {
  State state = LoadState(head, Tensor(), 0);
  std::vector<double> key(head.Features());
  for (int64_t t = 0; t < head.p.tokens; ++t) {
    const double level = head.FeaturesAt(head.inputs.k, t, key);
    if (!head.Seen(t)) continue;
    state.AddToken(level, key, head.inputs.v.data<double>() + head.Token(t) * head.p.value_dim);
  }
  return state;
}

// o of token t from the state it sees; returns the denominator.
double Read(const Head& head, const State& state, int64_t t, std::vector<double>& query,
            Tensor& o) {
  head.FeaturesAt(head.inputs.q, t, query);
  double* const o_t = o.data<double>() + head.Token(t) * head.p.value_dim;
  std::fill_n(o_t, head.p.value_dim, 0.0);
  double sum = 0.0;
  for (int64_t l = 0; l < state.features; ++l) {
    sum += query[l] * state.z[l];
    for (int64_t j = 0; j < state.width; ++j) o_t[j] += query[l] * state.r[l * state.width + j];
  }
  const double denominator = head.Guarded(sum);
  for (int64_t j = 0; j < state.width; ++j)
    o_t[j] = denominator == 0.0 ? 0.0 : o_t[j] / denominator;
  return denominator;
}

void ForwardHead(const Head& head, const Tensor& initial_state, Tensor& o, Tensor& final_state,
                 LinearAttentionSaved& saved) {
  const LinearAttentionProblem& p = head.p;
  State state = p.causal ? LoadState(head, initial_state, head.Index()) : Total(head);
  if (saved.states.present()) {
    StoreState(state, head.Index() * saved.states.dim(2), saved.states);
  }
  std::vector<double> key(head.Features());
  std::vector<double> query(head.Features());
  for (int64_t t = 0; t < p.tokens; ++t) {
    if (p.causal) {
      const double level = head.FeaturesAt(head.inputs.k, t, key);
      if (head.Seen(t)) {
        state.AddToken(level, key, head.inputs.v.data<double>() + head.Token(t) * p.value_dim);
      }
    }
    const double denominator = Read(head, state, t, query, o);
    if (saved.denominators.present()) saved.denominators.data<double>()[head.Row(t)] = denominator;
    if (saved.levels.present()) saved.levels.data<double>()[head.Row(t)] = state.m;
  }
  StoreState(state, head.Index(), final_state);
}

// The gradients of numerator and denominator of token t: [Dv], and one number.
struct RowSlopes {
  std::vector<double> numerator;
  double denominator = 0.0;
};
RowSlopes SlopesOf(const Head& head, int64_t t, const Tensor& o, const Tensor& d_o,
                   const LinearAttentionSaved& saved) {
  const double sum = saved.denominators.data<double>()[head.Row(t)];
  RowSlopes slopes{std::vector<double>(head.p.value_dim)};
  if (sum == 0.0) return slopes;
  const double* o_t = o.data<double>() + head.Token(t) * head.p.value_dim;
  const double* d_o_t = d_o.data<double>() + head.Token(t) * head.p.value_dim;
  for (int64_t j = 0; j < head.p.value_dim; ++j) {
    slopes.numerator[j] = d_o_t[j] / sum;
    slopes.denominator -= d_o_t[j] * o_t[j] / sum;
  }
  return slopes;
}

// d_q of token t from the state it sees.
void QueryGradient(const Head& head, const State& state, int64_t t, const RowSlopes& slopes,
                   Tensor& d_q) {
  std::vector<double> d_query(state.features);
  for (int64_t l = 0; l < state.features; ++l) {
    d_query[l] = slopes.denominator * state.z[l];
    for (int64_t j = 0; j < state.width; ++j) {
      d_query[l] += slopes.numerator[j] * state.r[l * state.width + j];
    }
  }
  head.FeaturesBackwardAt(head.inputs.q, t, d_query, d_q);
}

// d_k and d_v of token t from the gradient of the state, both in units of exp(m).
void KeyGradient(const Head& head, const State& d_state, double m, int64_t t, Tensor& d_k,
                 Tensor& d_v) {
  std::vector<double> key(head.Features());
  std::vector<double> d_key(head.Features(), 0.0);
  const double level = head.FeaturesAt(head.inputs.k, t, key);
  const double weight = head.Seen(t) ? std::exp(level - m) : 0.0;
  const double* v_t = head.inputs.v.data<double>() + head.Token(t) * head.p.value_dim;
  double* d_v_t = d_v.data<double>() + head.Token(t) * head.p.value_dim;
  std::fill_n(d_v_t, head.p.value_dim, 0.0);
  for (int64_t l = 0; l < d_state.features; ++l) {
    d_key[l] = weight * d_state.z[l];
    for (int64_t j = 0; j < d_state.width; ++j) {
      d_key[l] += weight * d_state.r[l * d_state.width + j] * v_t[j];
      d_v_t[j] += weight * d_state.r[l * d_state.width + j] * key[l];
    }
  }
  head.FeaturesBackwardAt(head.inputs.k, t, d_key, d_k);
}

struct Gradients {
  Tensor& d_q;
  Tensor& d_k;
  Tensor& d_v;
};

void BackwardCausal(const Head& head, const Tensor& o, const LinearAttentionSaved& saved,
                    const Tensor& d_o, const Tensor& d_final_state, const Gradients& gradients,
                    Tensor& d_initial_state) {
  const LinearAttentionProblem& p = head.p;
  State state = LoadState(head, saved.states, head.Index() * saved.states.dim(2));
  std::vector<double> m = {state.m};  // before token t
  std::vector<double> key(head.Features());
  for (int64_t t = 0; t < p.tokens; ++t) {
    const double level = head.FeaturesAt(head.inputs.k, t, key);
    if (head.Seen(t)) {
      state.AddToken(level, key, head.inputs.v.data<double>() + head.Token(t) * p.value_dim);
    }
    m.push_back(state.m);
    QueryGradient(head, state, t, SlopesOf(head, t, o, d_o, saved), gradients.d_q);
  }
  State d_state = LoadState(head, d_final_state, head.Index());
  std::vector<double> query(head.Features());
  for (int64_t t = p.tokens - 1; t >= 0; --t) {
    const RowSlopes slopes = SlopesOf(head, t, o, d_o, saved);
    head.FeaturesAt(head.inputs.q, t, query);
    d_state.Add(1.0, 1.0, query, slopes.numerator.data(), slopes.denominator);
    KeyGradient(head, d_state, m[t + 1], t, gradients.d_k, gradients.d_v);
    // The same gradient in units of what was there before the token.
    const double fading = m[t + 1] == kNothing ? 0.0 : std::exp(m[t] - m[t + 1]);
    d_state.Add(fading, 0.0, query, slopes.numerator.data(), 0.0);
  }
  d_state.m = 0.0;
  StoreState(d_state, head.Index(), d_initial_state);
}

void BackwardWhole(const Head& head, const Tensor& o, const LinearAttentionSaved& saved,
                   const Tensor& d_o, const Gradients& gradients) {
  const State state = LoadState(head, saved.states, head.Index());
  State d_state(head);
  std::vector<double> query(head.Features());
  for (int64_t t = 0; t < head.p.tokens; ++t) {
    const RowSlopes slopes = SlopesOf(head, t, o, d_o, saved);
    head.FeaturesAt(head.inputs.q, t, query);
    d_state.Add(1.0, 1.0, query, slopes.numerator.data(), slopes.denominator);
    QueryGradient(head, state, t, slopes, gradients.d_q);
  }
  for (int64_t t = 0; t < head.p.tokens; ++t) {
    KeyGradient(head, d_state, state.m, t, gradients.d_k, gradients.d_v);
  }
}

}  // namespace

absl::Status LinearAttentionForwardReference(Stream& /*stream*/, const LinearAttentionProblem& p,
                                             const LinearAttentionInputs& inputs,
                                             const Tensor& initial_state, Tensor& o,
                                             Tensor& final_state, LinearAttentionSaved& saved) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      ForwardHead({p, inputs, b, h}, initial_state, o, final_state, saved);
    }
  }
  return absl::OkStatus();
}

absl::Status LinearAttentionBackwardReference(Stream& /*stream*/, const LinearAttentionProblem& p,
                                              const LinearAttentionInputs& inputs, const Tensor& o,
                                              const LinearAttentionSaved& saved, const Tensor& d_o,
                                              const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                              Tensor& d_v, Tensor& d_initial_state) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head head{p, inputs, b, h};
      if (p.causal) {
        BackwardCausal(head, o, saved, d_o, d_final_state, {d_q, d_k, d_v}, d_initial_state);
      } else {
        BackwardWhole(head, o, saved, d_o, {d_q, d_k, d_v});
      }
    }
  }
  return absl::OkStatus();
}

absl::Status LinearAttentionUndoReference(Stream& /*stream*/, const LinearAttentionProblem& p,
                                          const LinearAttentionInputs& inputs, Tensor& state) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head head{p, inputs, b, h};
      State left = LoadState(head, state, head.Index());
      std::vector<double> key(head.Features());
      for (int64_t t = p.tokens - 1; t >= 0; --t) {
        head.FeaturesAt(inputs.k, t, key);
        const double* v_t = inputs.v.data<double>() + head.Token(t) * p.value_dim;
        if (head.Seen(t)) left.Add(1.0, -1.0, key, v_t, 1.0);
      }
      StoreState(left, head.Index(), state);
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

// The textbook loops of polynomial attention in the arithmetic of T: token by token, near pairs one
// by one, blocks folded into S and E when they are complete. Shares nothing with the kernels, and
// is the plain rival of the tolerance rule.
#pragma once

#include "tests/kernels/attention/polysketch_testing.h"

namespace weft::kernels::testing {

template <typename T>
class PlainPolysketch {
 public:
  static PolysketchResults Run(const PolysketchData& in) {
    PlainPolysketch plain(in);
    for (int64_t b = 0; b < in.problem.batch; ++b) {
      for (int64_t h = 0; h < in.problem.heads; ++h) plain.RunHead(b, h);
    }
    return plain.r_;
  }

 private:
  using Row = std::vector<T>;
  struct State {
    Row values, mass;
  };

  explicit PlainPolysketch(const PolysketchData& in)
      : in_(in),
        p_(in.problem),
        sketched_(p_.weights == PolysketchWeights::kSketched),
        r_{.o = Values(in.d_o.size()),
           .total = Values(p_.batch * p_.heads * p_.queries),
           .values = Values(in.HasStates() ? in.ValuesShape().count() : 0),
           .mass = Values(in.HasStates() ? in.MassShape().count() : 0),
           .d_q = Values(in.q.size()),
           .d_k = Values(in.k.size()),
           .d_phi_q = Values(in.phi_q.size()),
           .d_phi_k = Values(in.phi_k.size()),
           .d_v = Values(in.v.size()),
           .d_values = Values(in.HasStates() ? in.ValuesShape().count() : 0),
           .d_mass = Values(in.HasStates() ? in.MassShape().count() : 0)} {}

  [[nodiscard]] int64_t At(int64_t tokens, int64_t t, int64_t width) const {
    return ((b_ * tokens + t) * p_.heads + h_) * width;
  }
  [[nodiscard]] Row Load(const Values& from, int64_t at, int64_t n) const {
    return from.empty() ? Row(n) : Row(from.begin() + at, from.begin() + at + n);
  }
  static void AddTo(Values& to, int64_t at, const Row& row) {
    for (size_t i = 0; i < row.size(); ++i) to[at + i] = static_cast<T>(to[at + i]) + row[i];
  }
  static T Dot(const Row& a, const Row& b) {
    T sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
  static T Power(T x, int64_t p) {
    T y = 1;
    for (int64_t i = 0; i < p; ++i) y *= x;
    return y;
  }

  [[nodiscard]] bool Seen(int64_t j) const {
    return in_.valid.empty() || in_.valid[b_ * p_.keys + j] != 0;
  }
  [[nodiscard]] State LoadState(const Values& values, const Values& mass) const {
    const int64_t head = b_ * p_.heads + h_;
    const int64_t m = SelfProducts(p_.sketch_dim) * p_.head_dim;
    const int64_t e = p_.sketch_dim * p_.sketch_dim;
    return {Load(values, head * m, m), Load(mass, head * e, e)};
  }
  void StoreState(const State& state, Values& values, Values& mass) const {
    if (!in_.HasStates()) return;
    const int64_t head = b_ * p_.heads + h_;
    std::copy(state.values.begin(), state.values.end(),
              values.begin() + head * static_cast<int64_t>(state.values.size()));
    std::copy(state.mass.begin(), state.mass.end(),
              mass.begin() + head * static_cast<int64_t>(state.mass.size()));
  }
  [[nodiscard]] Row Features(const Row& phi) const {
    Row f(SelfProducts(p_.sketch_dim));
    ForProducts([&](int64_t a, int64_t b, int64_t index, T factor) {
      f[index] = factor * phi[a] * phi[b];
    });
    return f;
  }
  template <typename Body>
  void ForProducts(Body body) const {
    for (int64_t a = 0; a < p_.sketch_dim; ++a) {
      for (int64_t b = a; b < p_.sketch_dim; ++b) {
        body(a, b, SelfProductIndex(p_.sketch_dim, a, b),
             a == b ? T{1} : static_cast<T>(std::sqrt(2.0)));
      }
    }
  }
  // state += x of phi with weight w: keys into S, E; queries into their gradients.
  void Fold(const Row& phi, const Row& x, T w, State& state) const {
    const Row f = Features(phi);
    for (size_t a = 0; a < f.size(); ++a) {
      for (size_t d = 0; d < x.size(); ++d) state.values[a * x.size() + d] += f[a] * x[d];
    }
    for (size_t a = 0; a < phi.size(); ++a) {
      for (size_t b = 0; b < phi.size(); ++b) state.mass[a * phi.size() + b] += w * phi[a] * phi[b];
    }
  }
  // What phi reads from the state.
  void Read(const Row& phi, const State& state, Row& num, T& den) const {
    const Row f = Features(phi);
    for (size_t a = 0; a < f.size(); ++a) {
      for (size_t d = 0; d < num.size(); ++d) num[d] += f[a] * state.values[a * num.size() + d];
    }
    for (size_t a = 0; a < phi.size(); ++a) {
      for (size_t b = 0; b < phi.size(); ++b) {
        den += phi[a] * state.mass[a * phi.size() + b] * phi[b];
      }
    }
  }
  // The gradient of phi where Fold and Read meet: of <F(phi) x, S> + w phi^T E phi.
  [[nodiscard]] Row Slope(const Row& phi, const Row& x, T w, const State& state) const {
    Row d_phi(phi.size());
    ForProducts([&](int64_t a, int64_t b, int64_t index, T factor) {
      T slope = 0;
      for (size_t d = 0; d < x.size(); ++d) slope += state.values[index * x.size() + d] * x[d];
      d_phi[a] += factor * slope * phi[b];
      d_phi[b] += factor * slope * phi[a];
    });
    for (size_t a = 0; a < phi.size(); ++a) {
      for (size_t b = 0; b < phi.size(); ++b) {
        d_phi[a] += 2 * w * state.mass[a * phi.size() + b] * phi[b];
      }
    }
    return d_phi;
  }

  // The side of a near pair.
  [[nodiscard]] Row NearRow(bool query, int64_t t) const {
    const int64_t width = sketched_ ? p_.sketch_dim : p_.head_dim;
    const Values& from = sketched_ ? (query ? in_.phi_q : in_.phi_k) : (query ? in_.q : in_.k);
    return Load(from, At(query ? p_.queries : p_.keys, t, width), width);
  }
  [[nodiscard]] Row Phi(bool query, int64_t t) const {
    Row phi = Load(query ? in_.phi_q : in_.phi_k,
                   At(query ? p_.queries : p_.keys, t, p_.sketch_dim), p_.sketch_dim);
    if (query) {
      for (T& x : phi) x *= root_;
    }
    return phi;
  }

  void RunHead(int64_t b, int64_t h) {
    b_ = b;
    h_ = h;
    const int64_t exact_block = std::max<int64_t>(p_.keys, 1);
    block_ = in_.HasSketch() ? p_.block : exact_block;
    root_ = static_cast<T>(std::pow(p_.kappa, -0.5 * static_cast<double>(p_.degree)));
    near_scale_ = sketched_ ? root_ : static_cast<T>(1 / p_.kappa);
    State state = LoadState(in_.values, in_.mass);
    const int64_t blocks = (p_.keys + block_ - 1) / block_;
    std::vector<State> before;
    for (int64_t c = 0; c < blocks; ++c) {
      before.push_back(state);
      if (Folded(c)) FoldBlock(c, state);
    }
    StoreState(state, r_.values, r_.mass);
    State d_state = LoadState(in_.d_values, in_.d_mass);
    if (!p_.causal && in_.HasSketch()) {
      RunWhole(state, d_state);
      return;
    }
    for (int64_t c = blocks - 1; c >= 0; --c) {
      if (Folded(c)) KeysBackward(c * block_, BlockEnd(c), d_state);
      for (int64_t i = 0; i < p_.queries; ++i) {
        const int64_t at = p_.causal ? p_.keys - p_.queries + i : 0;
        if (at < c * block_ || at >= BlockEnd(c)) continue;
        RunQuery(i, c * block_, p_.causal ? at + 1 : p_.keys, before[c], d_state);
      }
    }
    StoreState(d_state, r_.d_values, r_.d_mass);
  }

  void RunWhole(const State& state, State& d_state) {
    for (int64_t i = 0; i < p_.queries; ++i) RunQuery(i, 0, 0, state, d_state);
    KeysBackward(0, p_.keys, d_state);
  }

  [[nodiscard]] int64_t BlockEnd(int64_t c) const { return std::min((c + 1) * block_, p_.keys); }
  [[nodiscard]] bool Folded(int64_t c) const {
    return in_.HasSketch() && (sketched_ || BlockEnd(c) - c * block_ == block_);
  }
  void FoldBlock(int64_t c, State& state) const {
    for (int64_t j = c * block_; j < BlockEnd(c); ++j) {
      if (Seen(j)) Fold(Phi(false, j), Value(j), 1, state);
    }
  }
  [[nodiscard]] Row Value(int64_t j) const {
    return Load(in_.v, At(p_.keys, j, p_.head_dim), p_.head_dim);
  }
  void KeysBackward(int64_t begin, int64_t end, const State& d_state) {
    for (int64_t j = begin; j < end; ++j) {
      if (!Seen(j)) continue;
      const Row phi = Phi(false, j);
      AddTo(r_.d_phi_k, At(p_.keys, j, p_.sketch_dim), Slope(phi, Value(j), 1, d_state));
      Row d_v(p_.head_dim);
      T ignored = 0;
      Read(phi, d_state, d_v, ignored);
      AddTo(r_.d_v, At(p_.keys, j, p_.head_dim), d_v);
    }
  }

  // Forward, then backward, of one query that reads `state` and meets keys [begin, end).
  void RunQuery(int64_t i, int64_t begin, int64_t end, const State& state, State& d_state) {
    Row num(p_.head_dim);
    T far = 0;
    if (in_.HasSketch()) Read(Phi(true, i), state, num, far);
    far = std::max(far, T{0});
    T total = static_cast<T>(p_.c0) * root_ * root_ + far;
    const int64_t power = sketched_ ? 2 : p_.degree;
    Row x = in_.HasExact() || end > begin ? NearRow(true, i) : Row{};
    for (T& value : x) value *= near_scale_;
    for (int64_t j = begin; j < end; ++j) {
      if (!Seen(j)) continue;
      const T w = Power(Dot(x, NearRow(false, j)), power);
      total += w;
      const Row v = Value(j);
      for (int64_t d = 0; d < p_.head_dim; ++d) num[d] += w * v[d];
    }
    const T inverse = total > 0 ? 1 / total : T{0};
    const int64_t o_at = At(p_.queries, i, p_.head_dim);
    T mean = 0;
    Row slope(p_.head_dim);
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      r_.o[o_at + d] = num[d] * inverse;
      slope[d] = static_cast<T>(in_.d_o[o_at + d]) * inverse;
      mean += slope[d] * num[d] * inverse;
    }
    r_.total[(b_ * p_.heads + h_) * p_.queries + i] = total;
    if (in_.HasSketch()) {
      const Row phi = Phi(true, i);
      const T far_weight = far > 0 ? -mean : T{0};
      Row d_phi = Slope(phi, slope, far_weight, state);
      for (T& value : d_phi) value *= root_;
      AddTo(r_.d_phi_q, At(p_.queries, i, p_.sketch_dim), d_phi);
      Fold(phi, slope, far_weight, d_state);
    }
    for (int64_t j = begin; j < end; ++j) {
      if (Seen(j)) PairBackward(i, j, x, power, slope, mean);
    }
  }

  void PairBackward(int64_t i, int64_t j, const Row& x, int64_t power, const Row& slope, T mean) {
    const Row y = NearRow(false, j);
    const T product = Dot(x, y);
    const T d_product =
        static_cast<T>(power) * Power(product, power - 1) * (Dot(slope, Value(j)) - mean);
    Row d_x = y;
    Row d_y = x;
    Row d_v = slope;
    for (T& value : d_x) value *= d_product * near_scale_;
    for (T& value : d_y) value *= d_product;
    for (T& value : d_v) value *= Power(product, power);
    const auto width = static_cast<int64_t>(x.size());
    AddTo(sketched_ ? r_.d_phi_q : r_.d_q, At(p_.queries, i, width), d_x);
    AddTo(sketched_ ? r_.d_phi_k : r_.d_k, At(p_.keys, j, width), d_y);
    AddTo(r_.d_v, At(p_.keys, j, p_.head_dim), d_v);
  }

  const PolysketchData& in_;
  const PolysketchProblem& p_;
  const bool sketched_;
  PolysketchResults r_;
  int64_t b_ = 0;
  int64_t h_ = 0;
  int64_t block_ = 0;
  T root_ = 1;
  T near_scale_ = 1;
};

}  // namespace weft::kernels::testing

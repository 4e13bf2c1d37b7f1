// Scatterbrain token by token, fp32: the same steps as a tile of one query, for each head on its
// own thread.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct TokenSpace {
  TokenSpace(const ScatterbrainProblem& p, Carver& carver)
      : u(carver.Take(p.key_dim)),
        exponents(carver.Take(p.features)),
        phi(carver.Take(p.features)),
        total(carver.Take(p.value_dim + 1)),
        weights(carver.Take(std::max<int64_t>(p.queries, 1))) {}
  float* u;
  float* exponents;  // [r]
  float* phi;        // [r]
  float* total;      // [Dv + 1]
  float* weights;    // [exact keys]
};

struct DecodingHead {
  const ScatterbrainProblem& p;
  const VectorTable& vector;
  const float* w;
  ScatterbrainState& state;
  int64_t batch;
  int64_t head;
  TokenSpace space;
  HeadRows keys, values, features;

  [[nodiscard]] int64_t room() const { return state.keys.dim(1); }
  [[nodiscard]] bool windowed() const { return std::holds_alternative<WindowSupport>(p.support); }
  [[nodiscard]] float& Scale(int64_t slot) const {
    return state.scales.data<float>()[(batch * room() + slot) * p.heads + head];
  }
  [[nodiscard]] float* sums() const {
    return state.sums.data<float>() + (batch * p.heads + head) * p.features * (p.value_dim + 1);
  }
  [[nodiscard]] float& largest() const {
    return state.largest.data<float>()[batch * p.heads + head];
  }
  [[nodiscard]] float Exp(float x) const {
    vector.exp(&x, &x, 1);
    return x;
  }

  // The exponents of the features of a query or key.
  void Exponents(const float* row) const {
    const int64_t rows = p.feature_rows();
    vector.scale(static_cast<float>(std::sqrt(p.scale)), row, space.u, p.key_dim);
    const float shift = vector.dot(space.u, space.u, p.key_dim) / 2 +
                        static_cast<float>(std::log(static_cast<double>(p.features)) / 2);
    for (int64_t l = 0; l < rows; ++l) {
      const float x = vector.dot(w + l * p.key_dim, space.u, p.key_dim);
      space.exponents[l] = x - shift;
      if (p.hyperbolic) space.exponents[rows + l] = -x - shift;
    }
  }
  void Stored(float scale, float* to) const {
    const auto offset = static_cast<float>(p.epsilon / std::sqrt(static_cast<double>(p.features)));
    vector.exp_sum(1.0F, space.exponents, scale, to, p.features);
    for (int64_t l = 0; l < p.features; ++l) to[l] += offset;
  }
  // sums += exp(m - largest) psi [v, 1] of the token in a slot.
  void AddToSums(int64_t slot) const {
    const float fading = Exp(Scale(slot) - largest());
    const int64_t width = p.value_dim + 1;
    for (int64_t l = 0; l < p.features; ++l) {
      const float psi = fading * features.Row(slot)[l];
      vector.axpy(psi, values.Row(slot), sums() + l * width, p.value_dim);
      sums()[l * width + p.value_dim] += psi;
    }
  }

  void TakeIn(const float* k, const float* v) const {
    const int64_t slot = state.tokens % room();
    const int64_t count = p.features * (p.value_dim + 1);
    Exponents(k);
    const float before = state.tokens == 0 ? kNothing : largest();
    largest() = std::max(before, vector.max(space.exponents, p.features));
    if (state.tokens == 0) {
      std::fill_n(sums(), count, 0.0F);
    } else if (largest() != before) {
      vector.scale(Exp(before - largest()), sums(), sums(), count);
    }
    if (windowed() && state.tokens >= room()) AddToSums(slot);  // it leaves the window
    std::copy_n(k, p.key_dim, keys.Row(slot));
    std::copy_n(v, p.value_dim, values.Row(slot));
    Stored(largest(), features.Row(slot));
    Scale(slot) = largest();
    if (!windowed()) AddToSums(slot);
  }

  // Calls body(slot) for the keys that the newest token sees exactly.
  template <typename Body>
  void ForExact(const Body& body) const {
    const int64_t token = state.tokens;
    if (windowed()) {
      for (int64_t j = std::max<int64_t>(0, token - room() + 1); j <= token; ++j) body(j % room());
    } else if (const auto* blocks = std::get_if<BlockSupport>(&p.support)) {
      const BlockLayout& layout = *blocks->layout;
      for (int64_t block = 0; block * layout.block() <= token; ++block) {
        if (!layout.exact(token / layout.block(), block)) continue;
        const int64_t end = std::min((block + 1) * layout.block(), token + 1);
        for (int64_t j = block * layout.block(); j < end; ++j) body(j);
      }
    }
  }

  void Answer(const float* q, float* o) const {
    Exponents(q);
    const float scale = vector.max(space.exponents, p.features);
    Stored(scale, space.phi);
    // Nothing has left the window yet: no low-rank part.
    const bool low_rank = !windowed() || state.tokens >= room();
    float reference = low_rank ? scale + largest() : kNothing;
    int64_t exact = 0;
    ForExact([&](int64_t slot) {
      const float logit = static_cast<float>(p.scale) * vector.dot(q, keys.Row(slot), p.key_dim);
      space.weights[exact++] = logit;
      reference = std::max(reference, logit);
    });
    const int64_t width = p.value_dim + 1;
    std::fill_n(space.total, width, 0.0F);
    if (low_rank) {
      vector.scale(Exp(scale + largest() - reference), space.phi, space.phi, p.features);
      for (int64_t l = 0; l < p.features; ++l) {
        vector.axpy(space.phi[l], sums() + l * width, space.total, width);
      }
    }
    const float exact_sum = vector.exp_sum(1.0F, space.weights, reference, space.weights, exact);
    int64_t n = 0;
    ForExact([&](int64_t slot) {
      float weight = space.weights[n++];
      if (!windowed()) {
        const float replaced =
            Exp(Scale(slot) - largest()) * vector.dot(space.phi, features.Row(slot), p.features);
        space.total[p.value_dim] -= replaced;
        weight -= replaced;
      }
      vector.axpy(weight, values.Row(slot), space.total, p.value_dim);
    });
    const float normaliser = exact_sum + std::max(0.0F, space.total[p.value_dim]);
    vector.scale(1.0F / normaliser, space.total, o, p.value_dim);
  }
};

}  // namespace

absl::Status ScatterbrainDecodeCpu(Stream& stream, const ScatterbrainProblem& p, const Tensor& q,
                                   const Tensor& k, const Tensor& v, const Tensor& w,
                                   ScatterbrainState& state, Tensor& o) {
  CpuStream& cpu = AsCpuStream(stream);
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const DecodingHead head{p,
                            cpu.vector(),
                            w.data<float>(),
                            state,
                            b,
                            h,
                            ThreadSpace<TokenSpace>(p),
                            {state.keys, b, h},
                            {state.values, b, h},
                            {state.features, b, h}};
    head.TakeIn(HeadRows(k, b, h).Row(0), HeadRows(v, b, h).Row(0));
    head.Answer(HeadRows(q, b, h).Row(0), HeadRows(o, b, h).Row(0));
  });
  ++state.tokens;
  return absl::OkStatus();
}

}  // namespace weft::kernels

// Scatterbrain token by token, fp64, plain loops.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"

namespace weft::kernels {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One head of one text at the token that comes next.
struct DecodingHead {
  const ScatterbrainProblem& p;
  const Tensor& w;
  ScatterbrainState& state;
  int64_t batch;
  int64_t head;

  [[nodiscard]] int64_t room() const { return state.keys.dim(1); }
  [[nodiscard]] bool windowed() const { return std::holds_alternative<WindowSupport>(p.support); }
  // The rows of this head in a [B, n, H, width] tensor.
  [[nodiscard]] double* Row(const Tensor& tensor, int64_t t) const {
    return tensor.data<double>() +
           ((batch * tensor.dim(1) + t) * p.heads + head) * tensor.shape().dim(3);
  }
  [[nodiscard]] double& Scale(int64_t slot) const {
    return state.scales.data<double>()[(batch * room() + slot) * p.heads + head];
  }
  [[nodiscard]] double* sums() const {
    return state.sums.data<double>() + (batch * p.heads + head) * p.features * (p.value_dim + 1);
  }
  [[nodiscard]] double& largest() const {
    return state.largest.data<double>()[batch * p.heads + head];
  }
  // w_l . u - |u|^2 / 2 - ln(r) / 2
  [[nodiscard]] std::vector<double> Exponents(const double* row) const {
    std::vector<double> exponents(p.features);
    const double square = p.scale * Dot(row, row, p.key_dim);
    for (int64_t l = 0; l < p.features; ++l) {
      const int64_t rows = p.feature_rows();
      const double x =
          std::sqrt(p.scale) * Dot(w.data<double>() + l % rows * p.key_dim, row, p.key_dim);
      exponents[l] =
          (l < rows ? x : -x) - square / 2 - std::log(static_cast<double>(p.features)) / 2;
    }
    return exponents;
  }
  [[nodiscard]] std::vector<double> Stored(std::vector<double> exponents, double scale) const {
    const double offset = p.epsilon / std::sqrt(static_cast<double>(p.features));
    for (double& x : exponents) x = std::exp(x - scale) + offset;
    return exponents;
  }
  // sums += exp(m - largest) psi [v, 1] of the token in a slot.
  void AddToSums(int64_t slot) const {
    const double fading = std::exp(Scale(slot) - largest());
    const int64_t width = p.value_dim + 1;
    for (int64_t l = 0; l < p.features; ++l) {
      const double psi = fading * Row(state.features, slot)[l];
      for (int64_t e = 0; e < p.value_dim; ++e) {
        sums()[l * width + e] += psi * Row(state.values, slot)[e];
      }
      sums()[l * width + p.value_dim] += psi;
    }
  }

  void TakeIn(const double* k, const double* v) const {
    const int64_t slot = state.tokens % room();
    const std::vector<double> exponents = Exponents(k);
    const double before = state.tokens == 0 ? kNothing : largest();
    largest() = std::max(before, *std::max_element(exponents.begin(), exponents.end()));
    const double fading = std::exp(before - largest());
    for (int64_t x = 0; x < p.features * (p.value_dim + 1); ++x) {
      sums()[x] = state.tokens == 0 ? 0.0 : sums()[x] * fading;
    }
    if (windowed() && state.tokens >= room()) AddToSums(slot);  // it leaves the window
    std::copy_n(k, p.key_dim, Row(state.keys, slot));
    std::copy_n(v, p.value_dim, Row(state.values, slot));
    const std::vector<double> psi = Stored(exponents, largest());
    std::copy(psi.begin(), psi.end(), Row(state.features, slot));
    Scale(slot) = largest();
    if (!windowed()) AddToSums(slot);
  }

  // Slots of the keys that the newest token sees exactly.
  [[nodiscard]] std::vector<int64_t> ExactSlots() const {
    std::vector<int64_t> slots;
    const auto* blocks = std::get_if<BlockSupport>(&p.support);
    for (int64_t j = std::max<int64_t>(0, state.tokens - room() + 1); j <= state.tokens; ++j) {
      if (windowed() ||
          (blocks != nullptr && blocks->layout->exact(state.tokens / blocks->layout->block(),
                                                      j / blocks->layout->block()))) {
        slots.push_back(j % room());
      }
    }
    return slots;
  }

  void Answer(const double* q, double* o) const {
    std::vector<double> exponents = Exponents(q);
    const double scale = *std::max_element(exponents.begin(), exponents.end());
    const std::vector<double> phi = Stored(exponents, scale);
    const std::vector<int64_t> slots = ExactSlots();
    double shift = scale + largest();
    for (const int64_t slot : slots) {
      shift = std::max(shift, p.scale * Dot(q, Row(state.keys, slot), p.key_dim));
    }
    const int64_t width = p.value_dim + 1;
    std::vector<double> total(width);
    for (int64_t l = 0; l < p.features; ++l) {
      const double weight = phi[l] * std::exp(scale + largest() - shift);
      for (int64_t e = 0; e < width; ++e) total[e] += weight * sums()[l * width + e];
    }
    double exact = 0.0;
    for (const int64_t slot : slots) {
      const double weight = std::exp(p.scale * Dot(q, Row(state.keys, slot), p.key_dim) - shift);
      const double low_rank = windowed() ? 0.0
                                         : Dot(phi.data(), Row(state.features, slot), p.features) *
                                               std::exp(scale + Scale(slot) - shift);
      exact += weight;
      total[p.value_dim] -= low_rank;
      for (int64_t e = 0; e < p.value_dim; ++e) {
        total[e] += (weight - low_rank) * Row(state.values, slot)[e];
      }
    }
    const double normaliser = exact + std::max(0.0, total[p.value_dim]);
    for (int64_t e = 0; e < p.value_dim; ++e) o[e] = total[e] / normaliser;
  }
};

}  // namespace

absl::Status ScatterbrainDecodeReference(Stream& /*stream*/, const ScatterbrainProblem& p,
                                         const Tensor& q, const Tensor& k, const Tensor& v,
                                         const Tensor& w, ScatterbrainState& state, Tensor& o) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const DecodingHead head{p, w, state, b, h};
      head.TakeIn(head.Row(k, 0), head.Row(v, 0));
      head.Answer(head.Row(q, 0), head.Row(o, 0));
    }
  }
  ++state.tokens;
  return absl::OkStatus();
}

}  // namespace weft::kernels

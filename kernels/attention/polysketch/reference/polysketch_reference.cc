// Polynomial attention pair by pair, fp64, one thread: every weight from its definition, those of
// tokens before the call from the state.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention/polysketch/polysketch_kernels.h"

namespace weft::kernels {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// to += factor * from
void AddScaled(const double* from, double factor, int64_t n, double* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// The row of token t in a [B, T, H, width] tensor.
double* RowOf(const Tensor& tensor, int64_t batch, int64_t t, int64_t head) {
  return tensor.data<double>() +
         ((batch * tensor.dim(1) + t) * tensor.dim(2) + head) * tensor.dim(3);
}

// The matrix of a head in a [B, H, rows, columns] tensor, or what stands for it when it is absent.
double* MatrixOf(const Tensor& tensor, int64_t batch, int64_t head, std::vector<double>& absent) {
  if (!tensor.present()) return absent.data();
  return tensor.data<double>() + (batch * tensor.dim(1) + head) * tensor.dim(2) * tensor.dim(3);
}

std::vector<double> Features(const double* phi, int64_t r) {
  std::vector<double> f(SelfProducts(r));
  for (int64_t a = 0; a < r; ++a) {
    for (int64_t b = a; b < r; ++b) {
      f[SelfProductIndex(r, a, b)] = (a == b ? 1.0 : std::sqrt(2.0)) * phi[a] * phi[b];
    }
  }
  return f;
}

void AddFeatureGradient(const double* phi, const std::vector<double>& d_f, int64_t r,
                        double* d_phi) {
  for (int64_t a = 0; a < r; ++a) {
    for (int64_t b = a; b < r; ++b) {
      const double slope = (a == b ? 1.0 : std::sqrt(2.0)) * d_f[SelfProductIndex(r, a, b)];
      d_phi[a] += slope * phi[b];
      d_phi[b] += slope * phi[a];
    }
  }
}

// One head of the problem, and the states of its past.
struct Head {
  const PolysketchProblem& p;
  const PolysketchInputs& in;
  int64_t batch;
  int64_t head;
  double unit = std::pow(p.kappa, static_cast<double>(-p.degree));  // of all weights

  [[nodiscard]] bool Seen(int64_t j) const {
    return !in.valid.present() || in.valid.data<int32_t>()[batch * p.keys + j] != 0;
  }
  // Keys of query i: those before `near` are read from sketches of whole blocks, those from `near`
  // to `end` pair by pair.
  [[nodiscard]] int64_t End(int64_t i) const {
    return p.causal ? p.keys - p.queries + i + 1 : p.keys;
  }
  [[nodiscard]] int64_t Near(int64_t i) const {
    if (p.weights == PolysketchWeights::kExact) return 0;
    return p.causal ? (End(i) - 1) / p.block * p.block : p.keys;
  }
  // Keys that the final state holds.
  [[nodiscard]] int64_t Folded() const {
    return p.weights == PolysketchWeights::kMixed ? p.keys / p.block * p.block : p.keys;
  }
};

// A kind of weight: (scale * x_i . y_j)^power.
struct Kernel {
  const Tensor& x;
  const Tensor& y;
  int64_t power;
  double unit;

  [[nodiscard]] double Product(const Head& at, int64_t i, int64_t j) const {
    return Dot(RowOf(x, at.batch, i, at.head), RowOf(y, at.batch, j, at.head), x.dim(3));
  }
  [[nodiscard]] double Weight(double product) const {
    return unit * std::pow(product, static_cast<double>(power));
  }
  [[nodiscard]] double Slope(double product) const {
    return unit * static_cast<double>(power) * std::pow(product, static_cast<double>(power - 1));
  }
};

Kernel SketchKernel(const Head& at) { return {at.in.phi_q, at.in.phi_k, 2, at.unit}; }

// The kernel of pairs in one block.
Kernel NearKernel(const Head& at) {
  if (at.p.weights == PolysketchWeights::kSketched) return SketchKernel(at);
  return {at.in.q, at.in.k, at.p.degree, at.unit};
}

// Adds the weighted values of keys [begin, end) to num; returns the sum of their weights.
double AddWeighted(const Head& at, const Kernel& kernel, int64_t i, int64_t begin, int64_t end,
                   double* num) {
  double sum = 0.0;
  for (int64_t j = begin; j < end; ++j) {
    if (!at.Seen(j)) continue;
    const double w = kernel.Weight(kernel.Product(at, i, j));
    sum += w;
    AddScaled(RowOf(at.in.v, at.batch, j, at.head), w, at.p.head_dim, num);
  }
  return sum;
}

struct PastMatrices {
  double* values;  // [m, D]
  double* mass;    // [r, r]
};

void ForwardRow(const Head& at, const PastMatrices& past, int64_t i, Tensor& o,
                PolysketchSaved& saved) {
  const PolysketchProblem& p = at.p;
  std::vector<double> num(p.head_dim, 0.0);
  double far = 0.0;
  if (p.weights != PolysketchWeights::kExact) {
    const double* phi = RowOf(at.in.phi_q, at.batch, i, at.head);
    const std::vector<double> f = Features(phi, p.sketch_dim);
    for (size_t a = 0; a < f.size(); ++a) {
      AddScaled(past.values + static_cast<int64_t>(a) * p.head_dim, at.unit * f[a], p.head_dim,
                num.data());
    }
    for (int64_t a = 0; a < p.sketch_dim; ++a) {
      far += at.unit * phi[a] * Dot(past.mass + a * p.sketch_dim, phi, p.sketch_dim);
    }
    far += AddWeighted(at, SketchKernel(at), i, 0, at.Near(i), num.data());
    far = std::max(far, 0.0);
  }
  const double near = AddWeighted(at, NearKernel(at), i, at.Near(i), at.End(i), num.data());
  const double total = at.unit * p.c0 + far + near;
  double* const o_i = RowOf(o, at.batch, i, at.head);
  for (int64_t d = 0; d < p.head_dim; ++d) o_i[d] = total > 0 ? num[d] / total : 0.0;
  if (!saved.total.present()) return;
  const int64_t row = (at.batch * p.heads + at.head) * p.queries + i;
  saved.total.data<double>()[row] = total;
  saved.far.data<double>()[row] = far;
}

// Adds the keys `times` times: -1 takes them out.
void FoldKeys(const Head& at, double times, const PastMatrices& past) {
  const PolysketchProblem& p = at.p;
  for (int64_t j = 0; j < at.Folded(); ++j) {
    if (!at.Seen(j)) continue;
    const double* phi = RowOf(at.in.phi_k, at.batch, j, at.head);
    const std::vector<double> f = Features(phi, p.sketch_dim);
    for (size_t a = 0; a < f.size(); ++a) {
      AddScaled(RowOf(at.in.v, at.batch, j, at.head), times * f[a], p.head_dim,
                past.values + static_cast<int64_t>(a) * p.head_dim);
    }
    for (int64_t a = 0; a < p.sketch_dim; ++a) {
      AddScaled(phi, times * phi[a], p.sketch_dim, past.mass + a * p.sketch_dim);
    }
  }
}

// ---- Backward

// What a query passes on: dL/dw_ij = slope . v_j + shift (far: + far_shift).
struct QuerySlopes {
  std::vector<double> slope;
  double shift;
  double far_shift;
};

QuerySlopes SlopesOf(const Head& at, int64_t i, const Tensor& o, const PolysketchSaved& saved,
                     const Tensor& d_o) {
  const int64_t dim = at.p.head_dim;
  const int64_t row = (at.batch * at.p.heads + at.head) * at.p.queries + i;
  const double total = saved.total.data<double>()[row];
  const double inverse = total > 0 ? 1.0 / total : 0.0;
  const double* d_o_i = RowOf(d_o, at.batch, i, at.head);
  QuerySlopes slopes{std::vector<double>(dim, 0.0), 0.0, 0.0};
  AddScaled(d_o_i, inverse, dim, slopes.slope.data());
  slopes.shift = -inverse * Dot(d_o_i, RowOf(o, at.batch, i, at.head), dim);
  slopes.far_shift = saved.far.data<double>()[row] > 0 ? slopes.shift : 0.0;
  return slopes;
}

// The pairs of query i with keys [begin, end): gradients of both sides of the kernel and of v.
void PairsBackward(const Head& at, const Kernel& kernel, int64_t i, int64_t begin, int64_t end,
                   const double* slope, double shift, Tensor& d_x, Tensor& d_y, Tensor& d_v) {
  const int64_t width = kernel.x.dim(3);
  for (int64_t j = begin; j < end; ++j) {
    if (!at.Seen(j)) continue;
    const double product = kernel.Product(at, i, j);
    const double d_w = Dot(slope, RowOf(at.in.v, at.batch, j, at.head), at.p.head_dim) + shift;
    const double d_product = kernel.Slope(product) * d_w;
    AddScaled(RowOf(kernel.y, at.batch, j, at.head), d_product, width,
              RowOf(d_x, at.batch, i, at.head));
    AddScaled(RowOf(kernel.x, at.batch, i, at.head), d_product, width,
              RowOf(d_y, at.batch, j, at.head));
    AddScaled(slope, kernel.Weight(product), at.p.head_dim, RowOf(d_v, at.batch, j, at.head));
  }
}

// What query i read from the initial state.
void PastBackward(const Head& at, const PastMatrices& past, int64_t i, const QuerySlopes& slopes,
                  const PastMatrices& d_past, double* d_phi) {
  const int64_t r = at.p.sketch_dim;
  const int64_t dim = at.p.head_dim;
  const double* phi = RowOf(at.in.phi_q, at.batch, i, at.head);
  const std::vector<double> f = Features(phi, r);
  std::vector<double> d_f(f.size());
  for (size_t a = 0; a < f.size(); ++a) {
    const int64_t row = static_cast<int64_t>(a) * dim;
    d_f[a] = at.unit * Dot(past.values + row, slopes.slope.data(), dim);
    AddScaled(slopes.slope.data(), at.unit * f[a], dim, d_past.values + row);
  }
  AddFeatureGradient(phi, d_f, r, d_phi);
  const double weight = at.unit * slopes.far_shift;
  for (int64_t a = 0; a < r; ++a) {
    d_phi[a] += 2 * weight * Dot(past.mass + a * r, phi, r);  // E is symmetric
    AddScaled(phi, weight * phi[a], r, d_past.mass + a * r);
  }
}

// What the folded keys added to the final state, whose gradient is d_past.
void FoldBackward(const Head& at, const PastMatrices& d_past, PolysketchGradients& gradients) {
  const int64_t r = at.p.sketch_dim;
  const int64_t dim = at.p.head_dim;
  for (int64_t j = 0; j < at.Folded(); ++j) {
    if (!at.Seen(j)) continue;
    const double* phi = RowOf(at.in.phi_k, at.batch, j, at.head);
    double* d_phi = RowOf(gradients.phi_k, at.batch, j, at.head);
    const std::vector<double> f = Features(phi, r);
    std::vector<double> d_f(f.size());
    for (size_t a = 0; a < f.size(); ++a) {
      const double* row = d_past.values + static_cast<int64_t>(a) * dim;
      d_f[a] = Dot(row, RowOf(at.in.v, at.batch, j, at.head), dim);
      AddScaled(row, f[a], dim, RowOf(gradients.v, at.batch, j, at.head));
    }
    AddFeatureGradient(phi, d_f, r, d_phi);
    for (int64_t a = 0; a < r; ++a) {
      for (int64_t b = 0; b < r; ++b) {
        d_phi[a] += (d_past.mass[a * r + b] + d_past.mass[b * r + a]) * phi[b];
      }
    }
  }
}

// A copy of a head's state, zeros for an absent one, to compute with.
struct WorkingState {
  WorkingState(const Head& at, const PolysketchState& state)
      : values(SelfProducts(at.p.sketch_dim) * at.p.head_dim, 0.0),
        mass(at.p.sketch_dim * at.p.sketch_dim, 0.0) {
    if (!state.values.present()) return;
    std::copy_n(MatrixOf(state.values, at.batch, at.head, values), values.size(), values.begin());
    std::copy_n(MatrixOf(state.mass, at.batch, at.head, mass), mass.size(), mass.begin());
  }
  void Store(const Head& at, PolysketchState& to) {
    std::copy(values.begin(), values.end(), MatrixOf(to.values, at.batch, at.head, values));
    std::copy(mass.begin(), mass.end(), MatrixOf(to.mass, at.batch, at.head, mass));
  }
  [[nodiscard]] PastMatrices matrices() { return {values.data(), mass.data()}; }

  std::vector<double> values;
  std::vector<double> mass;
};

void Clear(Tensor& tensor) {
  if (tensor.present()) std::fill_n(tensor.data<double>(), tensor.count(), 0.0);
}

void BackwardHead(const Head& at, const PolysketchState& initial, const Tensor& o,
                  const PolysketchSaved& saved, const Tensor& d_o, const PolysketchState& d_final,
                  PolysketchGradients& gradients, PolysketchState& d_initial) {
  const PolysketchProblem& p = at.p;
  const bool sketched = p.weights == PolysketchWeights::kSketched;
  WorkingState past(at, initial);
  WorkingState d_past(at, d_final);
  if (p.weights != PolysketchWeights::kExact) FoldBackward(at, d_past.matrices(), gradients);
  for (int64_t i = 0; i < p.queries; ++i) {
    const QuerySlopes slopes = SlopesOf(at, i, o, saved, d_o);
    if (p.weights != PolysketchWeights::kExact) {
      PastBackward(at, past.matrices(), i, slopes, d_past.matrices(),
                   RowOf(gradients.phi_q, at.batch, i, at.head));
      PairsBackward(at, SketchKernel(at), i, 0, at.Near(i), slopes.slope.data(), slopes.far_shift,
                    gradients.phi_q, gradients.phi_k, gradients.v);
    }
    PairsBackward(at, NearKernel(at), i, at.Near(i), at.End(i), slopes.slope.data(), slopes.shift,
                  sketched ? gradients.phi_q : gradients.q,
                  sketched ? gradients.phi_k : gradients.k, gradients.v);
  }
  d_past.Store(at, d_initial);
}

}  // namespace

absl::Status PolysketchForwardReference(Stream& /*stream*/, const PolysketchProblem& p,
                                        const PolysketchInputs& inputs,
                                        const PolysketchState& initial, Tensor& o,
                                        PolysketchState& final, PolysketchSaved& saved) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head at{p, inputs, b, h};
      WorkingState past(at, initial);
      for (int64_t i = 0; i < p.queries; ++i) ForwardRow(at, past.matrices(), i, o, saved);
      if (!final.values.present()) continue;
      FoldKeys(at, 1.0, past.matrices());
      past.Store(at, final);
    }
  }
  return absl::OkStatus();
}

absl::Status PolysketchBackwardReference(Stream& /*stream*/, const PolysketchProblem& p,
                                         const PolysketchInputs& inputs,
                                         const PolysketchState& initial, const Tensor& o,
                                         const PolysketchSaved& saved, const Tensor& d_o,
                                         const PolysketchState& d_final,
                                         PolysketchGradients& gradients,
                                         PolysketchState& d_initial) {
  for (Tensor* gradient :
       {&gradients.q, &gradients.k, &gradients.phi_q, &gradients.phi_k, &gradients.v}) {
    Clear(*gradient);
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      BackwardHead({p, inputs, b, h}, initial, o, saved, d_o, d_final, gradients, d_initial);
    }
  }
  return absl::OkStatus();
}

absl::Status PolysketchUndoReference(Stream& /*stream*/, const PolysketchProblem& p,
                                     const PolysketchInputs& inputs, PolysketchState& state) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head at{p, inputs, b, h};
      WorkingState past(at, state);
      FoldKeys(at, -1.0, past.matrices());
      past.Store(at, state);
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

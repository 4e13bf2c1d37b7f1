// Random and learned sketches row by row, fp64, one thread, from their definitions.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

using Row = std::vector<double>;

// m [rows, x.size()] x
Row Times(const double* m, int64_t rows, const Row& x) {
  Row y(rows, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < x.size(); ++j) y[i] += m[i * static_cast<int64_t>(x.size()) + j] * x[j];
  }
  return y;
}

// m^T y
Row TransposedTimes(const double* m, const Row& y, int64_t columns) {
  Row x(columns, 0.0);
  for (size_t i = 0; i < y.size(); ++i) {
    for (int64_t j = 0; j < columns; ++j) x[j] += m[static_cast<int64_t>(i) * columns + j] * y[i];
  }
  return x;
}

Row Load(const Tensor& tensor, int64_t row, int64_t width) {
  const double* first = tensor.data<double>() + row * width;
  return {first, first + width};
}

void StoreOrAdd(const Row& from, Accumulate accumulate, double* to) {
  for (size_t i = 0; i < from.size(); ++i) {
    to[i] = accumulate == Accumulate::kYes ? to[i] + from[i] : from[i];
  }
}

// ---- Random

// The tree over one row. sketches[k] are those of level k: the copies of x, then their products.
class SketchTree {
 public:
  SketchTree(const RandomSketchProblem& p, const Tensor& leaves, const Tensor& inner, const Row& x)
      : p_(p), leaves_(leaves), inner_(inner), sketches_({std::vector<Row>(p.leaves(), x)}) {
    while (sketches_.back().size() > 1) {
      const std::vector<Row> below = sketches_.back();
      std::vector<Row> above;
      for (size_t i = 0; i < below.size(); i += 2) {
        Row product = Projected(i);
        const Row right = Projected(i + 1);
        for (int64_t c = 0; c < p_.sketch_dim; ++c) product[c] *= SketchFactor(p_) * right[c];
        above.push_back(product);
      }
      sketches_.push_back(above);
    }
  }

  [[nodiscard]] const Row& phi() const { return sketches_.back().front(); }

  // The gradient of x.
  Row Backward(const Row& d_phi) {
    std::vector<Row> d_above = {d_phi};
    while (sketches_.size() > 1) {
      sketches_.pop_back();
      std::vector<Row> d_below;
      for (size_t i = 0; i < sketches_.back().size(); i += 2) {
        Row d_left = Projected(i + 1);
        Row d_right = Projected(i);
        for (int64_t c = 0; c < p_.sketch_dim; ++c) {
          d_left[c] *= SketchFactor(p_) * d_above[i / 2][c];
          d_right[c] *= SketchFactor(p_) * d_above[i / 2][c];
        }
        d_below.push_back(TransposedTimes(Matrix(i), d_left, Inputs()));
        d_below.push_back(TransposedTimes(Matrix(i + 1), d_right, Inputs()));
      }
      d_above = d_below;
    }
    Row d_x(p_.input_dim, 0.0);
    for (const Row& copy : d_above) {
      for (int64_t c = 0; c < p_.input_dim; ++c) d_x[c] += copy[c];
    }
    return d_x;
  }

 private:
  // Of the topmost level that is there.
  [[nodiscard]] int64_t Inputs() const {
    return sketches_.size() == 1 ? p_.input_dim : p_.sketch_dim;
  }
  [[nodiscard]] const double* Matrix(size_t i) const {
    if (sketches_.size() == 1) {
      return leaves_.data<double>() + static_cast<int64_t>(i) * p_.sketch_dim * p_.input_dim;
    }
    // Levels above the leaves have p/4, p/8, ... matrices each.
    int64_t first = 0;
    for (size_t level = 1; level + 1 < sketches_.size(); ++level) first += p_.leaves() >> level;
    return inner_.data<double>() +
           (first + static_cast<int64_t>(i)) * p_.sketch_dim * p_.sketch_dim;
  }
  [[nodiscard]] Row Projected(size_t i) const {
    return Times(Matrix(i), p_.sketch_dim, sketches_.back()[i]);
  }

  const RandomSketchProblem& p_;
  const Tensor& leaves_;
  const Tensor& inner_;
  std::vector<std::vector<Row>> sketches_;
};

// ---- Learned

double Gelu(double a) {
  return 0.5 * a * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (a + 0.044715 * a * a * a)));
}

double GeluSlope(double a) {
  const double kappa = std::sqrt(2 / std::numbers::pi);
  const double t = std::tanh(kappa * (a + 0.044715 * a * a * a));
  return 0.5 * (1 + t) + 0.5 * a * (1 - t * t) * kappa * (1 + 3 * 0.044715 * a * a);
}

// One stage of one tower on one row.
struct StageRow {
  StageRow(const LearnedSketchProblem& p, const SketchStage& stage, int64_t which, const Row& x)
      : inputs(static_cast<int64_t>(x.size())),
        tower(which),
        expand(stage.expand.data<double>() + tower * p.hidden_dim * inputs),
        contract(stage.contract.data<double>() + tower * p.sketch_dim * p.hidden_dim) {
    double mean = 0.0;
    double variance = 0.0;
    for (const double value : x) mean += value / static_cast<double>(inputs);
    for (const double value : x) {
      variance += (value - mean) * (value - mean) / static_cast<double>(inputs);
    }
    rstd = 1.0 / std::sqrt(variance + p.epsilon);
    for (int64_t c = 0; c < inputs; ++c) {
      normal.push_back((x[c] - mean) * rstd);
      n.push_back(stage.norm_weight.data<double>()[tower * inputs + c] * normal[c] +
                  stage.norm_bias.data<double>()[tower * inputs + c]);
    }
    a = Times(expand, p.hidden_dim, n);
    for (const double value : a) z.push_back(Gelu(value));
    y = Times(contract, p.sketch_dim, z);
  }

  // The gradient of x; those of the parameters are added to.
  [[nodiscard]] Row Backward(const SketchStage& stage, const Row& d_y,
                             SketchStage& gradients) const {
    const auto hidden = static_cast<int64_t>(a.size());
    const auto outputs = static_cast<int64_t>(y.size());
    Row d_a = TransposedTimes(contract, d_y, hidden);
    for (int64_t j = 0; j < hidden; ++j) {
      d_a[j] *= GeluSlope(a[j]);
      for (int64_t i = 0; i < outputs; ++i) {
        gradients.contract.data<double>()[(tower * outputs + i) * hidden + j] += d_y[i] * z[j];
      }
      for (int64_t c = 0; c < inputs; ++c) {
        gradients.expand.data<double>()[(tower * hidden + j) * inputs + c] += d_a[j] * n[c];
      }
    }
    const Row d_n = TransposedTimes(expand, d_a, inputs);
    double mean_g = 0.0;
    double mean_gn = 0.0;
    Row g(inputs);
    for (int64_t c = 0; c < inputs; ++c) {
      g[c] = stage.norm_weight.data<double>()[tower * inputs + c] * d_n[c];
      mean_g += g[c] / static_cast<double>(inputs);
      mean_gn += g[c] * normal[c] / static_cast<double>(inputs);
      gradients.norm_weight.data<double>()[tower * inputs + c] += d_n[c] * normal[c];
      gradients.norm_bias.data<double>()[tower * inputs + c] += d_n[c];
    }
    Row d_x(inputs);
    for (int64_t c = 0; c < inputs; ++c) d_x[c] = rstd * (g[c] - mean_g - normal[c] * mean_gn);
    return d_x;
  }

  int64_t inputs;
  int64_t tower;
  const double* expand;
  const double* contract;
  double rstd = 0.0;
  Row normal, n, a, z, y;
};

struct TowerRow {
  TowerRow(const LearnedSketchProblem& p, const LearnedSketchWeights& weights, int64_t tower,
           const Row& x)
      : first(p, weights[0], tower, x), second(p, weights[1], tower, first.y) {}

  StageRow first;
  StageRow second;
};

}  // namespace

absl::Status RandomSketchForwardReference(Stream& /*stream*/, const RandomSketchProblem& p,
                                          const Tensor& x, const Tensor& leaves,
                                          const Tensor& inner, Tensor& phi) {
  for (int64_t row = 0; row < RowsOf(x); ++row) {
    const SketchTree tree(p, leaves, inner, Load(x, row, p.input_dim));
    StoreOrAdd(tree.phi(), Accumulate::kNo, phi.data<double>() + row * p.sketch_dim);
  }
  return absl::OkStatus();
}

absl::Status RandomSketchBackwardReference(Stream& /*stream*/, const RandomSketchProblem& p,
                                           const Tensor& x, const Tensor& leaves,
                                           const Tensor& inner, const Tensor& d_phi, Tensor& d_x,
                                           Accumulate accumulate) {
  for (int64_t row = 0; row < RowsOf(x); ++row) {
    SketchTree tree(p, leaves, inner, Load(x, row, p.input_dim));
    StoreOrAdd(tree.Backward(Load(d_phi, row, p.sketch_dim)), accumulate,
               d_x.data<double>() + row * p.input_dim);
  }
  return absl::OkStatus();
}

absl::Status LearnedSketchForwardReference(Stream& /*stream*/, const LearnedSketchProblem& p,
                                           const Tensor& x, const LearnedSketchWeights& weights,
                                           Tensor& phi, LearnedSketchSaved& /*saved*/) {
  const double bound = std::sqrt(static_cast<double>(p.sketch_dim));
  for (int64_t row = 0; row < RowsOf(x); ++row) {
    const Row x_row = Load(x, row, p.input_dim);
    const Row a = TowerRow(p, weights, 0, x_row).second.y;
    const Row b = TowerRow(p, weights, 1, x_row).second.y;
    for (int64_t c = 0; c < p.sketch_dim; ++c) {
      phi.data<double>()[row * p.sketch_dim + c] = bound * std::tanh(a[c] * b[c] / bound);
    }
  }
  return absl::OkStatus();
}

absl::Status LearnedSketchBackwardReference(Stream& /*stream*/, const LearnedSketchProblem& p,
                                            const Tensor& x, const LearnedSketchWeights& weights,
                                            const Tensor& phi, const LearnedSketchSaved& /*saved*/,
                                            const Tensor& d_phi, Tensor& d_x, Accumulate accumulate,
                                            LearnedSketchWeights& gradients) {
  const auto r = static_cast<double>(p.sketch_dim);
  for (int64_t row = 0; row < RowsOf(x); ++row) {
    const Row x_row = Load(x, row, p.input_dim);
    const TowerRow a(p, weights, 0, x_row);
    const TowerRow b(p, weights, 1, x_row);
    Row d_a(p.sketch_dim);
    Row d_b(p.sketch_dim);
    for (int64_t c = 0; c < p.sketch_dim; ++c) {
      const double value = phi.data<double>()[row * p.sketch_dim + c];
      const double d_u = d_phi.data<double>()[row * p.sketch_dim + c] * (1 - value * value / r);
      d_a[c] = d_u * b.second.y[c];
      d_b[c] = d_u * a.second.y[c];
    }
    Row d_x_row(p.input_dim, 0.0);
    for (const auto& [tower, d_y] : {std::pair(&a, &d_a), std::pair(&b, &d_b)}) {
      const Row d_between = tower->second.Backward(weights[1], *d_y, gradients[1]);
      const Row d_tower = tower->first.Backward(weights[0], d_between, gradients[0]);
      for (int64_t c = 0; c < p.input_dim; ++c) d_x_row[c] += d_tower[c];
    }
    StoreOrAdd(d_x_row, accumulate, d_x.data<double>() + row * p.input_dim);
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

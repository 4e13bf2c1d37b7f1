// The delta rule as written down in delta.h: token by token, fp64, one thread. The backward pass is
// the reverse recurrence of the same lines; it undoes the updates of S instead of keeping the
// states.
#include <algorithm>
#include <vector>

#include "kernels/attention/delta/delta_kernels.h"

namespace weft::kernels {
namespace {

// Where the rows of one token and head, and the state of one head, begin.
struct Layout {
  const DeltaProblem& p;
  int64_t batch;
  int64_t head;

  [[nodiscard]] int64_t Token(int64_t t) const { return (batch * p.tokens + t) * p.heads + head; }
  [[nodiscard]] int64_t Key(int64_t t) const { return Token(t) * p.key_dim; }
  [[nodiscard]] int64_t Value(int64_t t) const { return Token(t) * p.value_dim; }
  [[nodiscard]] int64_t State() const { return (batch * p.heads + head) * p.key_dim * p.value_dim; }
};

// out[j] = sum_i m[i][j] x[i] : m^T x.
void TransposedTimes(const std::vector<double>& m, const double* x, int64_t rows, int64_t columns,
                     double* out) {
  std::fill_n(out, columns, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) out[j] += m[i * columns + j] * x[i];
  }
}

// out[i] += factor * sum_j m[i][j] x[j] : m x.
void AddTimes(const std::vector<double>& m, const double* x, double factor, int64_t rows,
              int64_t columns, double* out) {
  for (int64_t i = 0; i < rows; ++i) {
    double sum = 0.0;
    for (int64_t j = 0; j < columns; ++j) sum += m[i * columns + j] * x[j];
    out[i] += factor * sum;
  }
}

// m += factor * x y^T.
void AddOuter(std::vector<double>& m, const double* x, const double* y, double factor, int64_t rows,
              int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) m[i * columns + j] += factor * x[i] * y[j];
  }
}

std::vector<double> LoadState(const Tensor& tensor, const Layout& at, int64_t size) {
  if (!tensor.present()) return std::vector<double>(size, 0.0);
  const double* from = tensor.data<double>() + at.State();
  return {from, from + size};
}

void StoreState(const std::vector<double>& state, const Layout& at, Tensor& tensor) {
  if (tensor.present()) std::copy(state.begin(), state.end(), tensor.data<double>() + at.State());
}

}  // namespace

absl::Status DeltaForwardReference(Stream& /*stream*/, const DeltaProblem& p, const Tensor& q,
                                   const Tensor& k, const Tensor& v, const Tensor& beta,
                                   const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                   DeltaSaved& saved) {
  std::vector<double> error(p.value_dim);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Layout at{p, b, h};
      std::vector<double> s = LoadState(initial_state, at, p.key_dim * p.value_dim);
      for (int64_t t = 0; t < p.tokens; ++t) {
        const double* k_t = k.data<double>() + at.Key(t);
        const double* v_t = v.data<double>() + at.Value(t);
        const double beta_t = beta.data<double>()[at.Token(t)];
        TransposedTimes(s, k_t, p.key_dim, p.value_dim, error.data());
        for (int64_t j = 0; j < p.value_dim; ++j) error[j] = v_t[j] - error[j];
        AddOuter(s, k_t, error.data(), beta_t, p.key_dim, p.value_dim);
        TransposedTimes(s, q.data<double>() + at.Key(t), p.key_dim, p.value_dim,
                        o.data<double>() + at.Value(t));
        if (saved.errors.present()) {
          std::copy(error.begin(), error.end(), saved.errors.data<double>() + at.Value(t));
        }
      }
      StoreState(s, at, final_state);
      StoreState(s, at, saved.state);
    }
  }
  return absl::OkStatus();
}

absl::Status DeltaBackwardReference(Stream& /*stream*/, const DeltaProblem& p, const Tensor& q,
                                    const Tensor& k, const Tensor& beta, const DeltaSaved& saved,
                                    const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q,
                                    Tensor& d_k, Tensor& d_v, Tensor& d_beta,
                                    Tensor& d_initial_state) {
  const int64_t rows = p.key_dim;
  const int64_t columns = p.value_dim;
  std::vector<double> y(columns);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Layout at{p, b, h};
      std::vector<double> s = LoadState(saved.state, at, rows * columns);      // S_t
      std::vector<double> d_s = LoadState(d_final_state, at, rows * columns);  // dL/dS_t
      for (int64_t t = p.tokens - 1; t >= 0; --t) {
        const double* q_t = q.data<double>() + at.Key(t);
        const double* k_t = k.data<double>() + at.Key(t);
        const double* e_t = saved.errors.data<double>() + at.Value(t);
        const double* d_o_t = d_o.data<double>() + at.Value(t);
        const double beta_t = beta.data<double>()[at.Token(t)];
        double* d_q_t = d_q.data<double>() + at.Key(t);
        double* d_k_t = d_k.data<double>() + at.Key(t);
        double* d_v_t = d_v.data<double>() + at.Value(t);
        double* d_beta_t = d_beta.data<double>() + at.Token(t);

        std::fill_n(d_q_t, rows, 0.0);
        AddTimes(s, d_o_t, 1.0, rows, columns, d_q_t);  // o_t = S_t^T q_t
        AddOuter(d_s, q_t, d_o_t, 1.0, rows, columns);

        TransposedTimes(d_s, k_t, rows, columns, y.data());  // gradient of beta_t e_t
        *d_beta_t = 0.0;
        for (int64_t j = 0; j < columns; ++j) {
          *d_beta_t += y[j] * e_t[j];
          d_v_t[j] = beta_t * y[j];
        }
        std::fill_n(d_k_t, rows, 0.0);
        AddTimes(d_s, e_t, beta_t, rows, columns, d_k_t);  // k_t in the update of S
        AddOuter(s, k_t, e_t, -beta_t, rows, columns);     // S_t -> S_{t-1}
        AddTimes(s, d_v_t, -1.0, rows, columns, d_k_t);    // k_t in the error
        AddOuter(d_s, k_t, d_v_t, -1.0, rows, columns);
      }
      StoreState(d_s, at, d_initial_state);
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

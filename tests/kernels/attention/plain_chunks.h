// The chunk form of the delta rule in naive loops: the rival of the tolerance rule. It is less
// exact than the recurrence, by nature: it adds up what the recurrence lets fade.
#pragma once

#include <vector>

#include "tests/kernels/attention/delta_testing.h"

namespace weft::kernels::testing {

template <typename T>
class PlainMatrix {
 public:
  PlainMatrix(int64_t rows, int64_t columns)
      : rows_(rows), columns_(columns), x_(rows * columns, T{0}) {}
  T& operator()(int64_t i, int64_t j) { return x_[i * columns_ + j]; }
  T operator()(int64_t i, int64_t j) const { return x_[i * columns_ + j]; }
  [[nodiscard]] PlainMatrix Transposed() const {
    PlainMatrix result(columns_, rows_);
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = 0; j < columns_; ++j) result(j, i) = (*this)(i, j);
    }
    return result;
  }
  // Entries (i, j) with j <= i + diagonal; the others are cleared.
  [[nodiscard]] PlainMatrix Lower(int64_t diagonal) const {
    PlainMatrix result(rows_, columns_);
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = 0; j < columns_ && j <= i + diagonal; ++j) result(i, j) = (*this)(i, j);
    }
    return result;
  }
  friend PlainMatrix operator*(const PlainMatrix& a, const PlainMatrix& b) {
    PlainMatrix result(a.rows_, b.columns_);
    for (int64_t i = 0; i < a.rows_; ++i) {
      for (int64_t j = 0; j < b.columns_; ++j) {
        for (int64_t l = 0; l < a.columns_; ++l) result(i, j) += a(i, l) * b(l, j);
      }
    }
    return result;
  }
  friend PlainMatrix operator+(PlainMatrix a, const PlainMatrix& b) {
    for (size_t i = 0; i < a.x_.size(); ++i) a.x_[i] += b.x_[i];
    return a;
  }
  friend PlainMatrix operator-(PlainMatrix a, const PlainMatrix& b) {
    for (size_t i = 0; i < a.x_.size(); ++i) a.x_[i] -= b.x_[i];
    return a;
  }

 private:
  int64_t rows_;
  int64_t columns_;
  std::vector<T> x_;
};

template <typename T>
class PlainChunks {
 public:
  static DeltaResults Run(const DeltaInputs& in) {
    const int64_t states = in.StateShape().count();
    DeltaResults r{Values(in.v.size()), Values(states),      Values(in.q.size()),
                   Values(in.q.size()), Values(in.v.size()), Values(in.beta.size()),
                   Values(states)};
    for (int64_t head = 0; head < in.problem.batch * in.problem.heads; ++head) {
      PlainChunks(in, head).RunHead(r);
    }
    return r;
  }

 private:
  using Matrix = PlainMatrix<T>;

  struct Chunk {
    Matrix q, k, e, n, s, beta;
  };

  PlainChunks(const DeltaInputs& in, int64_t head) : in_(in), p_(in.problem), head_(head) {}

  [[nodiscard]] int64_t Row(int64_t t) const {
    return (head_ / p_.heads * p_.tokens + t) * p_.heads + head_ % p_.heads;
  }
  [[nodiscard]] Matrix Load(const Values& from, int64_t t, int64_t rows, int64_t width) const {
    Matrix m(rows, width);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < width; ++j) m(i, j) = static_cast<T>(from[Row(t + i) * width + j]);
    }
    return m;
  }
  void Store(const Matrix& m, int64_t t, int64_t rows, int64_t width, Values& to) const {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < width; ++j) to[Row(t + i) * width + j] = m(i, j);
    }
  }
  [[nodiscard]] Matrix LoadState(const Values& from) const {
    Matrix m(p_.key_dim, p_.value_dim);
    for (int64_t x = 0; !from.empty() && x < p_.key_dim * p_.value_dim; ++x) {
      m(x / p_.value_dim, x % p_.value_dim) =
          static_cast<T>(from[head_ * p_.key_dim * p_.value_dim + x]);
    }
    return m;
  }
  void StoreState(const Matrix& m, Values& to) const {
    for (int64_t x = 0; x < p_.key_dim * p_.value_dim; ++x) {
      to[head_ * p_.key_dim * p_.value_dim + x] = m(x / p_.value_dim, x % p_.value_dim);
    }
  }
  [[nodiscard]] Matrix ScaleRows(const Matrix& beta, Matrix m, int64_t rows) const {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < p_.value_dim; ++j) m(i, j) *= beta(i, 0);
    }
    return m;
  }

  void RunHead(DeltaResults& r) {
    std::vector<Chunk> chunks;
    Matrix s = LoadState(in_.s0);
    for (int64_t t = 0; t < p_.tokens; t += p_.chunk) {
      const int64_t rows = std::min(p_.chunk, p_.tokens - t);
      chunks.push_back(Forward(t, rows, s, r));
    }
    StoreState(s, r.s);
    Matrix d = LoadState(in_.d_s);
    for (int64_t c = static_cast<int64_t>(chunks.size()) - 1; c >= 0; --c) {
      Backward(c * p_.chunk, std::min(p_.chunk, p_.tokens - c * p_.chunk), chunks[c], d, r);
    }
    StoreState(d, r.d_s0);
  }

  Chunk Forward(int64_t t, int64_t rows, Matrix& s, DeltaResults& r) {
    Chunk c{Load(in_.q, t, rows, p_.key_dim),
            Load(in_.k, t, rows, p_.key_dim),
            Load(in_.v, t, rows, p_.value_dim),
            Matrix(rows, p_.value_dim),
            s,
            Load(in_.beta, t, rows, 1)};
    const Matrix g = (c.k * c.k.Transposed()).Lower(-1);
    c.e = c.e - c.k * s;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < p_.value_dim; ++j) {
        for (int64_t l = 0; l < i; ++l) c.e(i, j) -= g(i, l) * c.n(l, j);
        c.n(i, j) = c.beta(i, 0) * c.e(i, j);
      }
    }
    const Matrix p = (c.q * c.k.Transposed()).Lower(0);
    Store(c.q * s + p * c.n, t, rows, p_.value_dim, r.o);
    s = s + c.k.Transposed() * c.n;
    return c;
  }

  void Backward(int64_t t, int64_t rows, const Chunk& c, Matrix& d, DeltaResults& r) {
    const Matrix d_o = Load(in_.d_o, t, rows, p_.value_dim);
    const Matrix g = (c.k * c.k.Transposed()).Lower(-1);
    const Matrix p = (c.q * c.k.Transposed()).Lower(0);
    Matrix y = p.Transposed() * d_o + c.k * d;
    for (int64_t i = rows - 1; i >= 0; --i) {
      for (int64_t l = i + 1; l < rows; ++l) {
        for (int64_t j = 0; j < p_.value_dim; ++j) y(i, j) -= g(l, i) * c.beta(l, 0) * y(l, j);
      }
    }
    const Matrix d_x = ScaleRows(c.beta, y, rows);
    const Matrix z = (d_x * c.n.Transposed()).Lower(-1);
    const Matrix d_p = (d_o * c.n.Transposed()).Lower(0);
    for (int64_t i = 0; i < rows; ++i) {
      T d_beta = 0;
      for (int64_t j = 0; j < p_.value_dim; ++j) d_beta += y(i, j) * c.e(i, j);
      r.d_beta[Row(t + i)] = d_beta;
    }
    Store(d_x, t, rows, p_.value_dim, r.d_v);
    Store(d_o * c.s.Transposed() + d_p * c.k, t, rows, p_.key_dim, r.d_q);
    Store(c.n * d.Transposed() - d_x * c.s.Transposed() + d_p.Transposed() * c.q -
              (z + z.Transposed()) * c.k,
          t, rows, p_.key_dim, r.d_k);
    d = d + c.q.Transposed() * d_o - c.k.Transposed() * d_x;
  }

  const DeltaInputs& in_;
  const DeltaProblem& p_;
  const int64_t head_;
};

}  // namespace weft::kernels::testing

// One head of one sequence in fp64 with every pair of tokens written out: what the reference device
// computes with. Private to the reference of scatterbrain.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/scatterbrain/scatterbrain.h"

namespace weft::kernels {

// The features of all queries or all keys, as scatterbrain.h defines them.
struct DenseFeatures {
  // The place of a maximum: signed row l of W at token `row`; -1 when there is none yet.
  struct Top {
    int64_t row = -1;
    int64_t feature = -1;
  };
  std::vector<double> u;       // [n, D]: sqrt(scale) times the token's vector
  std::vector<double> stored;  // [n, r]: phi or psi; zeros for a key that is padding
  std::vector<double> scale;   // [n]: logarithm of what `stored` is to be multiplied by
  std::vector<Top> top;        // [n]: where the maximum behind the scale is attained
};

class DenseHead {
 public:
  DenseHead(const ScatterbrainProblem& problem, const ScatterbrainOperands& in, int64_t batch,
            int64_t head);

  // Whether query i sees key j; whether that pair is exact. From the words of the header.
  [[nodiscard]] bool Visible(int64_t i, int64_t j) const;
  [[nodiscard]] bool Exact(int64_t i, int64_t j) const;

  // ln A_ij of a visible pair.
  [[nodiscard]] double Logit(int64_t i, int64_t j) const;
  [[nodiscard]] double LowRankLogit(int64_t i, int64_t j) const;

  // What a visible pair's two weights are multiplied by in the sum of values.
  struct Kept {
    double exact;
    double low_rank;
  };
  [[nodiscard]] Kept Keep(int64_t i, int64_t j) const;

  // o_i [Dv], ln of the normaliser, share of the low-rank part.
  void Forward(int64_t i, double* o, double& log_normaliser, double& low_rank_share) const;
  // All gradients of the head: d_q [T, D], d_k [S, D], d_v [S, Dv], dense.
  struct Gradients {
    std::vector<double> q, k, v;
  };
  [[nodiscard]] Gradients Backward(const Tensor& o, const ScatterbrainSaved& saved,
                                   const Tensor& d_o) const;

  // Where the row of token t begins in a [B, n, H, width] tensor.
  [[nodiscard]] int64_t RowAt(const Tensor& tensor, int64_t t) const {
    return ((batch_ * tensor.dim(1) + t) * tensor.dim(2) + head_) * tensor.dim(3);
  }

 private:
  DenseFeatures NewFeatures(const Tensor& rows, bool of_keys) const;
  void QueryFeatures();
  void KeyFeatures();
  // w_l . u of the signed row l.
  [[nodiscard]] double Project(int64_t feature, const double* u) const;
  // to += factor * (w_l - u) and to += factor * w_l.
  void AddRow(int64_t feature, double factor, double* to) const;
  void QueryBackward(int64_t i, const double* d_stored, double* d_u) const;
  void KeyBackward(int64_t j, const double* d_stored, std::vector<double>& d_u) const;

  const ScatterbrainProblem& p_;
  const ScatterbrainOperands& in_;
  const int64_t batch_;
  const int64_t head_;
  const double offset_;  // eps / sqrt(r)
  DenseFeatures queries_;
  DenseFeatures keys_;
};

}  // namespace weft::kernels

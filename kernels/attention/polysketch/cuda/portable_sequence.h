// One sequence of a call on any GPU, all its heads at once: its rows as operands of batched matrix
// products, working space, and the steps that both passes are made of.
//
// Tokens go block by block as on the CPU (cpu/segments.h), a block's queries piece by piece, so
// that working space does not grow with the sequence. Products of pairs, F and the gradients of F
// exist for one piece at a time.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention/polysketch/cuda/portable_kernels.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"

namespace weft::kernels::portable {

struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  [[nodiscard]] int64_t count() const { return end - begin; }
};

// A matrix for each head, as an operand of a product.
struct HeadMatrices {
  void* at = nullptr;
  int64_t stride = 0;  // elements from row to row
  int64_t step = 0;    // elements from head to head
  bool transposed = false;

  [[nodiscard]] HeadMatrices Transposed() const { return {at, stride, step, !transposed}; }
};

// The state of one sequence in fp32, and as operands see it.
struct WorkingState {
  float* values = nullptr;  // [H, m, D]
  float* mass = nullptr;    // [H, r, r]
  void* rounded = nullptr;  // values in the compute type; `values` itself in fp32
  bool is_zero = true;
};

// Working space; sizes in elements, for all heads of a sequence. n rows of a piece, K keys.
struct Space {
  float* products;    // [H, n, K]
  float* d_weights;   // [H, n, K]; its memory is that of d_features
  float* d_features;  // [H, n, m]
  void* weights;      // [H, n, K]
  void* d_products;   // [H, n, K]
  void* features;     // [H, n, m]
  void* weighted;     // [H, n, r]
  void* d_num;        // [H, n, D]
  float* num;         // [H, n, D]
  float* near;        // [H, n]: also the slopes of near denominators
  float* far;         // [H, n]: also the slopes of far ones
  float* d_rows;      // [H, n, width]: gradients of queries
  float* d_keys;      // [H, K, width]
  float* d_values;    // [H, K, D]
};

class Sequence {
 public:
  Sequence(CudaStream& stream, const PolysketchProblem& problem, const PolysketchInputs& inputs);

  // Memory for the space and, when they are wanted, two states.
  absl::StatusOr<CudaScratch> Allocate(bool backward);
  void Choose(int64_t batch) { batch_ = batch; }

  // ---- How it is cut
  [[nodiscard]] bool exact() const { return problem.weights == PolysketchWeights::kExact; }
  [[nodiscard]] bool sketched() const { return problem.weights == PolysketchWeights::kSketched; }
  // Everything that a query reads is in one state.
  [[nodiscard]] bool whole() const { return sketched() && !problem.causal; }
  [[nodiscard]] int64_t blocks() const { return blocks_; }
  [[nodiscard]] TokenRange Keys(int64_t block) const;
  [[nodiscard]] TokenRange Queries(TokenRange keys) const;
  // Keys that queries [.., end) of a block's meet one by one.
  [[nodiscard]] TokenRange NearKeys(TokenRange keys, TokenRange queries) const;
  [[nodiscard]] bool Folds(TokenRange keys) const {
    return !exact() && (sketched() || keys.count() == problem.block);
  }
  // Calls step(piece) for pieces of a range; the first error ends it.
  template <typename Step>
  absl::Status ForPieces(TokenRange range, const Step& step) const {
    for (int64_t first = range.begin; first < range.end; first += piece_) {
      const absl::Status status = step(TokenRange{first, std::min(first + piece_, range.end)});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // ---- Operands
  [[nodiscard]] TokenRows Rows(const Tensor& tensor, TokenRange range) const;
  [[nodiscard]] HeadMatrices Operand(const Tensor& tensor, TokenRange range) const;
  [[nodiscard]] static HeadMatrices Dense(const void* at, int64_t rows, int64_t columns) {
    return {const_cast<void*>(at), columns, rows * columns, false};
  }
  // d[H, rows, columns] (+)= a b, in fp32.
  absl::Status Product(int64_t rows, int64_t columns, int64_t depth, const HeadMatrices& a,
                       const HeadMatrices& b, float* d, bool add) const;
  [[nodiscard]] const int32_t* Valid(TokenRange keys) const;
  [[nodiscard]] const Tensor& near_q() const { return sketched() ? inputs.phi_q : inputs.q; }
  [[nodiscard]] const Tensor& near_k() const { return sketched() ? inputs.phi_k : inputs.k; }
  [[nodiscard]] int64_t near_width() const {
    return sketched() ? problem.sketch_dim : problem.head_dim;
  }
  // Of the rows of this sequence in [B, H, T].
  [[nodiscard]] int64_t FirstRow(TokenRange queries) const {
    return batch_ * problem.heads * problem.queries + queries.begin;
  }

  // ---- Steps
  // Products of a piece of queries with keys, and what the kernels need to know of them.
  absl::Status PairProducts(TokenRange queries, TokenRange keys, PairsCall& pairs) const;
  absl::Status LoadState(const PolysketchState& from, WorkingState& state) const;
  absl::Status StoreState(const WorkingState& state, PolysketchState& to) const;
  // Adds keys to a state, or takes them out of it (sign -1).
  absl::Status FoldKeys(TokenRange keys, float sign, WorkingState& state) const;
  // Adds features [H, n, m], weighted features and values, all of one piece of `phi`, to a state.
  absl::Status AddToState(TokenRange piece, const Tensor& phi, const HeadMatrices& values,
                          WorkingState& state) const;
  // The values as operands see them.
  absl::Status RoundState(WorkingState& state) const;

  CudaStream& stream;
  const PolysketchProblem& problem;
  const PolysketchInputs& inputs;
  Space space = {};
  WorkingState past;    // before a block
  WorkingState d_past;  // the gradient of the state after a block
  float root;           // kappa^(-p/2)

 private:
  int64_t element_bytes_;
  int64_t block_keys_;
  int64_t blocks_;
  int64_t piece_;
  int64_t batch_ = 0;
};

}  // namespace weft::kernels::portable

// Random sketches on CUDA: some rows at a time, each level of the tree one matrix product for each
// of its matrices.
#include <algorithm>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/sketches_cuda.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 28;  // of working space

// The tree over `rows` rows, as in cpu/random_sketch_cpu.cc: `projected` holds the matrices
// [rows, r] of a level one after the other, `sketches` their products in pairs.
class Tree {
 public:
  Tree(CudaStream& stream, const RandomSketchProblem& p, const Tensor& leaves, const Tensor& inner)
      : stream_(stream),
        p_(p),
        bytes_(SizeOf(stream.device().compute_dtype())),
        leaves_(static_cast<const uint8_t*>(leaves.address())),
        inner_(inner.present() ? static_cast<const uint8_t*>(inner.address()) : nullptr) {}

  // Bytes of working space for a row, and where it lies.
  [[nodiscard]] int64_t RowBytes() const {
    int64_t matrices = 0;
    for (int64_t count = p_.leaves(); count > 1; count /= 2) matrices += 2 * count + count / 2;
    return matrices * p_.sketch_dim * bytes_;
  }
  void Carve(uint8_t* memory, int64_t rows) {
    rows_ = rows;
    const auto take = [&](int64_t count) {
      uint8_t* const part = memory;
      memory += count * rows * p_.sketch_dim * bytes_;
      return part;
    };
    projected_.clear();
    d_projected_.clear();
    sketches_.clear();
    for (int64_t count = p_.leaves(); count > 1; count /= 2) {
      projected_.push_back(take(count));
      d_projected_.push_back(take(count));
      sketches_.push_back(take(count / 2));
    }
  }

  // x [rows, h] -> phi [rows, r].
  absl::Status Forward(const void* x, void* phi) const {
    for (size_t level = 0; level < projected_.size(); ++level) {
      const int64_t inputs = Inputs(level);
      for (int64_t i = 0; i < Count(level); ++i) {
        WEFT_RETURN_IF_ERROR(Run(stream_, {.m = rows_,
                                           .n = p_.sketch_dim,
                                           .k = inputs,
                                           .a = level == 0 ? x : Part(sketches_[level - 1], i),
                                           .a_stride = inputs,
                                           .b = Matrix(level, i),
                                           .b_stride = inputs,
                                           .b_transposed = true,
                                           .d = Part(projected_[level], i),
                                           .d_stride = p_.sketch_dim,
                                           .d_type = stream_.device().compute_dtype()}));
      }
      const bool last = level + 1 == projected_.size();
      for (int64_t i = 0; i < Count(level); i += 2) {
        WEFT_RETURN_IF_ERROR(CudaStatus(
            internal::LaunchScaledProduct(
                stream_.launch(), rows_ * p_.sketch_dim, Factor(), Part(projected_[level], i),
                Part(projected_[level], i + 1), last ? phi : Part(sketches_[level], i / 2)),
            "RandomSketchForward"));
      }
    }
    return absl::OkStatus();
  }

  // Where features may go that nobody wants.
  [[nodiscard]] void* Features() const { return sketches_.back(); }

  // After Forward of the same rows. d_x [rows, h] is overwritten or added to; the sketches become
  // their gradients on the way.
  absl::Status Backward(const void* d_phi, Accumulate accumulate, void* d_x) const {
    const int64_t r = p_.sketch_dim;
    for (size_t level = projected_.size(); level-- > 0;) {
      const bool last = level + 1 == projected_.size();
      for (int64_t i = 0; i < Count(level); i += 2) {
        WEFT_RETURN_IF_ERROR(CudaStatus(
            internal::LaunchScaledProductBackward(
                stream_.launch(), rows_ * r, Factor(), last ? d_phi : Part(sketches_[level], i / 2),
                Part(projected_[level], i), Part(projected_[level], i + 1),
                Part(d_projected_[level], i), Part(d_projected_[level], i + 1)),
            "RandomSketchBackward"));
      }
      const int64_t inputs = Inputs(level);
      for (int64_t i = 0; i < Count(level); ++i) {
        // All copies of x are x itself.
        const bool add = level == 0 && (i > 0 || accumulate == Accumulate::kYes);
        WEFT_RETURN_IF_ERROR(Run(stream_, {.m = rows_,
                                           .n = inputs,
                                           .k = r,
                                           .a = Part(d_projected_[level], i),
                                           .a_stride = r,
                                           .b = Matrix(level, i),
                                           .b_stride = inputs,
                                           .d = level == 0 ? d_x : Part(sketches_[level - 1], i),
                                           .d_stride = inputs,
                                           .d_type = stream_.device().compute_dtype(),
                                           .beta = add ? 1.0F : 0.0F}));
      }
    }
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] int64_t Count(size_t level) const { return p_.leaves() >> level; }
  [[nodiscard]] int64_t Inputs(size_t level) const {
    return level == 0 ? p_.input_dim : p_.sketch_dim;
  }
  [[nodiscard]] float Factor() const { return static_cast<float>(SketchFactor(p_)); }
  [[nodiscard]] uint8_t* Part(uint8_t* level, int64_t i) const {
    return level + i * rows_ * p_.sketch_dim * bytes_;
  }
  [[nodiscard]] const void* Matrix(size_t level, int64_t i) const {
    if (level == 0) return leaves_ + i * p_.sketch_dim * p_.input_dim * bytes_;
    // p/2 - 2 inner matrices: all but the `Count` of this level and those above stand before.
    const int64_t before = p_.leaves() - 2 * Count(level);
    return inner_ + (before + i) * p_.sketch_dim * p_.sketch_dim * bytes_;
  }

  CudaStream& stream_;
  const RandomSketchProblem& p_;
  int64_t bytes_;  // of an element
  const uint8_t* leaves_;
  const uint8_t* inner_;
  int64_t rows_ = 0;
  std::vector<uint8_t*> projected_, d_projected_, sketches_;
};

// Calls step(tree over the rows, first row) for pieces of all rows.
template <typename Step>
absl::Status ForRowPieces(CudaStream& stream, Tree& tree, int64_t rows, const Step& step) {
  const int64_t most =
      std::clamp<int64_t>(kMostBytes / tree.RowBytes(), 1, std::max<int64_t>(rows, 1));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch space, stream.Scratch(most * tree.RowBytes()));
  for (int64_t first = 0; first < rows; first += most) {
    tree.Carve(space.data<uint8_t>(), std::min(most, rows - first));
    WEFT_RETURN_IF_ERROR(step(first));
  }
  return absl::OkStatus();
}

uint8_t* RowOf(const Tensor& tensor, int64_t row) {
  return static_cast<uint8_t*>(tensor.address()) + row * tensor.dim(-1) * SizeOf(tensor.dtype());
}

}  // namespace

absl::Status RandomSketchForwardCuda(Stream& stream, const RandomSketchProblem& p, const Tensor& x,
                                     const Tensor& leaves, const Tensor& inner, Tensor& phi) {
  CudaStream& cuda = AsCudaStream(stream);
  Tree tree(cuda, p, leaves, inner);
  return ForRowPieces(cuda, tree, RowsOf(x), [&](int64_t first) {
    return tree.Forward(RowOf(x, first), RowOf(phi, first));
  });
}

absl::Status RandomSketchBackwardCuda(Stream& stream, const RandomSketchProblem& p, const Tensor& x,
                                      const Tensor& leaves, const Tensor& inner,
                                      const Tensor& d_phi, Tensor& d_x, Accumulate accumulate) {
  CudaStream& cuda = AsCudaStream(stream);
  Tree tree(cuda, p, leaves, inner);
  return ForRowPieces(cuda, tree, RowsOf(x), [&](int64_t first) -> absl::Status {
    WEFT_RETURN_IF_ERROR(tree.Forward(RowOf(x, first), tree.Features()));
    return tree.Backward(RowOf(d_phi, first), accumulate, RowOf(d_x, first));
  });
}

}  // namespace weft::kernels

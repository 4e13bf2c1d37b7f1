// Random sketches, fp32: some rows at a time, each level of the tree one product of matrices for
// each of its matrices.
#include <algorithm>
#include <vector>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;
constexpr int64_t kRows = 128;  // that are computed together

// The levels of the tree over kRows rows. Level 0 projects copies of x: `projected` holds p/2
// matrices [rows, r] one after the other; their products in pairs are the sketches of level 1,
// which level 1 projects, and so on.
struct TreeSpace {
  TreeSpace(const RandomSketchProblem& p, Carver& carver) {
    for (int64_t count = p.leaves(); count > 1; count /= 2) {
      projected.push_back(carver.Take(count * kRows * p.sketch_dim));
      d_projected.push_back(carver.Take(count * kRows * p.sketch_dim));
      sketches.push_back(carver.Take(count / 2 * kRows * p.sketch_dim));
    }
  }

  std::vector<float*> projected;
  std::vector<float*> d_projected;
  std::vector<float*> sketches;  // [k]: what level k's products give, the input of level k + 1
};

class Tree {
 public:
  Tree(const RandomSketchProblem& p, const VectorTable& vector, const Tensor& leaves,
       const Tensor& inner, const TreeSpace& space)
      : p_(p),
        vector_(vector),
        leaves_(leaves.data<float>()),
        inner_(inner.present() ? inner.data<float>() : nullptr),
        space_(space),
        factor_(static_cast<float>(SketchFactor(p))) {}

  // Rows of x -> features in sketches.back().
  void Forward(const float* x, int64_t rows) const {
    for (size_t level = 0; level < space_.projected.size(); ++level) {
      const int64_t inputs = Inputs(level);
      for (int64_t i = 0; i < Count(level); ++i) {
        const float* from = level == 0 ? x : space_.sketches[level - 1] + i * rows * p_.sketch_dim;
        Gemm(kPlain, kTransposed, rows, p_.sketch_dim, inputs, 1.0F, from, inputs, Matrix(level, i),
             inputs, 0.0F, Projected(level, i, rows), p_.sketch_dim);
      }
      for (int64_t i = 0; i < Count(level); i += 2) {
        vector_.scaled_multiply(factor_, Projected(level, i, rows), Projected(level, i + 1, rows),
                                space_.sketches[level] + i / 2 * rows * p_.sketch_dim,
                                rows * p_.sketch_dim);
      }
    }
  }

  // After Forward of the same rows. d_x [rows, h] is overwritten or added to; the sketches become
  // their gradients on the way.
  void Backward(const float* d_phi, int64_t rows, Accumulate accumulate, float* d_x) const {
    const int64_t r = p_.sketch_dim;
    const float* d_above = d_phi;
    for (size_t level = space_.projected.size(); level-- > 0;) {
      float* const d_projected = space_.d_projected[level];
      for (int64_t i = 0; i < Count(level); i += 2) {
        const float* d_product = d_above + i / 2 * rows * r;
        vector_.scaled_multiply(factor_, d_product, Projected(level, i + 1, rows),
                                d_projected + i * rows * r, rows * r);
        vector_.scaled_multiply(factor_, d_product, Projected(level, i, rows),
                                d_projected + (i + 1) * rows * r, rows * r);
      }
      const int64_t inputs = Inputs(level);
      for (int64_t i = 0; i < Count(level); ++i) {
        // All copies of x are x itself.
        float* const d_from = level == 0 ? d_x : space_.sketches[level - 1] + i * rows * r;
        const bool add = level == 0 && (i > 0 || accumulate == Accumulate::kYes);
        Gemm(kPlain, kPlain, rows, inputs, r, 1.0F, d_projected + i * rows * r, r, Matrix(level, i),
             inputs, add ? 1.0F : 0.0F, d_from, inputs);
      }
      if (level > 0) d_above = space_.sketches[level - 1];
    }
  }

  [[nodiscard]] const float* phi() const { return space_.sketches.back(); }

 private:
  [[nodiscard]] int64_t Count(size_t level) const { return p_.leaves() >> level; }
  [[nodiscard]] int64_t Inputs(size_t level) const {
    return level == 0 ? p_.input_dim : p_.sketch_dim;
  }
  [[nodiscard]] const float* Matrix(size_t level, int64_t i) const {
    if (level == 0) return leaves_ + i * p_.sketch_dim * p_.input_dim;
    // p/2 - 2 inner matrices: all but the `Count` of this level and those above stand before.
    const int64_t before = p_.leaves() - 2 * Count(level);
    return inner_ + (before + i) * p_.sketch_dim * p_.sketch_dim;
  }
  [[nodiscard]] float* Projected(size_t level, int64_t i, int64_t rows) const {
    return space_.projected[level] + i * rows * p_.sketch_dim;
  }

  const RandomSketchProblem& p_;
  const VectorTable& vector_;
  const float* leaves_;
  const float* inner_;
  const TreeSpace& space_;
  float factor_;
};

}  // namespace

absl::Status RandomSketchForwardCpu(Stream& stream, const RandomSketchProblem& p, const Tensor& x,
                                    const Tensor& leaves, const Tensor& inner, Tensor& phi) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, RowsOf(x), kRows, [&](int64_t first, int64_t count) {
    const auto space = ThreadSpace<TreeSpace>(p);
    const Tree tree(p, cpu.vector(), leaves, inner, space);
    tree.Forward(x.data<float>() + first * p.input_dim, count);
    std::copy_n(tree.phi(), count * p.sketch_dim, phi.data<float>() + first * p.sketch_dim);
  });
  return absl::OkStatus();
}

absl::Status RandomSketchBackwardCpu(Stream& stream, const RandomSketchProblem& p, const Tensor& x,
                                     const Tensor& leaves, const Tensor& inner, const Tensor& d_phi,
                                     Tensor& d_x, Accumulate accumulate) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, RowsOf(x), kRows, [&](int64_t first, int64_t count) {
    const auto space = ThreadSpace<TreeSpace>(p);
    const Tree tree(p, cpu.vector(), leaves, inner, space);
    tree.Forward(x.data<float>() + first * p.input_dim, count);
    tree.Backward(d_phi.data<float>() + first * p.sketch_dim, count, accumulate,
                  d_x.data<float>() + first * p.input_dim);
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

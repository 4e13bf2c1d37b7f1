// Learned sketches, fp32: some rows at a time through both towers, so that hidden activations live
// in the caches and are made again for the backward pass. Gradients of weights are summed by groups
// of rows, and the groups in their order.
#include <algorithm>
#include <array>
#include <cmath>

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

// Rows whose gradients of weights are summed before they meet those of others. At most kMostGroups
// sums are kept, each as large as the weights.
constexpr int64_t kGroupRows = 512;
constexpr int64_t kMostGroups = 32;

int64_t GroupRows(int64_t rows) {
  const int64_t even = (rows + kMostGroups - 1) / kMostGroups;
  return std::max(kGroupRows, (even + kRows - 1) / kRows * kRows);
}

// The parameters of one stage of one tower, or their gradients.
struct StageWeights {
  float* norm_weight;
  float* norm_bias;
  float* expand;    // [hidden, n]
  float* contract;  // [r, hidden]
};

StageWeights TowerOf(const SketchStage& stage, int64_t tower) {
  const auto part = [&](const Tensor& both) {
    return both.data<float>() + tower * (both.count() / 2);
  };
  return {part(stage.norm_weight), part(stage.norm_bias), part(stage.expand), part(stage.contract)};
}

// The contracting maps of both towers turned over, [hidden, r], once a call: the products with many
// rows take two thirds of the time then.
class TurnedMaps {
 public:
  TurnedMaps(CpuStream& cpu, const LearnedSketchProblem& p, const LearnedSketchWeights& weights)
      : count_(p.sketch_dim * p.hidden_dim) {
    thread_local Scratch<float> scratch;
    maps_ = scratch.Get(4 * count_);
    cpu.ParallelFor(4, [&](int64_t map) {
      const float* const from = TowerOf(weights[map / 2], map % 2).contract;
      float* const to = maps_ + map * count_;
      for (int64_t i = 0; i < p.sketch_dim; ++i) {
        for (int64_t j = 0; j < p.hidden_dim; ++j) {
          to[j * p.sketch_dim + i] = from[i * p.hidden_dim + j];
        }
      }
    });
  }
  [[nodiscard]] const float* At(int64_t stage, int64_t tower) const {
    return maps_ + (stage * 2 + tower) * count_;
  }

 private:
  int64_t count_;
  float* maps_;
};

// What one stage of one tower makes of the rows.
struct StageSpace {
  StageSpace(const LearnedSketchProblem& p, int64_t n, Carver& carver)
      : inputs(n),
        mean(carver.Take(kRows)),
        rstd(carver.Take(kRows)),
        normed(carver.Take(kRows * n)),
        a(carver.Take(kRows * p.hidden_dim)),
        z(carver.Take(kRows * p.hidden_dim)),
        y(carver.Take(kRows * p.sketch_dim)) {}

  int64_t inputs;
  float* mean;
  float* rstd;
  float* normed;  // [rows, n]; its gradient in the backward pass
  float* a;       // [rows, hidden]: before GELU; its gradient in the backward pass
  float* z;       // [rows, hidden]: after
  float* y;       // [rows, r]
};

struct TowerSpace {
  TowerSpace(const LearnedSketchProblem& p, Carver& carver)
      : stages{StageSpace(p, p.input_dim, carver), StageSpace(p, p.sketch_dim, carver)} {}

  std::array<StageSpace, 2> stages;
};

struct NetworkSpace {
  NetworkSpace(const LearnedSketchProblem& p, Carver& carver)
      : towers{TowerSpace(p, carver), TowerSpace(p, carver)},
        d_u(carver.Take(kRows * p.sketch_dim)),
        d_y(carver.Take(kRows * p.sketch_dim)) {}

  std::array<TowerSpace, 2> towers;
  float* d_u;  // [rows, r]
  float* d_y;  // [rows, r]
};

class Network {
 public:
  Network(const LearnedSketchProblem& p, const VectorTable& vector,
          const LearnedSketchWeights& weights, const TurnedMaps& turned, const NetworkSpace& space)
      : p_(p),
        vector_(vector),
        weights_(weights),
        turned_(turned),
        space_(space),
        bound_(std::sqrt(static_cast<float>(p.sketch_dim))) {}

  // Both towers on `rows` rows of x.
  void RunTowers(const float* x, int64_t rows) const {
    for (int64_t tower = 0; tower < 2; ++tower) {
      const auto& stages = space_.towers[tower].stages;
      RunStage(TowerOf(weights_[0], tower), turned_.At(0, tower), x, rows, stages[0]);
      RunStage(TowerOf(weights_[1], tower), turned_.At(1, tower), stages[0].y, rows, stages[1]);
    }
  }
  void Features(int64_t rows, float* phi) const {
    const int64_t count = rows * p_.sketch_dim;
    vector_.multiply(Result(0), Result(1), phi, count);
    vector_.tanh(bound_, phi, phi, count);
  }
  // After RunTowers of the same rows. d_x is added to, and so are the gradients.
  void Backward(const float* x, int64_t rows, const float* phi, const float* d_phi, float* d_x,
                const std::array<std::array<StageWeights, 2>, 2>& gradients) const {
    const int64_t count = rows * p_.sketch_dim;
    vector_.tanh_backward(phi, bound_, d_phi, space_.d_u, count);
    for (int64_t tower = 0; tower < 2; ++tower) {
      const auto& stages = space_.towers[tower].stages;
      vector_.multiply(space_.d_u, Result(1 - tower), space_.d_y, count);
      // The gradient of what is between the stages takes the place of that of the result.
      BackStage(TowerOf(weights_[1], tower), stages[0].y, rows, space_.d_y, stages[1],
                /*add=*/false, space_.d_y, gradients[tower][1]);
      BackStage(TowerOf(weights_[0], tower), x, rows, space_.d_y, stages[0], /*add=*/true, d_x,
                gradients[tower][0]);
    }
  }

 private:
  [[nodiscard]] const float* Result(int64_t tower) const {
    return space_.towers[tower].stages[1].y;
  }

  void RunStage(const StageWeights& w, const float* contract, const float* x, int64_t rows,
                const StageSpace& s) const {
    const int64_t n = s.inputs;
    for (int64_t i = 0; i < rows; ++i) {
      vector_.layer_norm(x + i * n, w.norm_weight, w.norm_bias, static_cast<float>(p_.epsilon),
                         s.normed + i * n, s.mean + i, s.rstd + i, n);
    }
    Gemm(kPlain, kTransposed, rows, p_.hidden_dim, n, 1.0F, s.normed, n, w.expand, n, 0.0F, s.a,
         p_.hidden_dim);
    vector_.gelu_tanh(s.a, s.z, rows * p_.hidden_dim);
    Gemm(kPlain, kPlain, rows, p_.sketch_dim, p_.hidden_dim, 1.0F, s.z, p_.hidden_dim, contract,
         p_.sketch_dim, 0.0F, s.y, p_.sketch_dim);
  }

  // d_x may be d_y.
  void BackStage(const StageWeights& w, const float* x, int64_t rows, const float* d_y,
                 const StageSpace& s, bool add, float* d_x, const StageWeights& g) const {
    const int64_t n = s.inputs;
    const int64_t r = p_.sketch_dim;
    const int64_t hidden = p_.hidden_dim;
    Gemm(kTransposed, kPlain, r, hidden, rows, 1.0F, d_y, r, s.z, hidden, 1.0F, g.contract, hidden);
    Gemm(kPlain, kPlain, rows, hidden, r, 1.0F, d_y, r, w.contract, hidden, 0.0F, s.z, hidden);
    vector_.gelu_tanh_backward(s.a, s.z, s.a, rows * hidden);
    Gemm(kTransposed, kPlain, hidden, n, rows, 1.0F, s.a, hidden, s.normed, n, 1.0F, g.expand, n);
    Gemm(kPlain, kPlain, rows, n, hidden, 1.0F, s.a, hidden, w.expand, n, 0.0F, s.normed, n);
    for (int64_t i = 0; i < rows; ++i) {
      vector_.layer_norm_backward(x + i * n, w.norm_weight, s.mean[i], s.rstd[i], s.normed + i * n,
                                  add, d_x + i * n, g.norm_weight, g.norm_bias, n);
    }
  }

  const LearnedSketchProblem& p_;
  const VectorTable& vector_;
  const LearnedSketchWeights& weights_;
  const TurnedMaps& turned_;
  const NetworkSpace& space_;
  float bound_;
};

// The gradients of all weights that one group of rows sums: the parameters of both towers, stage by
// stage.
struct GroupSum {
  GroupSum(const LearnedSketchProblem& p, Carver& carver) : first(carver.Take(0)) {
    const int64_t inputs[2] = {p.input_dim, p.sketch_dim};
    for (int64_t stage = 0; stage < 2; ++stage) {
      for (auto& tower : towers) {
        tower[stage] = {carver.Take(inputs[stage]), carver.Take(inputs[stage]),
                        carver.Take(p.hidden_dim * inputs[stage]),
                        carver.Take(p.sketch_dim * p.hidden_dim)};
      }
    }
    count = carver.used();
  }

  float* first;
  std::array<std::array<StageWeights, 2>, 2> towers;  // [tower][stage]
  int64_t count = 0;                                  // elements from `first` on
};

// Adds one kind of gradient of all groups to its tensor, in parallel over its elements.
void AddGroups(CpuStream& cpu, const float* parts, int64_t stride, int64_t groups, int64_t count,
               float* sum) {
  ForBlocks(cpu, count, kElementBlock, [&](int64_t first, int64_t n) {
    for (int64_t group = 0; group < groups; ++group) {
      cpu.vector().add(sum + first, parts + group * stride + first, sum + first, n);
    }
  });
}

}  // namespace

absl::Status LearnedSketchForwardCpu(Stream& stream, const LearnedSketchProblem& p, const Tensor& x,
                                     const LearnedSketchWeights& weights, Tensor& phi,
                                     LearnedSketchSaved& /*saved*/) {
  CpuStream& cpu = AsCpuStream(stream);
  const TurnedMaps turned(cpu, p, weights);
  ForBlocks(cpu, RowsOf(x), kRows, [&](int64_t first, int64_t count) {
    const auto space = ThreadSpace<NetworkSpace>(p);
    const Network network(p, cpu.vector(), weights, turned, space);
    network.RunTowers(x.data<float>() + first * p.input_dim, count);
    network.Features(count, phi.data<float>() + first * p.sketch_dim);
  });
  return absl::OkStatus();
}

absl::Status LearnedSketchBackwardCpu(Stream& stream, const LearnedSketchProblem& p,
                                      const Tensor& x, const LearnedSketchWeights& weights,
                                      const Tensor& phi, const LearnedSketchSaved& /*saved*/,
                                      const Tensor& d_phi, Tensor& d_x, Accumulate accumulate,
                                      LearnedSketchWeights& gradients) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t rows = RowsOf(x);
  const int64_t group_rows = GroupRows(rows);
  const int64_t groups = BlocksOf(rows, group_rows);
  Carver count_only(nullptr);
  const int64_t stride = GroupSum(p, count_only).count;
  thread_local Scratch<float> scratch;
  float* const parts = scratch.Get(groups * stride);
  const TurnedMaps turned(cpu, p, weights);
  ForBlocks(cpu, rows, group_rows, [&](int64_t group_first, int64_t group_count) {
    Carver carver(parts + group_first / group_rows * stride);
    const GroupSum sum(p, carver);
    std::fill_n(sum.first, stride, 0.0F);
    const auto space = ThreadSpace<NetworkSpace>(p);
    const Network network(p, cpu.vector(), weights, turned, space);
    for (int64_t first = group_first; first < group_first + group_count; first += kRows) {
      const int64_t n = std::min(kRows, group_first + group_count - first);
      const float* const x_rows = x.data<float>() + first * p.input_dim;
      float* const d_x_rows = d_x.data<float>() + first * p.input_dim;
      if (accumulate == Accumulate::kNo) std::fill_n(d_x_rows, n * p.input_dim, 0.0F);
      network.RunTowers(x_rows, n);
      network.Backward(x_rows, n, phi.data<float>() + first * p.sketch_dim,
                       d_phi.data<float>() + first * p.sketch_dim, d_x_rows, sum.towers);
    }
  });
  Carver carver(parts);
  const GroupSum first(p, carver);
  for (int64_t stage = 0; stage < 2; ++stage) {
    const int64_t inputs = stage == 0 ? p.input_dim : p.sketch_dim;
    for (int64_t tower = 0; tower < 2; ++tower) {
      const StageWeights from = first.towers[tower][stage];
      const StageWeights to = TowerOf(gradients[stage], tower);
      AddGroups(cpu, from.norm_weight, stride, groups, inputs, to.norm_weight);
      AddGroups(cpu, from.norm_bias, stride, groups, inputs, to.norm_bias);
      AddGroups(cpu, from.expand, stride, groups, p.hidden_dim * inputs, to.expand);
      AddGroups(cpu, from.contract, stride, groups, p.sketch_dim * p.hidden_dim, to.contract);
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

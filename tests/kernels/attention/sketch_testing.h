// Sketches as host arrays, their results on a device, and the textbook loops.
#pragma once

#include <string>

#include "kernels/attention/polysketch/learned_sketch.h"
#include "kernels/attention/polysketch/random_sketch.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

// ---- Random

struct RandomSketchData {
  RandomSketchProblem problem = {};
  int64_t rows = 0;
  Values x = {}, d_phi = {};
  RandomSketchDraw matrices = {};
};

struct SketchResults {
  Values phi, d_x;
};

inline RandomSketchData MakeRandomSketch(const RandomSketchProblem& problem, int64_t rows,
                                         uint32_t seed = 1) {
  NumberStream numbers(seed);
  RandomSketchData in{.problem = problem, .rows = rows};
  in.x = numbers.Symmetric(rows * problem.input_dim);
  in.d_phi = numbers.Symmetric(rows * problem.sketch_dim);
  in.matrices = DrawRandomSketch(seed, 0, problem, SketchMatrices::kGaussian);
  for (Values* values : {&in.x, &in.d_phi, &in.matrices.leaves, &in.matrices.inner}) {
    RoundToFloat(*values);
  }
  return in;
}

inline SketchResults RunRandomSketch(DeviceRun& run, const RandomSketchData& in) {
  const RandomSketchProblem& p = in.problem;
  const Tensor x = run.Upload(in.x, {in.rows, p.input_dim});
  const Tensor leaves = run.Upload(in.matrices.leaves, {p.leaves(), p.sketch_dim, p.input_dim});
  const Tensor inner = p.inner() == 0
                           ? Tensor()
                           : run.Upload(in.matrices.inner, {p.inner(), p.sketch_dim, p.sketch_dim});
  Tensor phi = run.New({in.rows, p.sketch_dim});
  const absl::Status forward = RandomSketchForward(run.stream(), p, x, leaves, inner, phi);
  EXPECT_TRUE(forward.ok()) << forward;
  Tensor d_x = run.Upload(Values(in.x.size(), 1e6), x.shape());
  const absl::Status backward = RandomSketchBackward(
      run.stream(), p, x, leaves, inner, run.Upload(in.d_phi, phi.shape()), d_x, Accumulate::kNo);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.phi = run.Download(phi), .d_x = run.Download(d_x)};
}

inline SketchResults RunRandomSketch(DeviceRun&& run, const RandomSketchData& in) {
  return RunRandomSketch(run, in);
}

// ---- Learned

// The parameters of one stage of both towers, as in SketchStage.
struct StageData {
  Values norm_weight, norm_bias, expand, contract;
};

struct LearnedSketchData {
  LearnedSketchProblem problem = {};
  int64_t rows = 0;
  Values x = {}, d_phi = {};
  StageData stages[2] = {};

  [[nodiscard]] int64_t Inputs(int stage) const {
    return stage == 0 ? problem.input_dim : problem.sketch_dim;
  }
};

struct LearnedSketchResults {
  Values phi, d_x;
  StageData stages[2];  // gradients
};

// Calls body(name, parameters, and those of the others) for the four parameters of both stages.
template <typename Body, typename... Data>
void ForEachParameter(Body body, Data&... data) {
  for (int stage = 0; stage < 2; ++stage) {
    body(absl::StrCat("norm_weight ", stage), data.stages[stage].norm_weight...);
    body(absl::StrCat("norm_bias ", stage), data.stages[stage].norm_bias...);
    body(absl::StrCat("expand ", stage), data.stages[stage].expand...);
    body(absl::StrCat("contract ", stage), data.stages[stage].contract...);
  }
}

inline LearnedSketchData MakeLearnedSketch(const LearnedSketchProblem& problem, int64_t rows,
                                           uint32_t seed = 1) {
  NumberStream numbers(seed);
  LearnedSketchData in{.problem = problem, .rows = rows};
  in.x = numbers.Symmetric(rows * problem.input_dim);
  in.d_phi = numbers.Symmetric(rows * problem.sketch_dim);
  for (int stage = 0; stage < 2; ++stage) {
    const int64_t n = in.Inputs(stage);
    StageData& s = in.stages[stage];
    s.norm_weight = numbers.Symmetric(2 * n);
    s.norm_bias = numbers.Symmetric(2 * n);
    s.expand = numbers.Symmetric(2 * problem.hidden_dim * n);
    s.contract = numbers.Symmetric(2 * problem.sketch_dim * problem.hidden_dim);
    for (double& weight : s.norm_weight) weight += 1;
  }
  RoundToFloat(in.x);
  RoundToFloat(in.d_phi);
  ForEachParameter([](const std::string&, Values& values) { RoundToFloat(values); }, in);
  return in;
}

// Parameters, or their gradients (of the sum type).
inline LearnedSketchWeights UploadStages(DeviceRun& run, const LearnedSketchProblem& p,
                                         const StageData (&stages)[2], bool gradients = false) {
  const auto upload = [&](const Values& values, const Shape& shape) {
    return gradients ? run.UploadSum(values, shape) : run.Upload(values, shape);
  };
  LearnedSketchWeights weights;
  for (int stage = 0; stage < 2; ++stage) {
    const int64_t n = stage == 0 ? p.input_dim : p.sketch_dim;
    const StageData& s = stages[stage];
    weights[stage] = {.norm_weight = upload(s.norm_weight, {2, n}),
                      .norm_bias = upload(s.norm_bias, {2, n}),
                      .expand = upload(s.expand, {2, p.hidden_dim, n}),
                      .contract = upload(s.contract, {2, p.sketch_dim, p.hidden_dim})};
  }
  return weights;
}

// Gradients of parameters are added to `before`, which every element holds. Without `keep` the
// backward pass makes all of the forward pass again.
inline LearnedSketchResults RunLearnedSketch(DeviceRun& run, const LearnedSketchData& in,
                                             double before = 0.0,
                                             Accumulate accumulate = Accumulate::kNo,
                                             bool keep = true) {
  const LearnedSketchProblem& p = in.problem;
  const LearnedSketchWeights weights = UploadStages(run, p, in.stages);
  StageData old[2] = {in.stages[0], in.stages[1]};
  for (StageData& stage : old) {
    for (Values* values : {&stage.norm_weight, &stage.norm_bias, &stage.expand, &stage.contract}) {
      std::fill(values->begin(), values->end(), before);
    }
  }
  LearnedSketchWeights gradients = UploadStages(run, p, old, /*gradients=*/true);
  const Tensor x = run.Upload(in.x, {in.rows, p.input_dim});
  Tensor phi = run.New({in.rows, p.sketch_dim});
  LearnedSketchSaved saved;
  if (keep) saved = NewLearnedSketchSaved(run.device(), p, in.rows).value();
  const absl::Status forward = LearnedSketchForward(run.stream(), p, x, weights, phi, saved);
  EXPECT_TRUE(forward.ok()) << forward;
  Tensor d_x =
      run.Upload(Values(in.x.size(), accumulate == Accumulate::kYes ? before : 1e6), x.shape());
  const absl::Status backward =
      LearnedSketchBackward(run.stream(), p, x, weights, phi, saved,
                            run.Upload(in.d_phi, phi.shape()), d_x, accumulate, gradients);
  EXPECT_TRUE(backward.ok()) << backward;
  LearnedSketchResults r{.phi = run.Download(phi), .d_x = run.Download(d_x), .stages = {}};
  for (int stage = 0; stage < 2; ++stage) {
    r.stages[stage] = {.norm_weight = run.Download(gradients[stage].norm_weight),
                       .norm_bias = run.Download(gradients[stage].norm_bias),
                       .expand = run.Download(gradients[stage].expand),
                       .contract = run.Download(gradients[stage].contract)};
  }
  return r;
}

inline LearnedSketchResults RunLearnedSketch(DeviceRun&& run, const LearnedSketchData& in,
                                             double before = 0.0,
                                             Accumulate accumulate = Accumulate::kNo) {
  return RunLearnedSketch(run, in, before, accumulate);
}

// One row after the other in the arithmetic of T: shares nothing with the kernels, and is the plain
// rival of the tolerance rule.
template <typename T>
class PlainLearnedSketch {
 public:
  static LearnedSketchResults Run(const LearnedSketchData& in) {
    PlainLearnedSketch plain(in);
    for (int64_t row = 0; row < in.rows; ++row) plain.RunRow(row);
    return plain.r_;
  }

 private:
  using Row = std::vector<T>;
  struct Stage {
    Row x, normal, n, a, z, y;
    T rstd;
  };

  explicit PlainLearnedSketch(const LearnedSketchData& in)
      : in_(in), r_{Values(in.rows * in.problem.sketch_dim), Values(in.x.size()), {}} {
    const auto clear = [](const std::string&, const Values& from, Values& to) {
      to.assign(from.size(), 0.0);
    };
    ForEachParameter(clear, const_cast<LearnedSketchData&>(in), r_);
  }

  static T At(const Values& values, int64_t i) { return static_cast<T>(values[i]); }
  static void AddTo(Values& values, int64_t i, T term) {
    values[i] = static_cast<T>(values[i]) + term;
  }
  static T Gelu(T a) { return T{0.5} * a * (1 + std::tanh(kFactor * (a + kCubic * a * a * a))); }
  static T GeluSlope(T a) {
    const T t = std::tanh(kFactor * (a + kCubic * a * a * a));
    return T{0.5} * (1 + t) + T{0.5} * a * (1 - t * t) * kFactor * (1 + 3 * kCubic * a * a);
  }

  Stage RunStage(int stage, int64_t tower, const Row& x) const {
    const StageData& w = in_.stages[stage];
    const auto n = static_cast<int64_t>(x.size());
    const int64_t hidden = in_.problem.hidden_dim;
    Stage s{x, Row(n), Row(n), Row(hidden), Row(hidden), Row(in_.problem.sketch_dim), 0};
    T mean = 0;
    T squares = 0;
    for (const T value : x) mean += value;
    mean /= static_cast<T>(n);
    for (const T value : x) squares += (value - mean) * (value - mean);
    s.rstd = 1 / std::sqrt(squares / static_cast<T>(n) + static_cast<T>(in_.problem.epsilon));
    for (int64_t c = 0; c < n; ++c) {
      s.normal[c] = (x[c] - mean) * s.rstd;
      s.n[c] = At(w.norm_weight, tower * n + c) * s.normal[c] + At(w.norm_bias, tower * n + c);
    }
    for (int64_t j = 0; j < hidden; ++j) {
      for (int64_t c = 0; c < n; ++c) s.a[j] += At(w.expand, (tower * hidden + j) * n + c) * s.n[c];
      s.z[j] = Gelu(s.a[j]);
    }
    for (size_t i = 0; i < s.y.size(); ++i) {
      for (int64_t j = 0; j < hidden; ++j) {
        s.y[i] += At(w.contract, (tower * in_.problem.sketch_dim + i) * hidden + j) * s.z[j];
      }
    }
    return s;
  }

  Row BackStage(int stage, int64_t tower, const Stage& s, const Row& d_y) {
    const StageData& w = in_.stages[stage];
    StageData& g = r_.stages[stage];
    const auto n = static_cast<int64_t>(s.x.size());
    const int64_t hidden = in_.problem.hidden_dim;
    const int64_t outputs = in_.problem.sketch_dim;
    Row d_n(n);
    for (int64_t j = 0; j < hidden; ++j) {
      T d_z = 0;
      for (int64_t i = 0; i < outputs; ++i) {
        d_z += At(w.contract, (tower * outputs + i) * hidden + j) * d_y[i];
        AddTo(g.contract, (tower * outputs + i) * hidden + j, d_y[i] * s.z[j]);
      }
      const T d_a = d_z * GeluSlope(s.a[j]);
      for (int64_t c = 0; c < n; ++c) {
        AddTo(g.expand, (tower * hidden + j) * n + c, d_a * s.n[c]);
        d_n[c] += At(w.expand, (tower * hidden + j) * n + c) * d_a;
      }
    }
    T mean_g = 0;
    T mean_gn = 0;
    for (int64_t c = 0; c < n; ++c) {
      AddTo(g.norm_weight, tower * n + c, d_n[c] * s.normal[c]);
      AddTo(g.norm_bias, tower * n + c, d_n[c]);
      d_n[c] *= At(w.norm_weight, tower * n + c);
      mean_g += d_n[c];
      mean_gn += d_n[c] * s.normal[c];
    }
    Row d_x(n);
    for (int64_t c = 0; c < n; ++c) {
      d_x[c] = s.rstd *
               (d_n[c] - mean_g / static_cast<T>(n) - s.normal[c] * mean_gn / static_cast<T>(n));
    }
    return d_x;
  }

  void RunRow(int64_t row) {
    const int64_t h = in_.problem.input_dim;
    const int64_t r = in_.problem.sketch_dim;
    const T bound = std::sqrt(static_cast<T>(r));
    const Row x(in_.x.begin() + row * h, in_.x.begin() + (row + 1) * h);
    Stage first[2];
    Stage second[2];
    for (int64_t tower = 0; tower < 2; ++tower) {
      first[tower] = RunStage(0, tower, x);
      second[tower] = RunStage(1, tower, first[tower].y);
    }
    Row d_u(r);
    for (int64_t c = 0; c < r; ++c) {
      const T t = std::tanh(second[0].y[c] * second[1].y[c] / bound);
      r_.phi[row * r + c] = bound * t;
      d_u[c] = At(in_.d_phi, row * r + c) * (1 - t * t);
    }
    for (int64_t tower = 0; tower < 2; ++tower) {
      Row d_y = d_u;
      for (int64_t c = 0; c < r; ++c) d_y[c] *= second[1 - tower].y[c];
      const Row d_between = BackStage(1, tower, second[tower], d_y);
      const Row d_x = BackStage(0, tower, first[tower], d_between);
      for (int64_t c = 0; c < h; ++c) AddTo(r_.d_x, row * h + c, d_x[c]);
    }
  }

  static constexpr T kFactor = static_cast<T>(0.79788456080286536);
  static constexpr T kCubic = static_cast<T>(0.044715);

  const LearnedSketchData& in_;
  LearnedSketchResults r_;
};

}  // namespace weft::kernels::testing

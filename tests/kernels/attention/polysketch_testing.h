// Problems of polynomial attention as host arrays, their results on a device, and the textbook
// loops.
#pragma once

#include <string>

#include "kernels/attention/polysketch/polysketch.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

struct PolysketchData {
  PolysketchProblem problem = {};
  Values q = {}, k = {};          // empty when all weights are sketched
  Values phi_q = {}, phi_k = {};  // empty when all weights are exact
  Values v = {};
  std::vector<int32_t> valid = {};  // empty: all keys are seen
  Values values = {}, mass = {};    // the initial state; empty: zero
  Values d_o = {};
  Values d_values = {}, d_mass = {};  // the final state's gradient; empty: zero

  [[nodiscard]] bool HasExact() const { return problem.weights != PolysketchWeights::kSketched; }
  [[nodiscard]] bool HasSketch() const { return problem.weights != PolysketchWeights::kExact; }
  [[nodiscard]] bool HasStates() const { return HasSketch() && problem.causal; }
  [[nodiscard]] Shape Rows(int64_t tokens, int64_t width) const {
    return {problem.batch, tokens, problem.heads, width};
  }
  [[nodiscard]] Shape ValuesShape() const {
    return {problem.batch, problem.heads, SelfProducts(problem.sketch_dim), problem.head_dim};
  }
  [[nodiscard]] Shape MassShape() const {
    return {problem.batch, problem.heads, problem.sketch_dim, problem.sketch_dim};
  }
  [[nodiscard]] std::string Name() const {
    static constexpr const char* kNames[] = {"exact", "sketched", "mixed"};
    return absl::StrCat(kNames[static_cast<int>(problem.weights)], " B", problem.batch, " T",
                        problem.queries, " S", problem.keys, " H", problem.heads, " D",
                        problem.head_dim, " r", problem.sketch_dim, " p", problem.degree, " b",
                        problem.block, problem.causal ? " causal" : "",
                        valid.empty() ? "" : " padded", values.empty() ? "" : " with states");
  }
};

struct PolysketchResults {
  Values o, total;
  Values values, mass;  // the final state
  Values d_q, d_k, d_phi_q, d_phi_k, d_v;
  Values d_values, d_mass;  // the initial state's gradient
};

// A symmetric matrix [., r, r] as tokens leave it: sums of squares.
inline Values RandomMass(NumberStream& numbers, int64_t count, int64_t r) {
  Values mass(count * r * r, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    for (int term = 0; term < 3; ++term) {
      const Values x = numbers.Symmetric(r);
      for (int64_t a = 0; a < r; ++a) {
        for (int64_t b = 0; b < r; ++b) mass[(i * r + a) * r + b] += x[a] * x[b];
      }
    }
  }
  return mass;
}

inline constexpr PolysketchWeights kAllWeights[] = {
    PolysketchWeights::kExact, PolysketchWeights::kSketched, PolysketchWeights::kMixed};

// Shapes around the tiles of the CPU (256 queries, 128 keys, 256 rows of features, 8 walks).
inline std::vector<PolysketchProblem> OddProblems() {
  std::vector<PolysketchProblem> problems;
  const auto add = [&](PolysketchProblem p) {
    for (const PolysketchWeights weights : kAllWeights) {
      if (weights == PolysketchWeights::kMixed && !p.causal) continue;
      PolysketchProblem problem = p;
      problem.weights = weights;
      if (weights == PolysketchWeights::kExact) problem.sketch_dim = 0;
      problems.push_back(problem);
    }
  };
  add({.queries = 1, .keys = 1, .head_dim = 1, .sketch_dim = 1, .block = 1});
  add({.batch = 2,
       .queries = 37,
       .keys = 37,
       .heads = 3,
       .head_dim = 5,
       .sketch_dim = 3,
       .degree = 2,
       .block = 8});
  add({.queries = 300, .keys = 300, .heads = 2, .head_dim = 8, .sketch_dim = 6, .block = 64});
  add({.queries = 321, .keys = 321, .head_dim = 17, .sketch_dim = 8, .block = 300});
  add({.queries = 130, .keys = 130, .heads = 9, .head_dim = 4, .sketch_dim = 5, .block = 7});
  add({.queries = 70, .keys = 290, .head_dim = 6, .sketch_dim = 4, .degree = 8, .block = 32});
  add({.queries = 1, .keys = 31, .heads = 2, .head_dim = 16, .sketch_dim = 8, .block = 32});
  add({.queries = 0, .keys = 40, .head_dim = 4, .sketch_dim = 4, .block = 16});
  add({.queries = 0, .keys = 0, .head_dim = 4, .sketch_dim = 4, .block = 16});
  add({.batch = 2,
       .queries = 270,
       .keys = 150,
       .heads = 2,
       .head_dim = 9,
       .sketch_dim = 7,
       .block = 40,
       .causal = false});
  return problems;
}

// Uniform numbers. With states: an initial state, and a gradient of the final one.
inline PolysketchData RandomPolysketch(const PolysketchProblem& problem, bool with_states = false,
                                       uint32_t seed = 1) {
  NumberStream numbers(seed);
  PolysketchData in{.problem = problem};
  const auto rows = [&](int64_t tokens, int64_t width) {
    return numbers.Symmetric(in.Rows(tokens, width).count());
  };
  if (in.HasExact()) {
    in.q = rows(problem.queries, problem.head_dim);
    in.k = rows(problem.keys, problem.head_dim);
  }
  if (in.HasSketch()) {
    in.phi_q = rows(problem.queries, problem.sketch_dim);
    in.phi_k = rows(problem.keys, problem.sketch_dim);
  }
  in.v = rows(problem.keys, problem.head_dim);
  in.d_o = rows(problem.queries, problem.head_dim);
  if (with_states && in.HasStates()) {
    in.values = numbers.Symmetric(in.ValuesShape().count());
    in.mass = RandomMass(numbers, problem.batch * problem.heads, problem.sketch_dim);
    in.d_values = numbers.Symmetric(in.ValuesShape().count());
    in.d_mass = RandomMass(numbers, problem.batch * problem.heads, problem.sketch_dim);
  }
  for (Values* values : {&in.q, &in.k, &in.phi_q, &in.phi_k, &in.v, &in.values, &in.mass, &in.d_o,
                         &in.d_values, &in.d_mass}) {
    RoundToFloat(*values);
  }
  return in;
}

// Every fifth key is padding, and the last ones of sequence 0.
inline void AddPadding(PolysketchData& in) {
  in.valid.assign(in.problem.batch * in.problem.keys, 1);
  for (size_t j = 3; j < in.valid.size(); j += 5) in.valid[j] = 0;
  for (int64_t j = in.problem.keys * 3 / 4; j < in.problem.keys; ++j) in.valid[j] = 0;
}

// Operands on a device.
struct PolysketchOnDevice {
  PolysketchOnDevice(DeviceRun& run, const PolysketchData& in) {
    const PolysketchProblem& p = in.problem;
    const auto upload = [&](const Values& values, const Shape& shape) {
      return values.empty() && shape.count() > 0 ? Tensor() : run.Upload(values, shape);
    };
    const auto upload_sum = [&](const Values& values, const Shape& shape) {
      return values.empty() ? Tensor() : run.UploadSum(values, shape);
    };
    if (in.HasExact()) {
      inputs.q = upload(in.q, in.Rows(p.queries, p.head_dim));
      inputs.k = upload(in.k, in.Rows(p.keys, p.head_dim));
    }
    if (in.HasSketch()) {
      inputs.phi_q = upload(in.phi_q, in.Rows(p.queries, p.sketch_dim));
      inputs.phi_k = upload(in.phi_k, in.Rows(p.keys, p.sketch_dim));
    }
    inputs.v = upload(in.v, in.Rows(p.keys, p.head_dim));
    if (!in.valid.empty()) {
      inputs.valid = NewTensor(run.device(), DType::kI32, {p.batch, p.keys}).value();
      WEFT_CHECK(run.device().CopyFromHost(inputs.valid, in.valid.data(), run.stream()).ok());
    }
    d_o = upload(in.d_o, in.Rows(p.queries, p.head_dim));
    if (!in.HasStates()) return;
    initial.values = upload_sum(in.values, in.ValuesShape());
    initial.mass = upload_sum(in.mass, in.MassShape());
    d_final.values = upload_sum(in.d_values, in.ValuesShape());
    d_final.mass = upload_sum(in.d_mass, in.MassShape());
  }

  PolysketchInputs inputs;
  PolysketchState initial;
  PolysketchState d_final;
  Tensor d_o;
};

// `states`: whether final states and gradients of initial ones are asked for.
// Without `keep` the backward pass makes all of the forward pass again.
inline PolysketchResults RunPolysketch(DeviceRun& run, const PolysketchData& in, bool states = true,
                                       bool keep = true) {
  const PolysketchProblem& p = in.problem;
  const PolysketchOnDevice on(run, in);
  const auto dirty = [&](const Tensor& like) {  // results must be overwritten, whatever they held
    return like.present() ? run.Upload(Values(like.count(), 1e6), like.shape()) : Tensor();
  };
  const auto download = [&](const Tensor& tensor) {
    return tensor.present() ? run.Download(tensor) : Values{};
  };
  Tensor o = dirty(on.d_o);
  PolysketchSaved saved = NewPolysketchSaved(run.device(), p).value();
  if (!keep) saved.record = Tensor();
  PolysketchState final, d_initial;
  if (states && in.HasStates()) {
    for (PolysketchState* state : {&final, &d_initial}) {
      state->values = run.UploadSum(Values(in.ValuesShape().count(), 1e6), in.ValuesShape());
      state->mass = run.UploadSum(Values(in.MassShape().count(), 1e6), in.MassShape());
    }
  }
  const absl::Status forward =
      PolysketchForward(run.stream(), p, on.inputs, on.initial, o, final, saved);
  EXPECT_TRUE(forward.ok()) << forward;
  PolysketchGradients g{.q = dirty(on.inputs.q),
                        .k = dirty(on.inputs.k),
                        .phi_q = dirty(on.inputs.phi_q),
                        .phi_k = dirty(on.inputs.phi_k),
                        .v = dirty(on.inputs.v)};
  const absl::Status backward = PolysketchBackward(run.stream(), p, on.inputs, on.initial, o, saved,
                                                   on.d_o, on.d_final, g, d_initial);
  EXPECT_TRUE(backward.ok()) << backward;
  return {.o = download(o),
          .total = download(saved.total),
          .values = download(final.values),
          .mass = download(final.mass),
          .d_q = download(g.q),
          .d_k = download(g.k),
          .d_phi_q = download(g.phi_q),
          .d_phi_k = download(g.phi_k),
          .d_v = download(g.v),
          .d_values = download(d_initial.values),
          .d_mass = download(d_initial.mass)};
}

inline PolysketchResults RunPolysketch(DeviceRun&& run, const PolysketchData& in,
                                       bool states = true) {
  return RunPolysketch(run, in, states);
}

// Calls check(name, a's array, b's array, ...) for each of the results.
template <typename Check, typename... Results>
void ForEachPolysketchResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("total", results.total...);
  check("values", results.values...);
  check("mass", results.mass...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_phi_q", results.d_phi_q...);
  check("d_phi_k", results.d_phi_k...);
  check("d_v", results.d_v...);
  check("d_values", results.d_values...);
  check("d_mass", results.d_mass...);
}

}  // namespace weft::kernels::testing

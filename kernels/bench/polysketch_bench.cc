// Polynomial attention and its sketches on CPU.
//
//   build/dev/bench/attention_bench --benchmark_filter=Polysketch
#include <cmath>

#include "kernels/attention/polysketch/learned_sketch.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/attention/polysketch/random_sketch.h"
#include "kernels/bench/attention_bench.h"

namespace weft::kernels {
namespace {

constexpr int64_t kHeadDim = 64;

// ---- The core: weights, tokens, sketch dim, block, threads

struct PolysketchRun : Run {
  explicit PolysketchRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(4))),
        problem{.weights = static_cast<PolysketchWeights>(state.range(0)),
                .queries = state.range(1),
                .keys = state.range(1),
                .heads = kHeads,
                .head_dim = kHeadDim,
                .sketch_dim = state.range(2),
                .block = state.range(3)},
        rows{1, problem.queries, kHeads, kHeadDim},
        features{1, problem.queries, kHeads, problem.sketch_dim},
        o(Filled(rows, 0.0)),
        saved(NewPolysketchSaved(device(), problem).value()) {
    inputs.v = Filled(rows, 1.0);
    if (problem.weights != PolysketchWeights::kSketched) {
      inputs.q = Filled(rows, 1.0);
      inputs.k = Filled(rows, 1.0);
    }
    if (problem.weights != PolysketchWeights::kExact) {
      inputs.phi_q = Filled(features, 1.0);
      inputs.phi_k = Filled(features, 1.0);
    }
  }

  absl::Status Forward() {
    return PolysketchForward(stream(), problem, inputs, none, o, none, saved);
  }

  // `far` products of m x D and `near` of a block's pairs (causal half) with rows of the width that
  // makes them, `values` with values.
  [[nodiscard]] double Flops(double far, double near, double values) const {
    const bool exact = problem.weights == PolysketchWeights::kExact;
    const bool sketched = problem.weights == PolysketchWeights::kSketched;
    const auto width = static_cast<double>(sketched ? problem.sketch_dim : kHeadDim);
    const auto block = static_cast<double>(exact ? problem.keys : problem.block);
    const auto products = static_cast<double>(SelfProducts(problem.sketch_dim));
    const double token =
        far * 2.0 * products * kHeadDim + block * (near * width + values * kHeadDim);
    return token * static_cast<double>(problem.queries * kHeads);
  }

  PolysketchProblem problem;
  Shape rows;
  Shape features;
  PolysketchInputs inputs;
  Tensor o;
  PolysketchSaved saved;
  PolysketchState none;
};

void BM_PolysketchForward(benchmark::State& state) {
  PolysketchRun run(state);
  Measure(state, run.problem.queries, run.Flops(2, 1, 1), static_cast<int>(state.range(4)),
          [&] { return run.Forward(); });
}

void BM_PolysketchBackward(benchmark::State& state) {
  PolysketchRun run(state);
  WEFT_CHECK(run.Forward().ok());
  const Tensor d_o = run.Filled(run.rows, 1.0);
  PolysketchGradients gradients;
  gradients.v = run.Filled(run.rows, 0.0);
  if (run.inputs.q.present()) {
    gradients.q = run.Filled(run.rows, 0.0);
    gradients.k = run.Filled(run.rows, 0.0);
  }
  if (run.inputs.phi_q.present()) {
    gradients.phi_q = run.Filled(run.features, 0.0);
    gradients.phi_k = run.Filled(run.features, 0.0);
  }
  Measure(state, run.problem.queries, run.Flops(5, 3, 2), static_cast<int>(state.range(4)), [&] {
    return PolysketchBackward(run.stream(), run.problem, run.inputs, run.none, run.o, run.saved,
                              d_o, run.none, gradients, run.none);
  });
}

void PolysketchArguments(benchmark::internal::Benchmark* bench) {
  constexpr auto kExact = static_cast<int64_t>(PolysketchWeights::kExact);
  constexpr auto kSketched = static_cast<int64_t>(PolysketchWeights::kSketched);
  constexpr auto kMixed = static_cast<int64_t>(PolysketchWeights::kMixed);
  bench->ArgNames({"weights", "T", "r", "b", "threads"})->UseRealTime();
  for (const int64_t tokens : {1024, 2048, 4096, 8192}) bench->Args({kExact, tokens, 0, 1024, 1});
  for (const int64_t tokens : {1024, 4096, 8192, 16384, 32768}) {
    bench->Args({kMixed, tokens, 32, 1024, 1});
    bench->Args({kSketched, tokens, 32, 128, 1});
  }
  for (const int64_t block : {64, 256}) bench->Args({kSketched, 8192, 32, block, 1});
  bench->Args({kMixed, 8192, 32, 256, 1});
  bench->Args({kMixed, 8192, 64, 1024, 1});
  bench->Args({kSketched, 8192, 64, 128, 1});
  bench->Args({kMixed, 8192, 32, 1024, 2});
  bench->Args({kSketched, 8192, 32, 128, 2});
}
BENCHMARK(BM_PolysketchForward)->Apply(PolysketchArguments);
BENCHMARK(BM_PolysketchBackward)->Apply(PolysketchArguments);

// One token for each of kHeads heads, the state updated in place: sketch dim, threads.
void BM_PolysketchDecode(benchmark::State& state) {
  Run run(static_cast<int>(state.range(1)));
  const PolysketchProblem problem{.weights = PolysketchWeights::kSketched,
                                  .queries = 1,
                                  .keys = 1,
                                  .heads = kHeads,
                                  .head_dim = kHeadDim,
                                  .sketch_dim = state.range(0)};
  const Tensor phi = run.Filled({1, 1, kHeads, problem.sketch_dim}, 1.0);
  const Tensor v = run.Filled({1, 1, kHeads, kHeadDim}, 1.0);
  PolysketchInputs inputs{.q = {}, .k = {}, .phi_q = phi, .phi_k = phi, .v = v, .valid = {}};
  PolysketchState past = NewPolysketchState(run.device(), problem).value();
  Tensor o = run.Filled(v.shape(), 0.0);
  PolysketchSaved unsaved;
  const double flops = 4.0 * static_cast<double>(SelfProducts(problem.sketch_dim) * kHeadDim);
  Measure(state, 1, flops * kHeads, static_cast<int>(state.range(1)),
          [&] { return PolysketchForward(run.stream(), problem, inputs, past, o, past, unsaved); });
}
BENCHMARK(BM_PolysketchDecode)
    ->ArgNames({"r", "threads"})
    ->Args({32, 1})
    ->Args({64, 1})
    ->UseRealTime();

// ---- Sketches: tokens, sketch dim, threads; of queries alone

void BM_RandomSketch(benchmark::State& state) {
  Run run(static_cast<int>(state.range(2)));
  const RandomSketchProblem problem{.input_dim = kHeadDim, .sketch_dim = state.range(1)};
  const int64_t rows = state.range(0) * kHeads;
  const Tensor x = run.Filled({rows, kHeadDim}, 1.0);
  const Tensor leaves = run.Filled({2, problem.sketch_dim, kHeadDim}, 1.0);
  Tensor phi = run.Filled({rows, problem.sketch_dim}, 0.0);
  Measure(state, state.range(0), static_cast<double>(4 * rows * kHeadDim * problem.sketch_dim),
          static_cast<int>(state.range(2)),
          [&] { return RandomSketchForward(run.stream(), problem, x, leaves, {}, phi); });
}

struct LearnedSketchRun : Run {
  explicit LearnedSketchRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(2))),
        problem{
            .input_dim = kHeadDim, .sketch_dim = state.range(1), .hidden_dim = 8 * state.range(1)},
        tokens(state.range(0)),
        x(Filled({tokens * kHeads, kHeadDim}, 1.0)),
        phi(Filled({tokens * kHeads, problem.sketch_dim}, 0.0)),
        weights(NewWeights()),
        gradients(NewWeights()) {}

  LearnedSketchWeights NewWeights() {
    LearnedSketchWeights stages;
    int64_t inputs = kHeadDim;
    for (SketchStage& stage : stages) {
      stage = {.norm_weight = Filled({2, inputs}, 1.0),
               .norm_bias = Filled({2, inputs}, 1.0),
               .expand = Filled({2, problem.hidden_dim, inputs}, 0.1),
               .contract = Filled({2, problem.sketch_dim, problem.hidden_dim}, 0.1)};
      inputs = problem.sketch_dim;
    }
    return stages;
  }
  // Of one pass through the network.
  [[nodiscard]] double Flops() const {
    const auto r = static_cast<double>(problem.sketch_dim);
    return static_cast<double>(tokens * kHeads) * (32.0 * kHeadDim * r + 96.0 * r * r);
  }

  LearnedSketchProblem problem;
  int64_t tokens;
  Tensor x, phi;
  LearnedSketchSaved saved;
  LearnedSketchWeights weights, gradients;
};

void BM_LearnedSketchForward(benchmark::State& state) {
  LearnedSketchRun run(state);
  Measure(state, run.tokens, run.Flops(), static_cast<int>(state.range(2)), [&] {
    return LearnedSketchForward(run.stream(), run.problem, run.x, run.weights, run.phi, run.saved);
  });
}

void BM_LearnedSketchBackward(benchmark::State& state) {
  LearnedSketchRun run(state);
  WEFT_CHECK(
      LearnedSketchForward(run.stream(), run.problem, run.x, run.weights, run.phi, run.saved).ok());
  const Tensor d_phi = run.Filled(run.phi.shape(), 1.0);
  Tensor d_x = run.Filled(run.x.shape(), 0.0);
  // Once more forward, twice as much backward.
  Measure(state, run.tokens, 3 * run.Flops(), static_cast<int>(state.range(2)), [&] {
    return LearnedSketchBackward(run.stream(), run.problem, run.x, run.weights, run.phi, run.saved,
                                 d_phi, d_x, Accumulate::kNo, run.gradients);
  });
}

void SketchArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "r", "threads"})->UseRealTime();
  bench->Args({2048, 32, 1})->Args({2048, 64, 1})->Args({2048, 32, 2});
}
BENCHMARK(BM_RandomSketch)->Apply(SketchArguments);
BENCHMARK(BM_LearnedSketchForward)->Apply(SketchArguments);
BENCHMARK(BM_LearnedSketchBackward)->Apply(SketchArguments);

}  // namespace
}  // namespace weft::kernels

// The delta rule, linear and softmax attention on CPU.
//
//   build/dev/bench/attention_bench --benchmark_filter=Delta
#include "kernels/bench/attention_bench.h"

#include "kernels/attention/delta/delta.h"
#include "kernels/attention/linear_attention/linear_attention.h"
#include "kernels/attention/softmax/softmax.h"

namespace weft::kernels {
namespace {

// ---- Delta rule: tokens, head dim, chunk, threads

struct DeltaRun : Run {
  explicit DeltaRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(3))),
        problem{.tokens = state.range(0),
                .heads = kHeads,
                .key_dim = state.range(1),
                .value_dim = state.range(1),
                .chunk = state.range(2)},
        keys{1, problem.tokens, kHeads, problem.key_dim},
        // Independent keys of length about one.
        q(Filled(keys, 0.15)),
        k(Filled(keys, 0.15)),
        v(Filled(keys, 1.0)),
        beta(Filled({1, problem.tokens, kHeads}, 0.5)),
        o(Filled(keys, 1.0)),
        saved(NewDeltaSaved(device(), problem).value()) {}

  absl::Status Forward() {
    return DeltaForward(stream(), problem, q, k, v, beta, none, o, none, saved);
  }

  DeltaProblem problem;
  Shape keys;
  Tensor q, k, v, beta, o, none;
  DeltaSaved saved;
};

// Of one iteration: 2 C d for a product of C x C x d, 2 d^2 for one of C x d x d, a token each.
double DeltaFlops(const DeltaProblem& p, double chunk_products, double state_products) {
  const auto d = static_cast<double>(p.key_dim);
  const auto chunk = static_cast<double>(std::min(p.chunk, p.tokens));
  return static_cast<double>(p.tokens * kHeads) *
         (chunk_products * 2.0 * chunk * d + state_products * 2.0 * d * d);
}

void BM_DeltaForward(benchmark::State& state) {
  DeltaRun run(state);
  // K K^T, Q K^T, P N and half for the triangular system; K S, Q S, K^T N.
  Measure(state, run.problem.tokens, DeltaFlops(run.problem, 3.5, 3.0),
          static_cast<int>(state.range(3)), [&] { return run.Forward(); });
}

void BM_DeltaBackward(benchmark::State& state) {
  DeltaRun run(state);
  WEFT_CHECK(run.Forward().ok());
  Tensor d_o = run.Filled(run.keys, 1.0);
  Tensor d_q = run.Filled(run.keys, 0.0);
  Tensor d_k = run.Filled(run.keys, 0.0);
  Tensor d_v = run.Filled(run.keys, 0.0);
  Tensor d_beta = run.Filled(run.beta.shape(), 0.0);
  // K K^T, Q K^T, P^T dO, dX N^T, dO N^T, dP K, dP^T Q, (dG + dG^T) K and half for the system;
  // S, K D, dX S^T, dO S^T, N D^T, Q^T dO, K^T dX.
  Measure(state, run.problem.tokens, DeltaFlops(run.problem, 8.5, 7.0),
          static_cast<int>(state.range(3)), [&] {
            return DeltaBackward(run.stream(), run.problem, run.q, run.k, run.beta, run.saved, d_o,
                                 run.none, d_q, d_k, d_v, d_beta, run.none);
          });
}

// One token for each of kHeads heads, the state updated in place: head dim, threads.
void BM_DeltaDecode(benchmark::State& state) {
  Run run(static_cast<int>(state.range(1)));
  const DeltaProblem problem{
      .tokens = 1, .heads = kHeads, .key_dim = state.range(0), .value_dim = state.range(0)};
  const Shape row{1, 1, kHeads, problem.key_dim};
  const Tensor x = run.Filled(row, 0.15);
  const Tensor beta = run.Filled({1, 1, kHeads}, 0.5);
  Tensor o = run.Filled(row, 0.0);
  Tensor s = run.Filled({1, kHeads, problem.key_dim, problem.value_dim}, 0.1);
  DeltaSaved none;
  Measure(state, 1, DeltaFlops(problem, 0.0, 3.0), static_cast<int>(state.range(1)),
          [&] { return DeltaForward(run.stream(), problem, x, x, x, beta, s, o, s, none); });
}
BENCHMARK(BM_DeltaDecode)->ArgNames({"D", "threads"})->Args({64, 1})->Args({128, 1})->UseRealTime();

void DeltaArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "D", "C", "threads"})->UseRealTime();
  for (const int64_t tokens : {256, 512, 1024, 2048, 4096, 8192, 16384, 32768}) {
    bench->Args({tokens, 128, 64, 1});
  }
  for (const int64_t dim : {32, 64}) bench->Args({2048, dim, 64, 1});
  for (const int64_t chunk : {32, 128}) bench->Args({2048, 128, chunk, 1});
  bench->Args({2048, 128, 64, 2});
}
BENCHMARK(BM_DeltaForward)->Apply(DeltaArguments);
BENCHMARK(BM_DeltaBackward)->Apply(DeltaArguments);

// ---- Linear attention, causal: tokens, head dim, rows of exponential features (0: squares),
// chunk, threads

struct LinearAttentionRun : Run {
  explicit LinearAttentionRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(4))),
        problem{
            .batch = 2,  // with kHeads: enough heads to compute each in turn
            .tokens = state.range(0) / 2,
            .heads = kHeads,
            .key_dim = state.range(1),
            .value_dim = state.range(1),
            .features = {.feature = state.range(2) == 0 ? Feature::kSquare : Feature::kExponential,
                         .rows = state.range(2),
                         .scale = 0.5},
            .chunk = state.range(3)},
        keys{2, problem.tokens, kHeads, problem.key_dim},
        inputs{.q = Filled(keys, 1.0),
               .k = Filled(keys, 1.0),
               .v = Filled(keys, 1.0),
               .projection = {},
               .valid = {}},
        o(Filled(keys, 1.0)),
        saved(NewLinearAttentionSaved(device(), problem).value()) {
    if (problem.features.rows > 0) {
      inputs.projection = Filled({problem.features.rows, problem.key_dim}, 1.0);
    }
  }

  absl::Status Forward() {
    return LinearAttentionForward(stream(), problem, inputs, none, o, none, saved);
  }

  // Of products of a chunk (C M and C Dv each), of the state (M Dv) and of the projection (M Dk).
  [[nodiscard]] double Flops(double features_chunk, double values_chunk, double state,
                             double projection) const {
    const auto width = static_cast<double>(problem.value_dim);
    const auto features = static_cast<double>(FeatureCount(problem.features, problem.key_dim));
    const auto chunk = static_cast<double>(std::min(problem.chunk, problem.tokens));
    const double project = problem.features.rows > 0 ? projection : 0.0;
    return static_cast<double>(problem.batch * problem.tokens * kHeads) * 2.0 *
           (features_chunk * chunk * features + values_chunk * chunk * width +
            (state + project) * features * width);
  }

  LinearAttentionProblem problem;
  Shape keys;
  LinearAttentionInputs inputs;
  Tensor o, none;
  LinearAttentionSaved saved;
};

void BM_LinearAttentionForward(benchmark::State& state) {
  LinearAttentionRun run(state);
  // Q'K'^T; A V; Q'R, K'^T V; Q W^T, K W^T.
  Measure(state, state.range(0), run.Flops(1.0, 1.0, 2.0, 2.0), static_cast<int>(state.range(4)),
          [&] { return run.Forward(); });
}

void BM_LinearAttentionBackward(benchmark::State& state) {
  LinearAttentionRun run(state);
  WEFT_CHECK(run.Forward().ok());
  Tensor d_o = run.Filled(run.keys, 1.0);
  Tensor d_q = run.Filled(run.keys, 0.0);
  Tensor d_k = run.Filled(run.keys, 0.0);
  Tensor d_v = run.Filled(run.keys, 0.0);
  // Q'K'^T, dA K', dA^T Q'; N V^T, A^T N; K'^T V, N R^T, V dR^T, K'dR, Q'^T N; Q W^T, K W^T and
  // their gradients.
  Measure(state, state.range(0), run.Flops(3.0, 2.0, 5.0, 4.0), static_cast<int>(state.range(4)),
          [&] {
            return LinearAttentionBackward(run.stream(), run.problem, run.inputs, run.o, run.saved,
                                           d_o, run.none, d_q, d_k, d_v, run.none);
          });
}

void LinearAttentionArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "D", "rows", "C", "threads"})->UseRealTime();
  for (const int64_t rows : {0, 256}) {
    for (const int64_t tokens : {1024, 4096, 8192, 16384, 32768}) {
      bench->Args({tokens, 64, rows, 64, 1});
    }
    for (const int64_t chunk : {32, 128}) bench->Args({4096, 64, rows, chunk, 1});
  }
  bench->Args({4096, 128, 0, 64, 1});
  bench->Args({4096, 64, 0, 64, 2});
}
BENCHMARK(BM_LinearAttentionForward)->Apply(LinearAttentionArguments);
BENCHMARK(BM_LinearAttentionBackward)->Apply(LinearAttentionArguments);

// ---- Softmax, causal: tokens, head dim, window, threads

struct SoftmaxRun : Run {
  explicit SoftmaxRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(3))),
        problem{.queries = state.range(0),
                .keys = state.range(0),
                .heads = kHeads,
                .kv_heads = kHeads,
                .head_dim = state.range(1),
                .scale = 0.1,
                .window = state.range(2)},
        rows{1, problem.queries, kHeads, problem.head_dim},
        q(Filled(rows, 1.0)),
        k(Filled(rows, 1.0)),
        v(Filled(rows, 1.0)),
        o(Filled(rows, 1.0)),
        lse(Filled({1, kHeads, problem.queries}, 1.0)) {}

  absl::Status Forward() { return SoftmaxForward(stream(), problem, q, k, v, valid, o, lse); }

  // Of `products` of the queries with the keys they see.
  [[nodiscard]] double Flops(double products) const {
    const auto tokens = static_cast<double>(problem.queries);
    const auto window =
        problem.window == 0 ? tokens : std::min(tokens, static_cast<double>(problem.window));
    const double pairs = window * (tokens - window) + window * window / 2.0;
    return products * 2.0 * static_cast<double>(kHeads * problem.head_dim) * pairs;
  }

  SoftmaxProblem problem;
  Shape rows;
  Tensor q, k, v, o, lse;
  Tensor valid;  // no padding
};

void BM_SoftmaxForward(benchmark::State& state) {
  SoftmaxRun run(state);
  Measure(state, run.problem.queries, run.Flops(2.0), static_cast<int>(state.range(3)),
          [&] { return run.Forward(); });
}

void BM_SoftmaxBackward(benchmark::State& state) {
  SoftmaxRun run(state);
  WEFT_CHECK(run.Forward().ok());
  Tensor d_o = run.Filled(run.rows, 1.0);
  Tensor d_q = run.Filled(run.rows, 0.0);
  Tensor d_k = run.Filled(run.rows, 0.0);
  Tensor d_v = run.Filled(run.rows, 0.0);
  Measure(state, run.problem.queries, run.Flops(5.0), static_cast<int>(state.range(3)), [&] {
    return SoftmaxBackward(run.stream(), run.problem, run.q, run.k, run.v, run.valid, run.o,
                           run.lse, d_o, d_q, d_k, d_v);
  });
}

void SoftmaxArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "D", "window", "threads"})->UseRealTime();
  for (const int64_t tokens : {256, 512, 1024, 2048, 4096, 8192}) bench->Args({tokens, 64, 0, 1});
  bench->Args({2048, 128, 0, 1});
  bench->Args({8192, 64, 512, 1});
  bench->Args({2048, 64, 0, 2});
}
BENCHMARK(BM_SoftmaxForward)->Apply(SoftmaxArguments);
BENCHMARK(BM_SoftmaxBackward)->Apply(SoftmaxArguments);

}  // namespace
}  // namespace weft::kernels

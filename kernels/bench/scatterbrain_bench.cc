// Scatterbrain on CPU: time per token over the length of the sequence, and over how much of it is
// exact.
//
//   build/dev/bench/attention_bench --benchmark_filter=Scatterbrain
#include <numeric>

#include "kernels/attention/scatterbrain/scatterbrain.h"
#include "kernels/bench/attention_bench.h"

namespace weft::kernels {
namespace {

constexpr int64_t kHeadDim = 64;

// Kinds of support; `size` is the window, the bucket (in two rounds), or the block (in a window of
// three, with one global).
enum Kind : int64_t { kNone, kWindow, kHash, kBlocks };

ExactSupport SupportOf(Kind kind, int64_t size, int64_t tokens, bool causal) {
  switch (kind) {
    case kNone:
      return {};
    case kWindow:
      return WindowSupport{size};
    case kHash:
      return HashSupport{2, size, size};
    case kBlocks:
      return BlockSupport{NewBlockLayout({.block = size, .window = 3, .global = 1}, tokens, tokens,
                                         causal, 1, {.tag = RandomTag::kHashProjections})
                              .value()};
  }
  return {};
}

// Kind, size, tokens, features, causal, threads.
struct ScatterbrainRun : Run {
  explicit ScatterbrainRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(5))),
        kind(static_cast<Kind>(state.range(0))),
        size(state.range(1)),
        problem{.queries = state.range(2),
                .keys = state.range(2),
                .heads = kHeads,
                .key_dim = kHeadDim,
                .value_dim = kHeadDim,
                .scale = 0.125,
                .causal = state.range(4) != 0,
                .features = state.range(3),
                .support = SupportOf(kind, size, state.range(2), state.range(4) != 0)},
        rows{1, problem.queries, kHeads, kHeadDim},
        in{.q = Filled(rows, 1.0),
           .k = Filled(rows, 0.9),
           .v = Filled(rows, 1.0),
           .w = Filled({problem.feature_rows(), kHeadDim}, 1.7),
           .valid = {},
           .buckets = {}},
        o(Filled(rows, 0.0)),
        saved(NewScatterbrainSaved(device(), problem).value()) {
    if (kind != kHash) return;
    projections = Filled({2, kHeadDim + 2}, 1.7);
    in.buckets = NewHashBuckets(device(), problem).value();
    WEFT_CHECK(Hash().ok());
  }

  absl::Status Hash() {
    return HashBuckets(stream(), problem, in.q, in.k, projections, in.valid, in.buckets);
  }
  absl::Status Forward() { return ScatterbrainForward(stream(), problem, in, o, saved); }

  // Exact pairs.
  [[nodiscard]] double Pairs() const {
    const auto tokens = static_cast<double>(problem.queries);
    if (kind == kNone) return 0.0;
    if (kind == kWindow) return tokens * static_cast<double>(problem.causal ? size / 2 + 1 : size);
    if (kind == kHash) return 2.0 * tokens * static_cast<double>(size);
    const auto& layout = *std::get<BlockSupport>(problem.support).layout;
    return layout.Density(problem.causal) * tokens * tokens * (problem.causal ? 0.5 : 1.0);
  }
  // Of `products` with W, `sums` of features with values and `pairs` with rows of width D, all
  // equal here but for the features.
  [[nodiscard]] double Flops(double products, double sums, double dims, double features) const {
    const auto tokens = static_cast<double>(problem.queries);
    const auto r = static_cast<double>(problem.features);
    return 2.0 * kHeads *
           (tokens * kHeadDim *
                (products * static_cast<double>(problem.feature_rows()) + sums * r) +
            Pairs() * (dims * kHeadDim + features * r));
  }

  Kind kind;
  int64_t size;
  ScatterbrainProblem problem;
  Shape rows;
  ScatterbrainOperands in;
  Tensor o, projections;
  ScatterbrainSaved saved;
};

void BM_ScatterbrainForward(benchmark::State& state) {
  ScatterbrainRun run(state);
  // W with queries and keys; sums of keys, and their products with queries; logits and products of
  // features, and the sum of values.
  Measure(state, run.problem.queries, run.Flops(2, 2, 2, 1), static_cast<int>(state.range(5)),
          [&] { return run.Forward(); });
}

void BM_ScatterbrainBackward(benchmark::State& state) {
  ScatterbrainRun run(state);
  WEFT_CHECK(run.Forward().ok());
  Tensor d_o = run.Filled(run.rows, 1.0);
  Tensor d_q = run.Filled(run.rows, 0.0);
  Tensor d_k = run.Filled(run.rows, 0.0);
  Tensor d_v = run.Filled(run.rows, 0.0);
  // The features and sums again, and twice as much for their gradients; of each pair 3 D for
  // logits, 2 D for values, 3 r for features.
  Measure(state, run.problem.queries, run.Flops(4, 5, 5, 3), static_cast<int>(state.range(5)), [&] {
    return ScatterbrainBackward(run.stream(), run.problem, run.in, run.o, run.saved, d_o, d_q, d_k,
                                d_v);
  });
}

void BM_ScatterbrainHash(benchmark::State& state) {
  ScatterbrainRun run(state);
  Measure(state, run.problem.queries, 8.0 * static_cast<double>(run.problem.queries * kHeads * 66),
          static_cast<int>(state.range(5)), [&] { return run.Hash(); });
}

void Names(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"kind", "size", "T", "r", "causal", "threads"})->UseRealTime();
}

void ScatterbrainArguments(benchmark::internal::Benchmark* bench) {
  Names(bench);
  for (const int64_t tokens : {1024, 4096, 8192, 16384, 32768}) {
    bench->Args({kWindow, 64, tokens, 64, 1, 1});
    bench->Args({kWindow, 64, tokens, 64, 0, 1});
    bench->Args({kHash, 32, tokens, 64, 0, 1});
  }
  // The same length with more and more of it exact.
  bench->Args({kNone, 0, 4096, 64, 0, 1});
  for (const int64_t window : {128, 512, 2048}) bench->Args({kWindow, window, 4096, 64, 0, 1});
  for (const int64_t bucket : {16, 64, 256}) bench->Args({kHash, bucket, 4096, 64, 0, 1});
  for (const int64_t block : {16, 32, 64}) bench->Args({kBlocks, block, 4096, 64, 0, 1});
  bench->Args({kBlocks, 32, 4096, 64, 1, 1});
  bench->Args({kWindow, 64, 4096, 266, 1, 1});
  bench->Args({kWindow, 64, 4096, 64, 0, 2});
  bench->Args({kHash, 32, 4096, 64, 0, 2});
}
BENCHMARK(BM_ScatterbrainForward)->Apply(ScatterbrainArguments);
BENCHMARK(BM_ScatterbrainBackward)->Apply(ScatterbrainArguments);
BENCHMARK(BM_ScatterbrainHash)->Apply(Names)->Args({kHash, 32, 4096, 64, 0, 1});

// One token for each of kHeads heads: kind, size, tokens before, features, threads.
void BM_ScatterbrainDecode(benchmark::State& state) {
  Run run(static_cast<int>(state.range(4)));
  const int64_t tokens = state.range(2);
  const ScatterbrainProblem problem{.queries = 1 << 28,
                                    .keys = 1 << 28,
                                    .heads = kHeads,
                                    .key_dim = kHeadDim,
                                    .value_dim = kHeadDim,
                                    .scale = 0.125,
                                    .causal = true,
                                    .features = state.range(3),
                                    .support = WindowSupport{state.range(1)}};
  const Tensor x = run.Filled({1, 1, kHeads, kHeadDim}, 0.5);
  const Tensor w = run.Filled({problem.feature_rows(), kHeadDim}, 1.7);
  Tensor o = run.Filled({1, 1, kHeads, kHeadDim}, 0.0);
  ScatterbrainState memory = NewScatterbrainState(run.device(), problem).value();
  for (int64_t t = 0; t < tokens; ++t) {
    WEFT_CHECK(ScatterbrainDecode(run.stream(), problem, x, x, x, w, memory, o).ok());
  }
  Measure(state, 1, 0.0, static_cast<int>(state.range(4)),
          [&] { return ScatterbrainDecode(run.stream(), problem, x, x, x, w, memory, o); });
}
BENCHMARK(BM_ScatterbrainDecode)
    ->ArgNames({"kind", "size", "T", "r", "threads"})
    ->UseRealTime()
    ->Args({kWindow, 64, 100, 64, 1})
    ->Args({kWindow, 64, 5000, 64, 1});

}  // namespace
}  // namespace weft::kernels

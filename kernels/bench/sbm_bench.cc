// SBM attention on CPU: drawing the graph, attending along it, its gradients, and the memberships.
// With a number of edges for each query the time of a token stays as the sequence grows; with a
// share of all pairs it grows with the length, as the edges do.
//
//   build/dev/bench/attention_bench --benchmark_filter=Sbm
//
// Work is counted along the edges. "ns/edge" is of an edge of one head.
#include <cmath>

#include "kernels/attention/sbm/memberships.h"
#include "kernels/attention/sbm/sbm.h"
#include "kernels/bench/attention_bench.h"

namespace weft::kernels {
namespace {

// Arguments: tokens, edges for a thousand queries' pairs or for each query, clusters, threads, way.
enum Way : int64_t { kByDensity, kUnderMask, kAlongLists };

struct SbmRun : Run {
  SbmRun(const benchmark::State& state, double share, SbmSampler sampler = SbmSampler::kPoisson)
      : Run(static_cast<int>(state.range(3))),
        problem{.queries = state.range(0),
                .keys = state.range(0),
                .heads = kHeads,
                .head_dim = 32,
                .clusters = state.range(2),
                .scale = 0.18,
                .sampler = sampler,
                .exploration = 0.0,
                .dense_above = DenseAbove(state.range(4))},
        rows{1, problem.queries, kHeads, problem.head_dim},
        saved{.q = Filled(rows, 1.0),
              .k = Filled(rows, 1.0),
              .v = Filled(rows, 1.0),
              .o = Filled(rows, 1.0),
              .lse = Filled({1, kHeads, problem.queries}, 1.0),
              .memberships = NewMemberships(),
              .valid = {},
              .graph = NewSbmGraph(device(), problem).value()} {
    // Memberships that vary from token to token, with the wanted product on average.
    for (Tensor* const members : {&saved.memberships.query, &saved.memberships.key}) {
      auto* const x = members->data<float>();
      for (int64_t n = 0; n < members->count(); ++n) {
        x[n] = static_cast<float>(std::sqrt(share)) * (1.0F + 0.9F * x[n]);
      }
    }
    auto* const affinity = saved.memberships.affinity.data<float>();
    const auto even =
        static_cast<float>(1.0 / static_cast<double>(state.range(2) * state.range(2)));
    std::fill_n(affinity, saved.memberships.affinity.count(), even);
    WEFT_CHECK(Sample().ok());
    for (int64_t h = 0; h < kHeads; ++h) {
      edges += static_cast<double>(saved.graph.density.data<float>()[h]) *
               static_cast<double>(problem.keys * problem.queries);
    }
  }

  static double DenseAbove(int64_t way) {
    return way == kUnderMask ? 0.0 : way == kAlongLists ? 2.0 : SbmProblem{}.dense_above;
  }
  SbmMemberships NewMemberships() {
    const Shape shape{1, kHeads, problem.queries, problem.clusters};
    return {.query = Filled(shape, 1.0),
            .key = Filled(shape, 1.0),
            .affinity = Filled({kHeads, problem.clusters, problem.clusters}, 1.0)};
  }

  absl::Status Sample() {
    return SbmSampleGraph(stream(), problem, {}, saved.memberships, saved.valid, saved.graph);
  }
  absl::Status Forward() {
    return SbmForward(stream(), problem, saved.q, saved.k, saved.v, saved.graph, saved.o,
                      saved.lse);
  }
  template <typename Work>
  void Time(benchmark::State& state, double flops_an_edge, Work work) {
    Measure(state, problem.queries, flops_an_edge * edges, static_cast<int>(state.range(3)), work);
    state.counters["ns/edge"] = benchmark::Counter(
        edges * 1e-9, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  }

  SbmProblem problem;
  Shape rows;
  SbmSaved saved;
  double edges = 0.0;  // of all heads
};

double Share(const benchmark::State& state) {
  // Up to 1000: thousandths of all pairs. Above: a number of edges for each query, plus 1000.
  const auto wanted = static_cast<double>(state.range(1));
  return wanted <= 1000.0 ? wanted / 1000.0
                          : (wanted - 1000.0) / static_cast<double>(state.range(0));
}

void BM_SbmSample(benchmark::State& state) {
  SbmRun run(state, Share(state));
  run.Time(state, 1.0, [&] { return run.Sample(); });
}

void BM_SbmSampleExact(benchmark::State& state) {
  SbmRun run(state, Share(state), SbmSampler::kExact);
  run.Time(state, 2.0 * static_cast<double>(run.problem.clusters), [&] { return run.Sample(); });
}

void BM_SbmSampleDense(benchmark::State& state) {
  SbmRun run(state, Share(state), SbmSampler::kDense);
  run.Time(state, 2.0 * static_cast<double>(run.problem.clusters), [&] { return run.Sample(); });
}

void BM_SbmForward(benchmark::State& state) {
  SbmRun run(state, Share(state));
  run.Time(state, 4.0 * static_cast<double>(run.problem.head_dim), [&] { return run.Forward(); });
}

void BM_SbmBackward(benchmark::State& state) {
  SbmRun run(state, Share(state));
  WEFT_CHECK(run.Forward().ok());
  const Tensor d_o = run.Filled(run.rows, 1.0);
  Tensor d_q = run.Filled(run.rows, 0.0);
  Tensor d_k = run.Filled(run.rows, 0.0);
  Tensor d_v = run.Filled(run.rows, 0.0);
  SbmMemberships d_memberships = run.NewMemberships();
  run.Time(state, static_cast<double>(10 * run.problem.head_dim + 4 * run.problem.clusters), [&] {
    return SbmBackward(run.stream(), run.problem, run.saved, d_o, d_q, d_k, d_v, d_memberships);
  });
}

void SbmArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "edges", "K", "threads", "way"})->UseRealTime();
  for (const int64_t tokens : {1024, 2048, 4096, 8192, 16384, 32768}) {
    bench->Args({tokens, 1064, 128, 1, kByDensity});  // 64 edges a query
  }
  for (const int64_t share : {5, 20, 60, 100, 150, 250}) {
    for (const int64_t way : {kUnderMask, kAlongLists}) {
      bench->Args({2048, share, 128, 1, way});
    }
  }
  bench->Args({2048, 250, 128, 2, kByDensity});
}
BENCHMARK(BM_SbmForward)->Apply(SbmArguments);
BENCHMARK(BM_SbmBackward)->Apply(SbmArguments);

void SampleArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "edges", "K", "threads", "way"})->UseRealTime();
  for (const int64_t tokens : {1024, 2048, 4096, 8192}) bench->Args({tokens, 1064, 128, 1, 0});
  for (const int64_t share : {20, 100, 250}) bench->Args({2048, share, 128, 1, 0});
  for (const int64_t clusters : {8, 32}) bench->Args({2048, 250, clusters, 1, 0});
  bench->Args({2048, 250, 128, 2, 0});
}
BENCHMARK(BM_SbmSample)->Apply(SampleArguments);
BENCHMARK(BM_SbmSampleExact)->Apply(SampleArguments);
BENCHMARK(BM_SbmSampleDense)->Apply(SampleArguments);

// ---- Memberships: tokens, clusters, threads

struct MembershipRun : Run {
  explicit MembershipRun(const benchmark::State& state)
      : Run(static_cast<int>(state.range(2))),
        x(Filled({1, state.range(0), kHeads, 32}, 1.0)),
        members(Filled({1, kHeads, state.range(0), state.range(1)}, 1.0)),
        model(NewModel(state.range(1))) {}

  SbmClusterModel NewModel(int64_t clusters) {
    return {.w1 = Filled({32, 32}, 0.2),
            .w2 = Filled({32, 32}, 0.2),
            .b1 = Filled({32}, 0.2),
            .b2 = Filled({32}, 0.2),
            .clusters = Filled({kHeads, clusters, 32}, 0.1)};
  }
  [[nodiscard]] double Flops(double squares, double products) const {
    return static_cast<double>(x.count()) *
           (squares * 2.0 * 32 + products * 2.0 * static_cast<double>(members.dim(3)));
  }

  Tensor x, members;
  SbmClusterModel model;
};

void BM_SbmMembershipForward(benchmark::State& state) {
  MembershipRun run(state);
  Measure(state, state.range(0), run.Flops(2, 1), static_cast<int>(state.range(2)),
          [&] { return SbmMembershipForward(run.stream(), run.x, run.model, run.members); });
}

void BM_SbmMembershipBackward(benchmark::State& state) {
  MembershipRun run(state);
  SbmClusterModel d_model = run.NewModel(state.range(1));
  Tensor d_x = run.Filled(run.x.shape(), 0.0);
  const Tensor d_members = run.Filled(run.members.shape(), 0.0);
  Measure(state, state.range(0), run.Flops(6, 2), static_cast<int>(state.range(2)), [&] {
    return SbmMembershipBackward(run.stream(), run.x, run.model, run.members, d_members, d_x,
                                 Accumulate::kYes, d_model);
  });
}

void MembershipArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "K", "threads"})->UseRealTime();
  bench->Args({2048, 128, 1})->Args({2048, 16, 1})->Args({2048, 128, 2});
}
BENCHMARK(BM_SbmMembershipForward)->Apply(MembershipArguments);
BENCHMARK(BM_SbmMembershipBackward)->Apply(MembershipArguments);

}  // namespace
}  // namespace weft::kernels

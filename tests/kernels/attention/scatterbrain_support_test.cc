// Where Scatterbrain is exact: hashing into buckets, block layouts, and what is refused.
#include <gtest/gtest.h>

#include <set>

#include "kernels/attention/scatterbrain/cuda/block_groups.h"
#include "tests/kernels/attention/scatterbrain_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

// ---- Hashing

ScatterbrainProblem HashProblem(int64_t queries, int64_t keys, HashSupport support) {
  return {.batch = 2,
          .queries = queries,
          .keys = keys,
          .heads = 3,
          .key_dim = 5,
          .value_dim = 1,
          .features = 2,
          .support = support};
}

Values Projections(const ScatterbrainProblem& problem,
                   const DrawSite& site = {
                       .tag = RandomTag::kHashProjections, .step = 3, .layer = 1}) {
  DeviceRun run = DeviceRun::Reference();
  Tensor projections =
      run.NewSum({std::get<HashSupport>(problem.support).rounds, problem.key_dim + 2});
  EXPECT_OK(DrawHashProjections(run.stream(), problem, /*seed=*/11, site, projections));
  return run.Download(projections);
}

struct BucketIds {
  Ids queries, keys;
  friend bool operator==(const BucketIds&, const BucketIds&) = default;
};

BucketIds RunHash(DeviceRun run, const ScatterbrainInputs& in, const Values& projections) {
  const ScatterbrainProblem& p = in.problem;
  const ScatterbrainOperands operands = UploadScatterbrain(run, in);
  HashBucketTensors buckets = NewHashBuckets(run.device(), p).value();
  const int64_t rounds = std::get<HashSupport>(p.support).rounds;
  EXPECT_OK(HashBuckets(run.stream(), p, operands.q, operands.k,
                        run.UploadSum(projections, {rounds, p.key_dim + 2}), operands.valid,
                        buckets));
  const auto download = [&](const Tensor& tensor) {
    Ids ids(tensor.count());
    EXPECT_OK(run.device().CopyToHost(ids.data(), tensor, run.stream()));
    return ids;
  };
  return {download(buckets.queries), download(buckets.keys)};
}

// What a GPU is told of a layout: tiles of 64 tokens meet groups of 32 where any of their pairs is
// exact and seen.
TEST(BlockGroupsTest, NameTheGroupsThatHoldExactPairs) {
  for (const bool causal : {false, true}) {
    for (const int64_t block : {16, 50, 100}) {
      const int64_t tokens = 230;
      const auto layout = NewBlockLayout({.block = block, .window = 1, .random = 1}, tokens, tokens,
                                         causal, 3, {.tag = RandomTag::kHashProjections})
                              .value();
      const auto by_queries = scatterbrain_cuda::GroupsByQueries(*layout, tokens, tokens, causal);
      const auto by_keys = scatterbrain_cuda::GroupsByKeys(*layout, tokens, tokens, causal);
      std::set<std::pair<int64_t, int64_t>> queries, keys;  // tile, group
      for (int64_t i = 0; i < tokens; ++i) {
        for (int64_t j = 0; j < (causal ? i + 1 : tokens); ++j) {
          if (!layout->exact(i / block, j / block)) continue;
          queries.emplace(i / 64, j / 32);
          keys.emplace(j / 64, i / 32);
        }
      }
      const auto listed = [](const scatterbrain_cuda::BlockGroups& groups) {
        std::set<std::pair<int64_t, int64_t>> pairs;
        for (size_t tile = 0; tile + 1 < groups.starts.size(); ++tile) {
          for (int32_t n = groups.starts[tile]; n < groups.starts[tile + 1]; ++n) {
            EXPECT_TRUE(pairs.emplace(tile, groups.groups[n]).second);
          }
        }
        return pairs;
      };
      // A causal tile may meet a group of which all exact pairs lie in the future.
      const auto holds = [&](const auto& all, const auto& needed) {
        return std::includes(all.begin(), all.end(), needed.begin(), needed.end());
      };
      EXPECT_TRUE(holds(listed(by_queries), queries)) << block;
      EXPECT_TRUE(holds(listed(by_keys), keys)) << block;
      if (causal) continue;
      EXPECT_EQ(listed(by_queries), queries) << block;
      EXPECT_EQ(listed(by_keys), keys) << block;
    }
  }
}

TEST(HashBucketsTest, AreEqualOnAllDevices) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{50, 50}, {47, 39}, {1, 1}}) {
    for (const bool padded : {false, true}) {
      const int64_t buckets = std::min<int64_t>(queries, 6);
      const ScatterbrainInputs in = RandomScatterbrain(
          HashProblem(queries, keys,
                      {3, (queries + buckets - 1) / buckets, (keys + buckets - 1) / buckets}),
          /*seed=*/1, padded);
      const Values projections = Projections(in.problem);
      const BucketIds want = RunHash(DeviceRun::Reference(), in, projections);
      EXPECT_EQ(RunHash(DeviceRun::Cpu(1), in, projections), want);
      EXPECT_EQ(RunHash(DeviceRun::Cpu(3), in, projections), want);
    }
  }
}

TEST(HashBucketsTest, AreBalancedAndLeavePaddingOut) {
  const ScatterbrainInputs in =
      RandomScatterbrain(HashProblem(50, 50, {2, 8, 8}), /*seed=*/5, /*padded=*/true);
  const BucketIds ids = RunHash(DeviceRun::Cpu(), in, Projections(in.problem));
  for (const Ids& side : {ids.queries, ids.keys}) {
    for (int64_t row = 0; row < 2 * 3 * 2; ++row) {
      std::vector<int64_t> count(7);
      int64_t real = 0;
      for (int64_t t = 0; t < 50; ++t) {
        const bool padding = in.valid[row / 6 * 50 + t] == 0;
        ASSERT_EQ(side[row * 50 + t] < 0, padding);
        if (padding) continue;
        ++count[side[row * 50 + t]];
        ++real;
      }
      for (int64_t bucket = 0; bucket < 7; ++bucket) {
        EXPECT_EQ(count[bucket], std::clamp<int64_t>(real - 8 * bucket, 0, 8));
      }
    }
  }
}

// The asymmetric vectors written out: their distance falls with the product of query and key, and
// the ranks of their projections are the buckets.
TEST(HashBucketsTest, SortProjectionsOfVectorsWhoseDistanceIsTheProduct) {
  ScatterbrainInputs in = RandomScatterbrain(HashProblem(20, 20, {1, 4, 4}));
  const Values projection = Projections(in.problem);
  const BucketIds ids = RunHash(DeviceRun::Reference(), in, projection);
  const auto row = [&](const Values& values, int64_t t) {
    return Values(values.begin() + t * 15, values.begin() + t * 15 + 5);  // head 0 of batch 0
  };
  const auto dot = [](const Values& a, const Values& b) {
    double sum = 0.0;
    for (size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
    return sum;
  };
  double squares = 0.0;
  for (const Values* side : {&in.q, &in.k}) {
    double largest = 0.0;
    for (int64_t t = 0; t < 20; ++t) {
      largest = std::max(largest, dot(row(*side, t), row(*side, t)));
    }
    squares += largest;
  }
  std::vector<Values> queries, keys;
  for (int64_t t = 0; t < 20; ++t) {
    Values q = row(in.q, t);
    q.push_back(0.0);
    q.push_back(std::sqrt(squares - dot(row(in.q, t), row(in.q, t))));
    queries.push_back(q);
    Values k = row(in.k, t);
    k.push_back(std::sqrt(squares - dot(row(in.k, t), row(in.k, t))));
    k.push_back(0.0);
    keys.push_back(k);
  }
  for (int64_t i = 0; i < 20; ++i) {
    for (int64_t j = 0; j < 20; ++j) {
      double distance = 0.0;
      for (int64_t d = 0; d < 7; ++d) {
        distance += (queries[i][d] - keys[j][d]) * (queries[i][d] - keys[j][d]);
      }
      EXPECT_NEAR(distance, 2.0 * (squares - dot(row(in.q, i), row(in.k, j))), 1e-13);
    }
  }
  const auto expect_ranks = [&](const std::vector<Values>& vectors, const Ids& buckets) {
    for (int64_t t = 0; t < 20; ++t) {
      int32_t rank = 0;
      for (const Values& other : vectors) {
        if (dot(projection, other) < dot(projection, vectors[t])) ++rank;
      }
      EXPECT_EQ(buckets[t], rank / 4) << t;
    }
  };
  expect_ranks(queries, ids.queries);
  expect_ranks(keys, ids.keys);
}

TEST(HashBucketsTest, EqualHashesGoByIndex) {
  ScatterbrainInputs in = RandomScatterbrain(HashProblem(12, 12, {1, 4, 4}));
  std::fill(in.q.begin(), in.q.end(), 0.5);
  const BucketIds ids = RunHash(DeviceRun::Cpu(), in, Projections(in.problem));
  for (int64_t t = 0; t < 12; ++t) EXPECT_EQ(ids.queries[t], t / 4);
}

TEST(HashBucketsTest, ProjectionsDependOnStepTagAndRound) {
  const ScatterbrainProblem problem = HashProblem(12, 12, {2, 4, 4});
  const auto draw = [&](const DrawSite& site) { return Projections(problem, site); };
  const Values training = draw({.tag = RandomTag::kHashProjections, .step = 1});
  EXPECT_EQ(draw({.tag = RandomTag::kHashProjections, .step = 1}), training);
  EXPECT_NE(draw({.tag = RandomTag::kHashProjections, .step = 2}), training);
  EXPECT_NE(draw({.tag = RandomTag::kEvaluation, .step = 1}), training);
  EXPECT_NE(Values(training.begin(), training.begin() + 7),
            Values(training.begin() + 7, training.end()));
  DeviceRun run = DeviceRun::Cpu();
  Tensor projections = run.NewSum({2, 7});
  ASSERT_OK(DrawHashProjections(run.stream(), problem, /*seed=*/11,
                                {.tag = RandomTag::kHashProjections, .step = 1}, projections));
  EXPECT_EQ(run.Download(projections), training);
}

// ---- Block layouts

std::string Drawn(const BlockLayout& layout) {
  std::string text;
  for (int64_t i = 0; i < layout.query_blocks(); ++i) {
    for (int64_t j = 0; j < layout.key_blocks(); ++j) text += layout.exact(i, j) ? 'x' : '.';
    text += '\n';
  }
  return text;
}

std::string DrawnPattern(const BlockPattern& pattern, int64_t tokens, bool causal) {
  return Drawn(*NewBlockLayout(pattern, tokens, tokens, causal, 1, {}).value());
}

TEST(BlockLayoutTest, PatternsAreTheirUnions) {
  EXPECT_EQ(DrawnPattern({.block = 4, .window = 3}, 19, false),
            "xx...\n"
            "xxx..\n"
            ".xxx.\n"
            "..xxx\n"
            "...xx\n");
  EXPECT_EQ(DrawnPattern({.block = 4, .window = 1, .global = 1}, 20, false),
            "xxxxx\n"
            "xx...\n"
            "x.x..\n"
            "x..x.\n"
            "x...x\n");
  EXPECT_EQ(DrawnPattern({.block = 4, .window = 1, .global = 1}, 20, true),
            "x....\n"
            "xx...\n"
            "x.x..\n"
            "x..x.\n"
            "x...x\n");
  EXPECT_EQ(DrawnPattern({.block = 4, .window = 0, .stride = 3, .summary = 1}, 24, true),
            "x.....\n"
            "xx....\n"
            "xxx...\n"
            "..xx..\n"
            "..xxx.\n"
            "..xxxx\n");
}

TEST(BlockLayoutTest, RandomBlocksOfAShortTextAreThoseOfALongOne) {
  const BlockPattern pattern{.block = 2, .window = 1, .random = 2};
  const DrawSite site{.tag = RandomTag::kHashProjections, .layer = 4};
  const auto longer = NewBlockLayout(pattern, 60, 60, /*causal=*/true, 5, site).value();
  const auto shorter = NewBlockLayout(pattern, 31, 31, /*causal=*/true, 5, site).value();
  int64_t exact = 0;
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 16; ++j) {
      EXPECT_EQ(shorter->exact(i, j), longer->exact(i, j));
      if (shorter->exact(i, j)) ++exact;
    }
  }
  EXPECT_GT(exact, 16 + 8);  // more than the diagonal
  EXPECT_NE(Drawn(*NewBlockLayout(pattern, 60, 60, true, 6, site).value()), Drawn(*longer));
  EXPECT_NE(Drawn(*NewBlockLayout(pattern, 60, 60, true, 5, {.layer = 5}).value()), Drawn(*longer));
}

TEST(BlockLayoutTest, DensityIsTheShareOfTiles) {
  BlockLayout layout(8, 4, 4);
  EXPECT_EQ(layout.Density(false), 0.0);
  layout.Set(0, 3);
  layout.Set(2, 1);
  EXPECT_EQ(layout.Density(false), 2.0 / 16.0);
  EXPECT_EQ(layout.Density(true), 1.0 / 10.0);
}

TEST(BlockLayoutTest, RefusesPatternsThatMakeNoSense) {
  EXPECT_OK(CheckBlockPattern({}));
  const auto refused = [](const BlockPattern& pattern, const char* complaint) {
    EXPECT_THAT(CheckBlockPattern(pattern),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  refused({.block = 0}, "block 0");
  refused({.window = 2}, "window 2 is neither odd nor 0");
  refused({.global = -1}, "global -1");
  refused({.stride = 2, .summary = 3}, "summary 3 is not in 0 ... stride 2");
  refused({.window = 0}, "no exact tile");
}

// ---- What is refused

TEST(ScatterbrainContractTest, RefusesMalformedProblems) {
  DeviceRun run = DeviceRun::Cpu();
  const ScatterbrainProblem good{
      .queries = 20, .keys = 20, .heads = 2, .key_dim = 4, .value_dim = 4, .features = 6};
  EXPECT_OK(Supports(run.device(), good));
  const auto refused = [&](auto change, const char* complaint) {
    ScatterbrainProblem bad = good;
    change(bad);
    EXPECT_THAT(Supports(run.device(), bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  using P = ScatterbrainProblem;
  refused([](P& p) { p.queries = -1; }, "queries -1");
  refused([](P& p) { p.value_dim = 0; }, "value_dim 0");
  refused([](P& p) { p.features = 0; }, "features 0 must be positive");
  refused([](P& p) { p.features = 7; }, "features 7 must be positive, and even when hyperbolic");
  refused([](P& p) { p.scale = 0.0; }, "scale 0");
  refused([](P& p) { p.epsilon = -1.0; }, "epsilon -1");
  refused([](P& p) { p.causal = true, p.keys = 21; }, "causal with 20 queries and 21 keys");
  refused([](P& p) { p.support = WindowSupport{0}; }, "window width 0");
  refused([](P& p) { p.support = HashSupport{0, 4, 4}; }, "rounds 0");
  refused(
      [](P& p) {
        p.support = HashSupport{1, 4, 5};
      },
      "20 queries make 5 buckets of 4, but 20 keys make 4 of 5");
  refused([](P& p) { p.support = BlockSupport{}; }, "without a layout");
  refused([](P& p) { p.support = BlockSupport{std::make_shared<BlockLayout>(4, 4, 5)}; },
          "does not cover 20 queries and 20 keys");
  refused([](P& p) { p.dropout.probability = 1.0; }, "dropout 1 is not in [0, 1)");
  refused([](P& p) { p.dropout = {.probability = 0.1, .first_sequence = 1 << 20}; }, "beyond 2^28");
}

TEST(ScatterbrainContractTest, SaysWhatCannotBeDecoded) {
  DeviceRun run = DeviceRun::Cpu();
  ScatterbrainProblem problem{.queries = 20,
                              .keys = 20,
                              .key_dim = 4,
                              .value_dim = 4,
                              .causal = true,
                              .features = 6,
                              .support = WindowSupport{8}};
  EXPECT_OK(SupportsDecoding(run.device(), problem));
  problem.support = HashSupport{1, 4, 4};
  EXPECT_THAT(SupportsDecoding(run.device(), problem),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("later ones included")));
  problem.support = {};
  problem.causal = false;
  EXPECT_THAT(SupportsDecoding(run.device(), problem),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("only a causal problem")));
}

TEST(ScatterbrainContractTest, NamesTheOperandThatDoesNotFit) {
  DeviceRun run = DeviceRun::Cpu();
  ScatterbrainInputs in = RandomScatterbrain(HashProblem(12, 12, {1, 4, 4}));
  const auto forward = [&](auto change) {
    ScatterbrainOperands operands = UploadScatterbrain(run, in);
    change(operands);
    Tensor o = run.New(in.OutputShape());
    ScatterbrainSaved saved = NewScatterbrainSaved(run.device(), in.problem).value();
    return ScatterbrainForward(run.stream(), in.problem, operands, o, saved);
  };
  EXPECT_OK(forward([](ScatterbrainOperands&) {}));
  EXPECT_THAT(forward([&](ScatterbrainOperands& x) {
                x.w = run.New({2, 5});
              }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ScatterbrainForward: w is f32[2, 5], expected f32[1, 5]")));
  EXPECT_THAT(forward([&](ScatterbrainOperands& x) {
                x.valid = run.New({2, 12});
              }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected i32[2, 12]")));
  EXPECT_THAT(forward([](ScatterbrainOperands& x) { x.buckets.keys = Tensor(); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("buckets.keys is absent")));
  in.query_buckets[5] = 3;
  EXPECT_THAT(forward([](ScatterbrainOperands&) {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("buckets.queries[5] is 3, outside [0, 3)")));
}

}  // namespace
}  // namespace weft::kernels::testing

// Samples of a source, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

struct ReadSample {
  std::vector<int32_t> tokens, targets, valid;
  friend bool operator==(const ReadSample&, const ReadSample&) = default;
};

// The buffers begin with values that no sample has, so that what is not written shows.
inline ReadSample Sample(const SampleSource& source, Split split, int64_t index) {
  const SampleShape& shape = source.shape();
  ReadSample sample;
  sample.tokens.assign(static_cast<size_t>(shape.token_count()), -77);
  sample.targets.assign(static_cast<size_t>(shape.target_count()), -77);
  sample.valid.assign(shape.padded ? sample.tokens.size() : 0, -77);
  EXPECT_OK(source.Read(split, index,
                        {.tokens = absl::MakeSpan(sample.tokens),
                         .targets = absl::MakeSpan(sample.targets),
                         .valid = absl::MakeSpan(sample.valid)}));
  return sample;
}

// What the shape promises of every sample.
inline void ExpectFitsShape(const ReadSample& sample, const SampleShape& shape) {
  for (const int32_t token : sample.tokens) {
    EXPECT_GE(token, 0);
    EXPECT_LT(token, shape.vocabulary);
  }
  EXPECT_EQ(std::count_if(sample.targets.begin(), sample.targets.end(),
                          [](int32_t target) { return target >= 0; }),
            shape.real_target_count());
  const bool labelled = shape.target_kind == TargetKind::kSample;
  for (const int32_t target : sample.targets) {
    EXPECT_GE(target, labelled ? 0 : -1);
    EXPECT_LT(target, shape.classes);
  }
  for (size_t i = 0; i < sample.valid.size(); ++i) {
    EXPECT_TRUE(sample.valid[i] == 0 || sample.valid[i] == 1);
    if (sample.valid[i] == 0) {
      EXPECT_EQ(sample.tokens[i], 0);
      if (!labelled) {
        EXPECT_EQ(sample.targets[i], -1);
      }
    }
  }
}

}  // namespace weft::worker

// SampleDraws: the random numbers that one generated sample is made of, a pure function of (seed,
// split, number of the sample, attempt).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/random/philox.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

// Which draws a sample has: no two sets share a random number.
enum class SampleSet : uint8_t { kTrain, kValidation, kTest };

// Place in the counter, under the tag of data: block i of an attempt is at primary index i and
// ordinal `attempt`; the sample's number is spread over the fields of sample (20 bits) and step (28
// bits); the set, counted from 1, is in the field of the layer, where the order of samples has 0.
class SampleDraws {
 public:
  static constexpr int64_t kMaxSamples = int64_t{1} << 48;

  // sample in [0, kMaxSamples).
  SampleDraws(uint64_t seed, SampleSet set, int64_t sample);

  // Starts the numbers of another attempt at the same sample, from its first one on.
  void StartAttempt(uint32_t attempt);
  // The next 32 random bits.
  uint32_t Word();
  // Uniform in [0, limit), limit > 0; takes two words.
  int64_t Below(int64_t limit);
  // Uniform in [0, 1); takes two words.
  double Uniform();
  // `count` different numbers out of [first, first + size), in the order in which they were drawn;
  // count <= size.
  std::vector<int32_t> Distinct(int32_t first, int32_t size, int32_t count);

 private:
  uint64_t seed_;
  kernels::DrawSite site_;
  uint32_t attempt_ = 0;
  uint32_t next_word_ = 0;  // of the attempt
  kernels::PhiloxWords block_ = {};
};

}  // namespace weft::worker

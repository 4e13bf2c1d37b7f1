#include "worker/data/generated/sample_draws.h"

#include <numeric>
#include <utility>

#include "common/base/check.h"

namespace weft::worker {

SampleDraws::SampleDraws(uint64_t seed, SampleSet set, int64_t sample) : seed_(seed) {
  WEFT_CHECK(sample >= 0 && sample < kMaxSamples);
  site_ = {.tag = kernels::RandomTag::kData,
           .step = static_cast<uint32_t>(sample >> 20),
           .layer = static_cast<uint32_t>(set) + 1,
           .sample = static_cast<uint32_t>(sample & ((1 << 20) - 1))};
}

void SampleDraws::StartAttempt(uint32_t attempt) {
  attempt_ = attempt;
  next_word_ = 0;
}

uint32_t SampleDraws::Word() {
  const uint32_t in_block = next_word_ % 4;
  if (in_block == 0) block_ = kernels::Draw(seed_, site_, next_word_ / 4, attempt_);
  ++next_word_;
  return block_[in_block];
}

int64_t SampleDraws::Below(int64_t limit) {
  WEFT_CHECK(limit > 0);
  const uint32_t high = Word();
  const uint32_t low = Word();
  return static_cast<int64_t>(kernels::ChooseBelow(high, low, static_cast<uint64_t>(limit)));
}

double SampleDraws::Uniform() {
  const uint32_t high = Word();
  const uint32_t low = Word();
  return kernels::U53(high, low);
}

std::vector<int32_t> SampleDraws::Distinct(int32_t first, int32_t size, int32_t count) {
  WEFT_CHECK(count >= 0 && count <= size);
  // The first `count` steps of a Fisher-Yates shuffle.
  std::vector<int32_t> numbers(static_cast<size_t>(size));
  std::iota(numbers.begin(), numbers.end(), first);
  for (int32_t i = 0; i < count; ++i) {
    const auto other = static_cast<size_t>(i + Below(size - i));
    std::swap(numbers[static_cast<size_t>(i)], numbers[other]);
  }
  numbers.resize(static_cast<size_t>(count));
  return numbers;
}

}  // namespace weft::worker

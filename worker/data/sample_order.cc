#include "worker/data/sample_order.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "kernels/random/philox.h"

namespace weft::worker {
namespace {

// Four rounds of a Feistel network with a random function are a pseudo-random permutation (Luby and
// Rackoff, 1988); two more cost nothing here and help very small ranges.
constexpr uint32_t kRounds = 6;
constexpr uint32_t kTag = static_cast<uint32_t>(kernels::RandomTag::kData) << 28;

}  // namespace

Permutation::Permutation(uint64_t seed, uint32_t stream, int64_t size)
    : seed_(seed), stream_(stream), size_(size) {
  WEFT_CHECK(size >= 1 && size <= int64_t{1} << 62);
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1)));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const kernels::PhiloxWords words =
        kernels::Philox4x32({static_cast<uint32_t>(right), round, stream_, kTag}, seed_);
    const uint64_t next = left ^ (words[0] & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  WEFT_CHECK(index >= 0 && index < size_);
  // The network permutes a range up to four times as large. Following its cycle until it comes back
  // into ours is a permutation of ours; it takes at most four turns on average.
  uint64_t value = static_cast<uint64_t>(index);
  do {
    value = Encrypt(value);
  } while (value >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(value);
}

SampleOrder::SampleOrder(const Options& options) : options_(options) {
  WEFT_CHECK(options.sample_count > 0);
  WEFT_CHECK(options.shards > 0);
  WEFT_CHECK(options.samples_per_shard > 0);
}

int64_t SampleOrder::Sample(int64_t step, int64_t shard, int64_t row) const {
  WEFT_CHECK(step >= 0);
  WEFT_CHECK(shard >= 0 && shard < options_.shards);
  WEFT_CHECK(row >= 0 && row < options_.samples_per_shard);
  const int64_t place = shard * options_.samples_per_shard + row;  // in the batch
  const int64_t batch = options_.shards * options_.samples_per_shard;
  if (options_.kind == OrderKind::kStreams) {
    const int64_t run = std::max<int64_t>(1, options_.sample_count / batch);
    return (place * run + step % run) % options_.sample_count;
  }
  const int64_t draw = step * batch + place;
  if (options_.kind == OrderKind::kSequential) return draw % options_.sample_count;
  const auto epoch = static_cast<uint32_t>(draw / options_.sample_count);
  return Permutation(options_.seed, epoch, options_.sample_count)(draw % options_.sample_count);
}

double SampleOrder::Epoch(int64_t step) const {
  const int64_t draws = step * options_.shards * options_.samples_per_shard;
  return static_cast<double>(draws) / static_cast<double>(options_.sample_count);
}

SampleRange ValidationSamples(int64_t samples, int64_t shards, int64_t shard) {
  WEFT_CHECK(samples >= 0 && shards > 0);
  WEFT_CHECK(shard >= 0 && shard < shards);
  return {samples * shard / shards, samples * (shard + 1) / shards};
}

}  // namespace weft::worker

// Which samples make up a shard of a step: a pure function of (seed, step, shard). It knows nothing
// of ranks, so the same steps see the same samples on any number of them, and a resumed run needs
// no cursor but the step.
#pragma once

#include <cstdint>

namespace weft::worker {

// A pseudo-random permutation of [0, size), computed element by element without a table: a Feistel
// network over the next power of four, with Philox as its round function; values outside the range
// go round again (cycle walking).
class Permutation {
 public:
  // size in [1, 2^62]. `stream` picks one of 2^32 unrelated permutations under the same seed.
  Permutation(uint64_t seed, uint32_t stream, int64_t size);
  [[nodiscard]] int64_t operator()(int64_t index) const;

 private:
  [[nodiscard]] uint64_t Encrypt(uint64_t value) const;

  uint64_t seed_;
  uint32_t stream_;
  int64_t size_;
  int half_bits_;
};

enum class OrderKind : uint8_t {
  kShuffled,    // each epoch visits every sample once, in an order of its own
  kSequential,  // each epoch visits every sample once, from the first to the last
  // The samples are cut into as many runs as a batch has rows; row i of each batch goes on with run
  // i, and begins again after its end.
  kStreams,
};

// Samples are drawn without replacement. An epoch may end in the middle of a step; the next one
// begins there.
class SampleOrder {
 public:
  struct Options {
    OrderKind kind = OrderKind::kShuffled;
    uint64_t seed = 0;
    int64_t sample_count = 0;       // of the training split, > 0
    int64_t shards = 0;             // per step, > 0
    int64_t samples_per_shard = 0;  // > 0
  };
  explicit SampleOrder(const Options& options);

  // The sample in row `row` of shard `shard` of step `step`; all count from 0.
  [[nodiscard]] int64_t Sample(int64_t step, int64_t shard, int64_t row) const;
  // Passes over the training split before step `step`, with the part of the last one.
  [[nodiscard]] double Epoch(int64_t step) const;

 private:
  Options options_;
};

// The validation samples of one shard: [first, last) of the first `samples` (at most the whole
// split), cut into `shards` runs whose lengths differ by at most one. Runs may be empty.
struct SampleRange {
  int64_t first = 0;
  int64_t last = 0;
  friend bool operator==(const SampleRange&, const SampleRange&) = default;
};
SampleRange ValidationSamples(int64_t samples, int64_t shards, int64_t shard);

}  // namespace weft::worker

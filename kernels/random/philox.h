// Random numbers without state: every draw is a pure function of a seed and of the place where it
// is used, so a draw never depends on the number of ranks, threads or devices.
//
// The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// 2011): a 128-bit counter and a 64-bit key give four 32-bit words.
//
// Layout, the same on every device and never to be changed (golden numbers depend on it):
//   key           the user's seed
//   counter[0]    primary index: a query row, a component of a vector, a block of elements
//   counter[1]    ordinal inside the row, attempt number, or a second index
//   counter[2]    sample | layer << 20     sample < 2^20 counts inside the WHOLE optimizer batch
//   counter[3]    step | tag << 28         step < 2^28: optimizer step, or number of an evaluation
#pragma once

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "kernels/random/uniform.h"

namespace weft::kernels {

using PhiloxWords = std::array<uint32_t, 4>;

// Ten rounds over `counter` under `key`.
constexpr PhiloxWords Philox4x32(PhiloxWords counter, uint64_t key) {
  auto key0 = static_cast<uint32_t>(key);
  auto key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * counter[0];
    const uint64_t second = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(second),
        static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(first)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// What a draw is for: draws of different tags never share a counter.
enum class RandomTag : uint8_t {
  kFeatureMatrix = 1,
  kHashProjections = 2,
  kRowCounts = 3,
  kEdgeEndpoints = 4,
  kThinning = 5,
  kAttentionDropout = 6,
  kInitialisation = 7,
  kData = 8,        // the order of samples, and what generated samples are made of
  kEvaluation = 9,  // instead of tags 3 to 5 outside training
  kDenseMask = 10,
  kDropout = 11,  // of activations
};

// Where in the job a draw is used.
struct DrawSite {
  RandomTag tag = RandomTag::kInitialisation;
  uint32_t step = 0;    // < 2^28
  uint32_t layer = 0;   // < 2^12
  uint32_t sample = 0;  // < 2^20
};

// The generator's counter at (primary, ordinal) of a site.
PhiloxWords CounterOf(const DrawSite& site, uint32_t primary, uint32_t ordinal);

// The four words at (primary, ordinal) of a site.
PhiloxWords Draw(uint64_t seed, const DrawSite& site, uint32_t primary, uint32_t ordinal);

// Uniform integer in [0, limit), limit > 0; the bias is at most limit / 2^64.
constexpr uint64_t ChooseBelow(uint32_t w0, uint32_t w1, uint64_t limit) {
  __extension__ using Wide = unsigned __int128;
  const uint64_t word = (uint64_t{w0} << 32) | w1;
  return static_cast<uint64_t>((Wide{word} * limit) >> 64);
}

// Two independent standard normals by Box and Muller, in double on the host.
std::array<double, 2> NormalPair(uint32_t w0, uint32_t w1);

// Standard normals 0, 1, 2, ... of a site and ordinal: element i comes from the block with primary
// index i / 4, so any part of the sequence can be made alone. `first` is a multiple of 4 and the
// last element is number 2^34 - 1 at most.
void FillNormal(uint64_t seed, const DrawSite& site, uint32_t ordinal, int64_t first,
                absl::Span<double> out);

}  // namespace weft::kernels

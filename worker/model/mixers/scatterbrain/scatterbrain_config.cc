#include "worker/model/mixers/scatterbrain/scatterbrain_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {
namespace {

// One for each kind of support: what is wrong with it, and its options in one line.
void CheckSupport(const ScatterbrainWindow& window, absl::string_view layer, Problems& problems) {
  problems.Require(window.width >= 1,
                   absl::StrCat(layer, ".window.width is ", window.width, " and must be positive"));
}
void CheckSupport(const ScatterbrainHash& hash, absl::string_view layer, Problems& problems) {
  problems.Require(hash.rounds >= 1,
                   absl::StrCat(layer, ".hash.rounds is ", hash.rounds, " and must be positive"));
  problems.Require(hash.bucket >= 1,
                   absl::StrCat(layer, ".hash.bucket is ", hash.bucket, " and must be positive"));
}
void CheckSupport(const kernels::BlockPattern& blocks, absl::string_view layer,
                  Problems& problems) {
  const absl::Status status = kernels::CheckBlockPattern(blocks);
  problems.Require(status.ok(), absl::StrCat(layer, ".blocks: ", status.message()));
}

std::string CanonicalSupport(const ScatterbrainWindow& window) {
  return absl::StrFormat("window=%d", window.width);
}
std::string CanonicalSupport(const ScatterbrainHash& hash) {
  return absl::StrFormat("rounds=%d bucket=%d", hash.rounds, hash.bucket);
}
std::string CanonicalSupport(const kernels::BlockPattern& blocks) {
  return absl::StrFormat("block=%d window=%d global=%d random=%d stride=%d summary=%d",
                         blocks.block, blocks.window, blocks.global, blocks.random, blocks.stride,
                         blocks.summary);
}

}  // namespace

HeadOptions HeadsOf(const ScatterbrainMixerConfig& mixer) {
  return {.heads = mixer.heads, .rotary_base = mixer.rotary_base};
}

int64_t FeaturesOf(const ScatterbrainMixerConfig& mixer, const MixerPlace& place) {
  if (mixer.feature_count > 0) return mixer.feature_count;
  return kernels::DefaultFeatures(place.width / mixer.heads);
}

void Check(const ScatterbrainMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(HeadsOf(mixer), place, layer, problems);
  problems.Require(mixer.feature_count >= 0,
                   absl::StrCat(layer, ".feature_count is ", mixer.feature_count,
                                " and must be positive, or 0 for the default"));
  problems.Require(!mixer.hyperbolic || mixer.feature_count % 2 == 0,
                   absl::StrCat(layer, ".feature_count is ", mixer.feature_count,
                                " and must be even for hyperbolic features"));
  problems.Require(
      mixer.feature_epsilon >= 0.0 && std::isfinite(mixer.feature_epsilon),
      absl::StrCat(layer, ".feature_epsilon is ", mixer.feature_epsilon, " and must be 0 or more"));
  std::visit([&](const auto& support) { CheckSupport(support, layer, problems); }, mixer.support);
}

std::string Canonical(const ScatterbrainMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat(
      "scatterbrain heads=%d base=%a count=%d hyperbolic=%d rows=%d eps=%a dropped=%d %s",
      mixer.heads, mixer.rotary_base, mixer.feature_count, mixer.hyperbolic,
      static_cast<int>(mixer.rows), mixer.feature_epsilon, static_cast<int>(mixer.dropped),
      std::visit([](const auto& support) { return CanonicalSupport(support); }, mixer.support));
}

}  // namespace weft::worker

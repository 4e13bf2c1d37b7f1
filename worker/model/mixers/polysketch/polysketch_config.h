// Options of the `polysketch` mixer.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/attention/polysketch/random_sketch.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// What stands for the powers (q . k)^p, and where.
enum class PolysketchMode : uint8_t {
  kPolynomial,          // nothing: they are computed, for all pairs
  kRandomSketch,        // random features, for all pairs
  kLearnedSketch,       // features of a trained network, for all pairs
  kRandomSketchMixed,   // random features, for pairs that are not in one block
  kLearnedSketchMixed,  // features of a trained network, for pairs that are not in one block
};

// The layer norm of queries and keys before powers and random features; its parameters have the
// width of a head. Learned features have norms of their own.
enum class PolysketchNorm : uint8_t {
  kNone,
  kShared,    // one for queries and keys
  kSeparate,  // one for each
};

// Polynomial attention, with rotary positions unless the model has others.
struct PolysketchMixerConfig {
  static constexpr absl::string_view kName = "polysketch";

  int64_t heads = 1;
  int64_t head_width = 0;        // 0: the model's width / heads
  double rotary_base = 10000.0;  // 0: no rotary positions
  PolysketchMode mode = PolysketchMode::kLearnedSketchMixed;
  PolysketchNorm norm = PolysketchNorm::kSeparate;  // kNone for kLearnedSketch
  int64_t degree = 4;                               // p: 2, 4, 8; of random sketches 4 or 8
  int64_t sketch_size = 32;                         // features; ignored by kPolynomial
  int64_t block = 256;  // tokens; where not mixed, it changes the cost alone
  kernels::SketchScale sketch_scale = kernels::SketchScale::kUnbiased;
  kernels::SketchMatrices sketch_matrices = kernels::SketchMatrices::kGaussian;
  double c0 = 1.0;     // added to every sum of weights
  double kappa = 0.0;  // see PolysketchProblem; 0: the head's width where powers are computed
};

[[nodiscard]] bool HasPowers(PolysketchMode mode);
[[nodiscard]] bool HasRandomSketch(PolysketchMode mode);
[[nodiscard]] bool HasLearnedSketch(PolysketchMode mode);
[[nodiscard]] bool IsMixed(PolysketchMode mode);

HeadOptions HeadsOf(const PolysketchMixerConfig& mixer);

void Check(const PolysketchMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const PolysketchMixerConfig& mixer);

}  // namespace weft::worker

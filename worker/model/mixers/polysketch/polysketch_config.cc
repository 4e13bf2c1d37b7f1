#include "worker/model/mixers/polysketch/polysketch_config.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {
namespace {

constexpr int64_t kMaxSketchSize = 256;

bool IsPowerOfTwo(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

void CheckSketch(const PolysketchMixerConfig& mixer, const MixerPlace& place,
                 absl::string_view layer, Problems& problems) {
  problems.Require(mixer.sketch_size >= 1 && mixer.sketch_size <= kMaxSketchSize,
                   absl::StrCat(layer, ".sketch_size is ", mixer.sketch_size, " and must be 1 to ",
                                kMaxSketchSize));
  if (!HasRandomSketch(mixer.mode)) return;
  problems.Require(mixer.degree != 2,
                   absl::StrCat(layer, ".degree is 2, but random sketches begin at 4"));
  if (mixer.sketch_matrices != kernels::SketchMatrices::kHadamard || mixer.heads < 1) return;
  const int64_t head_width = mixer.head_width > 0 ? mixer.head_width : place.width / mixer.heads;
  problems.Require(IsPowerOfTwo(head_width),
                   absl::StrCat(layer, ": the head width ", head_width,
                                " must be a power of two for Hadamard sketches"));
  problems.Require(
      mixer.degree == 4 || IsPowerOfTwo(mixer.sketch_size),
      absl::StrCat(layer, ".sketch_size is ", mixer.sketch_size,
                   " and must be a power of two for Hadamard sketches of degree ", mixer.degree));
}

}  // namespace

bool HasPowers(PolysketchMode mode) { return mode == PolysketchMode::kPolynomial || IsMixed(mode); }

bool HasRandomSketch(PolysketchMode mode) {
  return mode == PolysketchMode::kRandomSketch || mode == PolysketchMode::kRandomSketchMixed;
}

bool HasLearnedSketch(PolysketchMode mode) {
  return mode == PolysketchMode::kLearnedSketch || mode == PolysketchMode::kLearnedSketchMixed;
}

bool IsMixed(PolysketchMode mode) {
  return mode == PolysketchMode::kRandomSketchMixed || mode == PolysketchMode::kLearnedSketchMixed;
}

HeadOptions HeadsOf(const PolysketchMixerConfig& mixer) {
  return {.heads = mixer.heads, .head_width = mixer.head_width, .rotary_base = mixer.rotary_base};
}

void Check(const PolysketchMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(HeadsOf(mixer), place, layer, problems);
  CheckNoAttentionDropout(place, PolysketchMixerConfig::kName, layer, problems);
  problems.Require(mixer.degree == 2 || mixer.degree == 4 || mixer.degree == 8,
                   absl::StrCat(layer, ".degree is ", mixer.degree, " and must be 2, 4 or 8"));
  problems.Require(mixer.block >= 1,
                   absl::StrCat(layer, ".block is ", mixer.block, " and must be positive"));
  problems.Require(place.causal || !IsMixed(mixer.mode),
                   absl::StrCat(layer, ".mode is mixed, which is defined for causal models"));
  problems.Require(
      mixer.mode != PolysketchMode::kLearnedSketch || mixer.norm == PolysketchNorm::kNone,
      absl::StrCat(layer, ".norm must be none for learned_sketch, whose network has its own"));
  problems.Require(mixer.c0 >= 0.0,
                   absl::StrCat(layer, ".c0 is ", mixer.c0, " and must be at least 0"));
  problems.Require(mixer.kappa >= 0.0, absl::StrCat(layer, ".kappa is ", mixer.kappa,
                                                    " and must be positive, or 0 for the default"));
  if (mixer.mode != PolysketchMode::kPolynomial) CheckSketch(mixer, place, layer, problems);
}

std::string Canonical(const PolysketchMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat(
      "polysketch heads=%d head_width=%d base=%a mode=%d norm=%d degree=%d size=%d block=%d "
      "scale=%d matrices=%d c0=%a kappa=%a",
      mixer.heads, mixer.head_width, mixer.rotary_base, mixer.mode, mixer.norm, mixer.degree,
      mixer.sketch_size, mixer.block, mixer.sketch_scale, mixer.sketch_matrices, mixer.c0,
      mixer.kappa);
}

}  // namespace weft::worker

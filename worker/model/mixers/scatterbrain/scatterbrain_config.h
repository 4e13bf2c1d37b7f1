// Options of the `scatterbrain` mixer.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "kernels/attention/scatterbrain/block_layout.h"
#include "kernels/attention/scatterbrain/scatterbrain.h"
#include "kernels/random/feature_matrix.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// Which pairs of tokens are exact.
struct ScatterbrainWindow {
  int64_t width = 64;  // tokens around each token; a causal model uses the first half of them
};
struct ScatterbrainHash {
  int64_t rounds = 2;
  int64_t bucket = 32;  // tokens
};
using ScatterbrainSupport =
    std::variant<ScatterbrainWindow, ScatterbrainHash, kernels::BlockPattern>;

// Exact attention on a sparse support, random features elsewhere, one normaliser: Chen, Dao et al.
// 2021, "Scatterbrain: Unifying Sparse and Low-rank Attention Approximation".
//
// In a causal model the hash support is a little less than causal: each weight is one of the past,
// but which are exact follows from the order of all tokens' hashes. It cannot be decoded.
struct ScatterbrainMixerConfig {
  static constexpr absl::string_view kName = "scatterbrain";

  int64_t heads = 1;             // divides the model's width
  double rotary_base = 10000.0;  // 0: no rotary positions
  ScatterbrainSupport support = ScatterbrainWindow{};
  // Of a head, even when hyperbolic; 0: as many as make the error uniformly small, floor(d ln d)
  // for a head of width d.
  int64_t feature_count = 0;
  bool hyperbolic = true;  // rows of both signs
  kernels::FeatureRows rows = kernels::FeatureRows::kOrthogonal;
  double feature_epsilon = 0.0;  // added to every feature, over the root of their number
  // What dropout of attention weights removes.
  kernels::ScatterbrainProblem::Dropped dropped = kernels::ScatterbrainProblem::Dropped::kExact;
};

HeadOptions HeadsOf(const ScatterbrainMixerConfig& mixer);
// The number of features, the default worked out.
int64_t FeaturesOf(const ScatterbrainMixerConfig& mixer, const MixerPlace& place);

void Check(const ScatterbrainMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const ScatterbrainMixerConfig& mixer);

}  // namespace weft::worker

// Options of the `sbm` mixer.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/attention/sbm/sbm.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"
#include "worker/model/step_metrics.h"

namespace weft::worker {

// Attention along graphs that are drawn from a stochastic block model of queries and keys: Cho et
// al. 2022, "Transformers meet Stochastic Block Models". The defaults are those of the authors'
// program, but for the sampler: theirs is kDense.
struct SbmMixerConfig {
  static constexpr absl::string_view kName = "sbm";
  static constexpr std::array<absl::string_view, 1> kMetrics = {kGraphDensity};

  int64_t heads = 1;             // divides the model's width
  double rotary_base = 10000.0;  // 0: no rotary positions
  int64_t clusters = 128;        // of each head
  kernels::SbmSampler sampler = kernels::SbmSampler::kPoisson;
  double exploration = 0.01;  // see SbmProblem, as the next two
  kernels::SbmStraightThrough straight_through = kernels::SbmStraightThrough::kMask;
  double clip = 1.0;
  // The loss of a step has this times the mean density of the layer's graphs, over the number of
  // the model's layers, added to it.
  double density_weight = 1e-4;
};

HeadOptions HeadsOf(const SbmMixerConfig& mixer);

void Check(const SbmMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const SbmMixerConfig& mixer);

}  // namespace weft::worker

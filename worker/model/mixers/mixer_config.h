// MixerConfig: which mechanism mixes the tokens of a layer, and its options. Every mechanism has a
// folder beside this file with its options (a name, what it counts, a Check, a canonical text) and
// its mixer.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "worker/model/mixers/delta/delta_config.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/mixers/performer/performer_config.h"
#include "worker/model/mixers/polysketch/polysketch_config.h"
#include "worker/model/mixers/sbm/sbm_config.h"
#include "worker/model/mixers/scatterbrain/scatterbrain_config.h"
#include "worker/model/mixers/slim/slim_config.h"
#include "worker/model/mixers/softmax/softmax_config.h"
#include "worker/model/problems.h"

namespace weft::worker {

using MixerConfig =
    std::variant<DeltaMixerConfig, PerformerMixerConfig, PolysketchMixerConfig, SbmMixerConfig,
                 ScatterbrainMixerConfig, SlimMixerConfig, SoftmaxMixerConfig>;

// The mechanism's name in specs, metrics and reports.
inline absl::string_view NameOf(const MixerConfig& mixer) {
  return std::visit([](const auto& options) { return options.kName; }, mixer);
}

// The names of what the mechanism adds to Pass::metrics, when that is there, under its layer.
inline std::vector<absl::string_view> MetricsOf(const MixerConfig& mixer) {
  return std::visit(
      [](const auto& options) -> std::vector<absl::string_view> {
        if constexpr (requires { options.kMetrics; }) {
          return {options.kMetrics.begin(), options.kMetrics.end()};
        }
        return {};
      },
      mixer);
}

// Notes what is wrong with the options; `layer` is what the sentences call the layer.
inline void Check(const MixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
                  Problems& problems) {
  std::visit([&](const auto& options) { Check(options, place, layer, problems); }, mixer);
}

// All options in one line, exactly: equal for mixers that compute the same.
inline std::string Canonical(const MixerConfig& mixer) {
  return std::visit([](const auto& options) { return Canonical(options); }, mixer);
}

}  // namespace weft::worker

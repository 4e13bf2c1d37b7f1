#include "worker/model/mixer.h"

#include "worker/model/delta_mixer.h"
#include "worker/model/softmax_mixer.h"

namespace weft::worker {

std::unique_ptr<const Mixer> NewMixer(const MixerConfig& config, int64_t width, double norm_epsilon,
                                      absl::string_view prefix, ParameterLayout& layout) {
  if (const auto* delta = std::get_if<DeltaMixerConfig>(&config)) {
    return std::make_unique<DeltaMixer>(*delta, width, norm_epsilon, prefix, layout);
  }
  return std::make_unique<SoftmaxMixer>(std::get<SoftmaxMixerConfig>(config), width, prefix,
                                        layout);
}

}  // namespace weft::worker

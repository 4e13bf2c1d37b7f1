#include <type_traits>

#include "absl/strings/str_cat.h"
#include "worker/model/mixers/delta/delta_mixer.h"
#include "worker/model/mixers/linear_attention/linear_attention_mixer.h"
#include "worker/model/mixers/mixer.h"
#include "worker/model/mixers/polysketch/polysketch_mixer.h"
#include "worker/model/mixers/sbm/sbm_mixer.h"
#include "worker/model/mixers/scatterbrain/scatterbrain_mixer.h"
#include "worker/model/mixers/sliced_mixer.h"
#include "worker/model/mixers/softmax/softmax_mixer.h"

namespace weft::worker {
namespace {

// From a mechanism's options to its mixer: one line for each.
template <typename Options>
struct MixerOf;
template <>
struct MixerOf<DeltaMixerConfig> {
  using Type = DeltaMixer;
};
template <>
struct MixerOf<PerformerMixerConfig> {
  using Type = LinearAttentionMixer;
};
template <>
struct MixerOf<PolysketchMixerConfig> {
  using Type = PolysketchMixer;
};
template <>
struct MixerOf<SbmMixerConfig> {
  using Type = SbmMixer;
};
template <>
struct MixerOf<ScatterbrainMixerConfig> {
  using Type = ScatterbrainMixer;
};
template <>
struct MixerOf<SlimMixerConfig> {
  using Type = LinearAttentionMixer;
};
template <>
struct MixerOf<SoftmaxMixerConfig> {
  using Type = SoftmaxMixer;
};

}  // namespace

std::unique_ptr<const Mixer> NewMixer(const MixerConfig& config, const MixerPlace& place,
                                      absl::string_view prefix, ParameterLayout& layout) {
  return std::visit(
      [&](const auto& options) -> std::unique_ptr<const Mixer> {
        using Type = typename MixerOf<std::decay_t<decltype(options)>>::Type;
        return std::make_unique<Type>(options, place, prefix, layout);
      },
      config);
}

absl::StatusOr<const SlicedMixer*> AsSliced(const MixerConfig& config, const Mixer& mixer) {
  return std::visit(
      [&](const auto& options) -> absl::StatusOr<const SlicedMixer*> {
        using Type = typename MixerOf<std::decay_t<decltype(options)>>::Type;
        if constexpr (std::is_base_of_v<SlicedMixer, Type>) {
          return static_cast<const Type*>(&mixer);
        } else {
          return absl::UnimplementedError(
              absl::StrCat(options.kName,
                           " looks back at its tokens one by one: its past is no "
                           "state of fixed size that passes between slices"));
        }
      },
      config);
}

}  // namespace weft::worker

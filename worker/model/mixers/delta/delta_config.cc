#include "worker/model/mixers/delta/delta_config.h"

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

constexpr int64_t kMaxConvolutionTaps = 16;

}  // namespace

void Check(const DeltaMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(mixer.heads, place.width, layer, problems);
  problems.Require(place.causal, absl::StrCat(layer,
                                              ": delta runs forwards only; it cannot serve "
                                              "a model whose tokens see what follows"));
  CheckNoAttentionDropout(place, DeltaMixerConfig::kName, layer, problems);
  problems.Require(mixer.convolution_taps >= 0 && mixer.convolution_taps <= kMaxConvolutionTaps,
                   absl::StrCat(layer, ".convolution_taps is ", mixer.convolution_taps,
                                " and must be 0 (none) to ", kMaxConvolutionTaps));
}

std::string Canonical(const DeltaMixerConfig& mixer) {
  return absl::StrCat("delta heads=", mixer.heads, " taps=", mixer.convolution_taps,
                      " negative=", mixer.negative_eigenvalues, " gate=", mixer.output_gate);
}

}  // namespace weft::worker

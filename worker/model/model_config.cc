#include "worker/model/model_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weft::worker {
namespace {

constexpr int64_t kMaxConvolutionTaps = 16;

// Adds sentences to a list; each names the field and what is allowed.
class Problems {
 public:
  void Require(bool condition, absl::string_view sentence) {
    if (!condition) sentences_.emplace_back(sentence);
  }
  [[nodiscard]] absl::Status ToStatus() const {
    if (sentences_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(sentences_, "; "));
  }

 private:
  std::vector<std::string> sentences_;
};

void CheckMixer(const DeltaMixerConfig& mixer, int64_t width, absl::string_view layer,
                Problems& problems) {
  problems.Require(
      mixer.heads >= 1 && width % mixer.heads == 0,
      absl::StrCat(layer, ".heads is ", mixer.heads, " and must divide the width ", width));
  problems.Require(mixer.convolution_taps >= 0 && mixer.convolution_taps <= kMaxConvolutionTaps,
                   absl::StrCat(layer, ".convolution_taps is ", mixer.convolution_taps,
                                " and must be 0 (none) to ", kMaxConvolutionTaps));
}

void CheckMixer(const SoftmaxMixerConfig& mixer, int64_t width, absl::string_view layer,
                Problems& problems) {
  const bool heads_divide = mixer.heads >= 1 && width % mixer.heads == 0;
  problems.Require(heads_divide, absl::StrCat(layer, ".heads is ", mixer.heads,
                                              " and must divide the width ", width));
  problems.Require(!heads_divide || (width / mixer.heads) % 2 == 0,
                   absl::StrCat(layer, ": the head width ", width, "/", mixer.heads,
                                " must be even for rotary positions"));
  problems.Require(mixer.kv_heads >= 1 && mixer.heads >= 1 && mixer.heads % mixer.kv_heads == 0,
                   absl::StrCat(layer, ".kv_heads is ", mixer.kv_heads,
                                " and must divide the heads ", mixer.heads));
  problems.Require(mixer.window >= 0, absl::StrCat(layer, ".window is ", mixer.window,
                                                   " and must be 0 (all) or positive"));
  problems.Require(
      mixer.rotary_base > 1.0,
      absl::StrCat(layer, ".rotary_base is ", mixer.rotary_base, " and must be above 1"));
}

}  // namespace

absl::string_view NameOf(const MixerConfig& mixer) {
  return std::holds_alternative<DeltaMixerConfig>(mixer) ? "delta" : "softmax";
}

int64_t DefaultHidden(int64_t width) {
  constexpr int64_t multiple = 256;
  const int64_t wanted = width * 8 / 3;
  return (wanted + multiple - 1) / multiple * multiple;
}

absl::Status Validate(const ModelConfig& config) {
  Problems problems;
  problems.Require(config.vocabulary >= 2,
                   absl::StrCat("vocabulary is ", config.vocabulary, " and must be at least 2"));
  problems.Require(config.width >= 1,
                   absl::StrCat("width is ", config.width, " and must be positive"));
  problems.Require(config.hidden >= 1,
                   absl::StrCat("hidden is ", config.hidden, " and must be positive"));
  problems.Require(config.norm_epsilon > 0,
                   absl::StrCat("norm_epsilon is ", config.norm_epsilon, " and must be positive"));
  problems.Require(!config.layers.empty(), "layers is empty; at least one mixer is needed");
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const std::string layer = absl::StrCat("layers[", i, "]");
    std::visit([&](const auto& mixer) { CheckMixer(mixer, config.width, layer, problems); },
               config.layers[i]);
  }
  return problems.ToStatus();
}

}  // namespace weft::worker

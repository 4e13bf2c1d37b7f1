#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

void ResolveOverrides(Rules& rules, v1::ModelSpec& model) {
  std::set<int32_t> seen;
  for (int i = 0; i < model.overrides_size(); ++i) {
    const std::string path = absl::StrCat("model.overrides[", i, "]");
    v1::MixerOverride& entry = *model.mutable_overrides(i);
    if (entry.layers().empty()) rules.Report(absl::StrCat(path, ".layers"), "names no layer");
    for (const int32_t layer : entry.layers()) {
      if (layer < 0 || layer >= model.layers()) {
        rules.Report(
            absl::StrCat(path, ".layers"),
            absl::StrCat("layer ", layer, " does not exist; 0 to ", model.layers() - 1, " do"));
      } else if (!seen.insert(layer).second) {
        rules.Report(absl::StrCat(path, ".layers"),
                     absl::StrCat("layer ", layer, " is named twice"));
      }
    }
    if (rules.Require(entry.has_mixer(), absl::StrCat(path, ".mixer"))) {
      ResolveMixer(rules, absl::StrCat(path, ".mixer"), *entry.mutable_mixer(), model);
    }
  }
}

}  // namespace

void ResolveModel(Rules& rules, v1::ModelSpec& model) {
  if (!model.has_vocab_size()) model.set_vocab_size(256);
  rules.InRange("model.vocab_size", model.vocab_size(), 2, 1 << 20);
  const bool width = rules.InRange("model.width", model.width(), 1, 1 << 16);
  const bool layers = rules.InRange("model.layers", model.layers(), 1, 1024);
  if (!model.has_mlp_width() && width) {
    const int64_t raw = static_cast<int64_t>(model.width()) * 8 / 3;
    model.set_mlp_width(static_cast<int32_t>((raw + 255) / 256 * 256));
  }
  if (model.has_mlp_width()) rules.InRange("model.mlp_width", model.mlp_width(), 1, 1 << 20);
  if (!model.has_norm_epsilon()) model.set_norm_epsilon(1e-6);
  rules.Positive("model.norm_epsilon", model.norm_epsilon());
  if (model.mixers().empty()) rules.Report("model.mixers", "at least one mixer is required");
  for (int i = 0; i < model.mixers_size(); ++i) {
    ResolveMixer(rules, absl::StrCat("model.mixers[", i, "]"), *model.mutable_mixers(i), model);
  }
  if (layers && model.mixers_size() > model.layers()) {
    rules.Report("model.mixers",
                 absl::StrCat("has ", model.mixers_size(), " entries for ", model.layers(),
                              " layers; at most one a layer is used"));
  }
  ResolveOverrides(rules, model);
}

}  // namespace weft::spec

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

template <typename Paths>
void RequirePaths(Rules& rules, absl::string_view field, const Paths& paths) {
  if (paths.empty()) rules.Report(field, "at least one path is required");
  for (int i = 0; i < paths.size(); ++i) {
    if (paths[i].empty()) rules.Report(absl::StrCat(field, "[", i, "]"), "is empty");
  }
}

}  // namespace

void ResolveData(Rules& rules, v1::DataSpec& data, const v1::ModelSpec& model) {
  const int32_t vocab_size = model.vocab_size();
  switch (data.source_case()) {
    case v1::DataSpec::kText:
      RequirePaths(rules, "data.text.paths", data.text().paths());
      if (vocab_size > 0 && vocab_size < 256) {
        rules.Report(
            "model.vocab_size",
            absl::StrCat("must be at least 256 for text, which is read as bytes; is ", vocab_size));
      }
      break;
    case v1::DataSpec::kTokens:
      RequirePaths(rules, "data.tokens.paths", data.tokens().paths());
      break;
    case v1::DataSpec::SOURCE_NOT_SET:
      rules.Report("data", "must name a source: one of text, tokens");
  }
  if (!data.has_validation_fraction()) data.set_validation_fraction(0.05);
  rules.InRange("data.validation_fraction", data.validation_fraction(), 0.0, 0.5);
}

}  // namespace weft::spec

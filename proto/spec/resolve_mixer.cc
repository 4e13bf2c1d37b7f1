#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

// Heads that divide the width; false when there is nothing to derive from them.
bool HeadsDivide(Rules& rules, const std::string& field, int32_t heads, int32_t width) {
  if (!rules.Positive(field, heads)) return false;
  if (width > 0 && width % heads != 0) {
    rules.Report(field, absl::StrCat("must divide model.width (", width, "), is ", heads));
    return false;
  }
  return width > 0;
}

void ResolveDelta(Rules& rules, const std::string& path, v1::DeltaSpec& delta, int32_t width) {
  HeadsDivide(rules, absl::StrCat(path, ".heads"), delta.heads(), width);
  if (!delta.has_convolution_taps()) delta.set_convolution_taps(4);
  rules.InRange(absl::StrCat(path, ".convolution_taps"), delta.convolution_taps(), 0, 16);
  if (!delta.has_beta_range()) delta.set_beta_range(1);
  if (delta.beta_range() != 1 && delta.beta_range() != 2) {
    rules.Report(absl::StrCat(path, ".beta_range"),
                 absl::StrCat("must be 1 or 2, is ", delta.beta_range()));
  }
  if (!delta.has_output_gate()) delta.set_output_gate(false);
}

void ResolveSoftmax(Rules& rules, const std::string& path, v1::SoftmaxSpec& softmax,
                    int32_t width) {
  if (HeadsDivide(rules, absl::StrCat(path, ".heads"), softmax.heads(), width) &&
      width / softmax.heads() % 2 != 0) {
    rules.Report(absl::StrCat(path, ".heads"),
                 absl::StrCat("model.width / heads must be even for rotary positions, is ",
                              width / softmax.heads()));
  }
  if (!softmax.has_kv_heads()) softmax.set_kv_heads(softmax.heads());
  if (softmax.heads() > 0 && rules.Positive(absl::StrCat(path, ".kv_heads"), softmax.kv_heads()) &&
      softmax.heads() % softmax.kv_heads() != 0) {
    rules.Report(
        absl::StrCat(path, ".kv_heads"),
        absl::StrCat("must divide heads (", softmax.heads(), "), is ", softmax.kv_heads()));
  }
  if (!softmax.has_window()) softmax.set_window(0);
  rules.InRange<int64_t>(absl::StrCat(path, ".window"), softmax.window(), 0, kMaxSequence);
  if (!softmax.has_rotary_base()) softmax.set_rotary_base(10000);
  rules.Positive(absl::StrCat(path, ".rotary_base"), softmax.rotary_base());
}

}  // namespace

void ResolveMixer(Rules& rules, const std::string& path, v1::MixerSpec& mixer,
                  const v1::ModelSpec& model) {
  switch (mixer.kind_case()) {
    case v1::MixerSpec::kDelta:
      return ResolveDelta(rules, absl::StrCat(path, ".delta"), *mixer.mutable_delta(),
                          model.width());
    case v1::MixerSpec::kSoftmax:
      return ResolveSoftmax(rules, absl::StrCat(path, ".softmax"), *mixer.mutable_softmax(),
                            model.width());
    case v1::MixerSpec::KIND_NOT_SET:
      return rules.Report(path, "must name a mechanism: one of delta, softmax");
  }
}

}  // namespace weft::spec

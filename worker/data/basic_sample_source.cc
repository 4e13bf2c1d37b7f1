#include "worker/data/basic_sample_source.h"

#include "absl/strings/str_cat.h"

namespace weft::worker {

BasicSampleSource::BasicSampleSource(SampleSourceFacts facts) : facts_(std::move(facts)) {
  WEFT_CHECK(facts_.shape.sequence > 0 && facts_.shape.rows > 0 && facts_.shape.classes > 0);
  WEFT_CHECK(facts_.train_samples > 0 && facts_.validation_samples >= 0);
}

std::string BasicSampleSource::Describe() const {
  const SampleShape& shape = facts_.shape;
  return absl::StrCat(
      facts_.description, " in samples of ", shape.rows == 1 ? "" : absl::StrCat(shape.rows, " x "),
      shape.sequence, " tokens",
      shape.target_kind == TargetKind::kSample
          ? absl::StrCat(" and one of ", shape.classes, " labels")
          : "",
      ": ", facts_.train_samples, " to train on, ", facts_.validation_samples, " for validation");
}

void BasicSampleSource::CheckRead(Split split, int64_t sample, const SampleBuffers& into) const {
  const SampleShape& shape = facts_.shape;
  WEFT_CHECK(sample >= 0 && sample < sample_count(split));
  WEFT_CHECK(static_cast<int64_t>(into.tokens.size()) == shape.token_count());
  WEFT_CHECK(static_cast<int64_t>(into.targets.size()) == shape.target_count());
  WEFT_CHECK(into.valid.size() == (shape.padded ? into.tokens.size() : 0));
}

}  // namespace weft::worker

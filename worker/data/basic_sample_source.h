// The part of a sample source that is known when it is opened.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

struct SampleSourceFacts {
  SampleShape shape;
  int64_t train_samples = 0;
  int64_t validation_samples = 0;
  std::string fingerprint;
  std::string description;  // without the numbers of samples
};

class BasicSampleSource : public SampleSource {
 public:
  [[nodiscard]] const SampleShape& shape() const override { return facts_.shape; }
  [[nodiscard]] int64_t sample_count(Split split) const override {
    return split == Split::kTrain ? facts_.train_samples : facts_.validation_samples;
  }
  [[nodiscard]] const std::string& fingerprint() const override { return facts_.fingerprint; }
  [[nodiscard]] std::string Describe() const override;

 protected:
  explicit BasicSampleSource(SampleSourceFacts facts);
  // That the sample exists and the buffers are as long as the shape says.
  void CheckRead(Split split, int64_t sample, const SampleBuffers& into) const;

 private:
  const SampleSourceFacts facts_;
};

}  // namespace weft::worker

// BatchLoader: puts samples on the device, a fixed number of rows at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device/device.h"
#include "worker/data/sample_source.h"
#include "worker/model/model.h"

namespace weft::worker {

class BatchLoader {
 public:
  // The source outlives the loader; its samples are rows of shape.tokens tokens, each with a
  // target.
  static absl::StatusOr<BatchLoader> Create(kernels::Device& device, const SampleSource& source,
                                            PassShape shape);

  // One sample a row; at most shape.batch of them. Rows without a sample get the target -1, which
  // the loss leaves out.
  absl::Status Load(kernels::Stream& stream, Split split, absl::Span<const int64_t> samples);
  [[nodiscard]] const SampleBatch& batch() const { return batch_; }

 private:
  BatchLoader(const SampleSource& source, PassShape shape);

  const SampleSource* source_;
  PassShape shape_;
  std::vector<int32_t> tokens_, targets_;  // [B, T] on the host
  SampleBatch batch_;
};

}  // namespace weft::worker

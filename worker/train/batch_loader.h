// BatchLoader: puts samples on the device, a fixed number at a time.
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
  // For up to `samples` of them at once. The source outlives the loader.
  static absl::StatusOr<BatchLoader> Create(kernels::Device& device, const SampleSource& source,
                                            int64_t samples);

  // At most as many samples as above. Places without a sample get the target -1, which the loss
  // leaves out.
  absl::Status Load(kernels::Stream& stream, Split split, absl::Span<const int64_t> samples);
  [[nodiscard]] const SampleBatch& batch() const { return batch_; }

 private:
  BatchLoader(const SampleSource& source, int64_t samples);

  const SampleSource* source_;
  int64_t samples_;
  std::vector<int32_t> tokens_, targets_, valid_;  // of batch_, on the host
  SampleBatch batch_;
};

}  // namespace weft::worker

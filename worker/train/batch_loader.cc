#include "worker/train/batch_loader.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::worker {

absl::StatusOr<BatchLoader> BatchLoader::Create(kernels::Device& device, const SampleSource& source,
                                                PassShape shape) {
  const SampleShape& sample = source.shape();
  WEFT_CHECK(sample.sequence == shape.tokens && sample.rows == 1 && !sample.padded);
  WEFT_CHECK(sample.target_kind == TargetKind::kEachPosition);
  BatchLoader loader(source, shape);
  for (kernels::Tensor* tensor : {&loader.batch_.tokens, &loader.batch_.targets}) {
    WEFT_ASSIGN_OR_RETURN(
        *tensor, kernels::NewTensor(device, kernels::DType::kI32, {shape.batch, shape.tokens}));
  }
  return loader;
}

BatchLoader::BatchLoader(const SampleSource& source, PassShape shape)
    : source_(&source),
      shape_(shape),
      tokens_(static_cast<size_t>(shape.batch * shape.tokens)),
      targets_(tokens_.size()) {}

absl::Status BatchLoader::Load(kernels::Stream& stream, Split split,
                               absl::Span<const int64_t> samples) {
  WEFT_CHECK(static_cast<int64_t>(samples.size()) <= shape_.batch);
  std::fill(tokens_.begin(), tokens_.end(), 0);
  std::fill(targets_.begin(), targets_.end(), -1);
  const auto length = static_cast<size_t>(shape_.tokens);
  for (size_t row = 0; row < samples.size(); ++row) {
    WEFT_RETURN_IF_ERROR(
        source_->Read(split, samples[row],
                      {.tokens = absl::MakeSpan(tokens_).subspan(row * length, length),
                       .targets = absl::MakeSpan(targets_).subspan(row * length, length)}));
  }
  kernels::Device& device = stream.device();
  WEFT_RETURN_IF_ERROR(device.CopyFromHost(batch_.tokens, tokens_.data(), stream));
  return device.CopyFromHost(batch_.targets, targets_.data(), stream);
}

}  // namespace weft::worker

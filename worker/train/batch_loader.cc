#include "worker/train/batch_loader.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

// Sample `index` of `values`, which hold `count` of each.
absl::Span<int32_t> PartOf(std::vector<int32_t>& values, size_t index, int64_t count) {
  const auto size = static_cast<size_t>(count);
  return absl::MakeSpan(values).subspan(index * size, size);
}

}  // namespace

absl::StatusOr<BatchLoader> BatchLoader::Create(kernels::Device& device, const SampleSource& source,
                                                int64_t samples) {
  using kernels::DType;
  using kernels::NewTensor;
  const SampleShape& sample = source.shape();
  BatchLoader loader(source, samples);
  SampleBatch& batch = loader.batch_;
  const kernels::Shape tokens = sample.rows == 1
                                    ? kernels::Shape{samples, sample.sequence}
                                    : kernels::Shape{samples, sample.rows, sample.sequence};
  const kernels::Shape targets = sample.target_kind == TargetKind::kSample
                                     ? kernels::Shape{samples}
                                     : kernels::Shape{samples, sample.sequence};
  WEFT_ASSIGN_OR_RETURN(batch.tokens, NewTensor(device, DType::kI32, tokens));
  WEFT_ASSIGN_OR_RETURN(batch.targets, NewTensor(device, DType::kI32, targets));
  if (sample.padded) {
    WEFT_ASSIGN_OR_RETURN(batch.valid, NewTensor(device, DType::kI32, tokens));
  }
  return loader;
}

BatchLoader::BatchLoader(const SampleSource& source, int64_t samples)
    : source_(&source),
      samples_(samples),
      tokens_(static_cast<size_t>(samples * source.shape().token_count())),
      targets_(static_cast<size_t>(samples * source.shape().target_count())),
      valid_(source.shape().padded ? tokens_.size() : 0) {}

absl::Status BatchLoader::Load(kernels::Stream& stream, Split split,
                               absl::Span<const int64_t> samples) {
  WEFT_CHECK(static_cast<int64_t>(samples.size()) <= samples_);
  std::fill(tokens_.begin(), tokens_.end(), 0);
  std::fill(targets_.begin(), targets_.end(), -1);
  std::fill(valid_.begin(), valid_.end(), 1);
  const SampleShape& shape = source_->shape();
  for (size_t i = 0; i < samples.size(); ++i) {
    WEFT_RETURN_IF_ERROR(source_->Read(
        split, samples[i],
        {.tokens = PartOf(tokens_, i, shape.token_count()),
         .targets = PartOf(targets_, i, shape.target_count()),
         .valid = PartOf(valid_, shape.padded ? i : 0, shape.padded ? shape.token_count() : 0)}));
  }
  kernels::Device& device = stream.device();
  WEFT_RETURN_IF_ERROR(device.CopyFromHost(batch_.tokens, tokens_.data(), stream));
  if (shape.padded) {
    WEFT_RETURN_IF_ERROR(device.CopyFromHost(batch_.valid, valid_.data(), stream));
  }
  return device.CopyFromHost(batch_.targets, targets_.data(), stream);
}

}  // namespace weft::worker

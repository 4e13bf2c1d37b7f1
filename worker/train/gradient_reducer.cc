#include "worker/train/gradient_reducer.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/fixed_point/fixed_point.h"

namespace weft::worker {

using kernels::Tensor;

namespace {

// Each costs the ranks of GPUs two agreements of half a millisecond, which a backward pass must
// hide; what is exchanged behind its end is a share of one bucket.
constexpr int64_t kMostBuckets = 32;
// How many buckets that become ready together are exchanged as one, so that they agree once: those
// of the embedding, which end every backward pass with nothing behind them to hide.
constexpr int64_t kMostTogether = 4;

}  // namespace

absl::StatusOr<std::unique_ptr<GradientReducer>> GradientReducer::Create(kernels::Device& device,
                                                                         Exchange& exchange,
                                                                         ExchangeThread& thread,
                                                                         const Clock& clock,
                                                                         const Options& options) {
  if (options.elements < 1 || options.local_shards < 1 || options.local_shards > options.shards) {
    return absl::InvalidArgumentError(absl::StrCat("cannot reduce ", options.elements,
                                                   " elements of ", options.local_shards, " of ",
                                                   options.shards, " shards"));
  }
  if (options.reproducibility == Reproducibility::kFixedGang && !exchange.AddsFloatingPoint()) {
    return absl::UnimplementedError(
        "the ranks of this gang can only add integers: training.reproducibility must be exact");
  }
  auto reducer = absl::WrapUnique(new GradientReducer(exchange, thread, clock, options));
  WEFT_RETURN_IF_ERROR(reducer->Allocate(device));
  return reducer;
}

absl::Status GradientReducer::Allocate(kernels::Device& device) {
  const int64_t elements = options_.elements;
  // So many that the calls for one do not show beside a large gradient, which has few of them then.
  const int64_t wanted = std::max(options_.bucket_elements, elements / kMostBuckets);
  const int64_t size = kernels::FixedPointBlocks(wanted) * kernels::kFixedPointBlock;
  for (int64_t first = 0; first < elements; first += size) {
    buckets_.push_back({.first = first, .count = std::min(size, elements - first)});
  }
  if (options_.shards == 1) buckets_.clear();
  std::reverse(buckets_.begin(), buckets_.end());
  next_bucket_ = buckets_.size();

  for (int64_t i = 0; i < (exact() ? options_.local_shards : 1); ++i) {
    WEFT_ASSIGN_OR_RETURN(Tensor gradient,
                          kernels::NewTensor(device, device.sum_dtype(), {elements}));
    shard_gradients_.push_back(std::move(gradient));
  }
  if (buckets_.empty() || !exact()) mean_ = shard_gradients_.front();
  if (buckets_.empty()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(stream_, device.NewStream());
  if (!exact()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(mean_, kernels::NewTensor(device, device.sum_dtype(), {elements}));
  const int64_t largest = std::min(kMostTogether * size, elements);
  WEFT_ASSIGN_OR_RETURN(sum_, kernels::NewTensor(device, kernels::DType::kI32, {largest}));
  WEFT_ASSIGN_OR_RETURN(exponents_, kernels::NewTensor(device, kernels::DType::kI32,
                                                       {kernels::FixedPointBlocks(largest)}));
  return absl::OkStatus();
}

absl::Status GradientReducer::Begin(kernels::Stream& stream) {
  WEFT_CHECK(next_bucket_ == buckets_.size());
  for (Tensor& gradient : shard_gradients_) {
    WEFT_RETURN_IF_ERROR(kernels::Fill(stream, gradient, 0.0));
  }
  next_bucket_ = 0;
  return absl::OkStatus();
}

absl::Status GradientReducer::Ready(kernels::Stream& stream, int64_t first) {
  const auto is_ready = [&] {
    return next_bucket_ < buckets_.size() && buckets_[next_bucket_].first >= first;
  };
  if (!is_ready()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<kernels::StreamEvent> computed, stream.Record());
  while (is_ready()) {
    Bucket together = buckets_[next_bucket_++];
    for (int64_t i = 1; i < kMostTogether && is_ready(); ++i) {
      together.first = buckets_[next_bucket_].first;  // the one before it
      together.count += buckets_[next_bucket_++].count;
    }
    thread_.Post([this, computed, together]() -> absl::Status {
      WEFT_RETURN_IF_ERROR(stream_->WaitFor(*computed));
      return exact() ? ReduceBucket(together) : AddBucketInFloatingPoint(together);
    });
  }
  return absl::OkStatus();
}

absl::Status GradientReducer::Finish() {
  WEFT_CHECK(next_bucket_ == buckets_.size());
  return thread_.Drain();
}

absl::Status GradientReducer::ReduceBucket(const Bucket& bucket) {
  Tensor exponents = exponents_.Part(0, {kernels::FixedPointBlocks(bucket.count)});
  kernels::Accumulate accumulate = kernels::Accumulate::kNo;
  for (const Tensor& gradient : shard_gradients_) {
    WEFT_RETURN_IF_ERROR(kernels::BlockExponents(
        *stream_, gradient.Part(bucket.first, {bucket.count}), accumulate, exponents));
    accumulate = kernels::Accumulate::kYes;
  }
  WEFT_RETURN_IF_ERROR(stream_->Synchronize());
  WEFT_RETURN_IF_ERROR(exchange_.Reduce(exponents, ReduceOp::kMax, clock_.Now() + timeout_));

  const int bits = kernels::FixedPointBits(options_.shards);
  Tensor sum = sum_.Part(0, {bucket.count});
  accumulate = kernels::Accumulate::kNo;
  for (const Tensor& gradient : shard_gradients_) {
    WEFT_RETURN_IF_ERROR(kernels::Quantize(*stream_, gradient.Part(bucket.first, {bucket.count}),
                                           exponents, bits, accumulate, sum));
    accumulate = kernels::Accumulate::kYes;
  }
  WEFT_RETURN_IF_ERROR(stream_->Synchronize());
  WEFT_RETURN_IF_ERROR(exchange_.Reduce(sum, ReduceOp::kSum, clock_.Now() + timeout_));
  Tensor mean = mean_.Part(bucket.first, {bucket.count});
  WEFT_RETURN_IF_ERROR(kernels::Dequantize(*stream_, sum, exponents, bits, mean));
  return stream_->Synchronize();
}

absl::Status GradientReducer::AddBucketInFloatingPoint(const Bucket& bucket) {
  WEFT_RETURN_IF_ERROR(stream_->Synchronize());
  Tensor sum = mean_.Part(bucket.first, {bucket.count});
  return exchange_.Reduce(sum, ReduceOp::kSum, clock_.Now() + timeout_);
}

}  // namespace weft::worker

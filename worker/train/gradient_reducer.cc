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
// hide.
constexpr int64_t kMostBuckets = 32;
// How many of the smallest buckets are exchanged at once when they become ready at once, which
// bounds the memory for it. As many before the end, smaller buckets will do: what is left for the
// end of the backward pass has nothing to hide behind.
constexpr int64_t kLargest = 4;

int64_t InWholeBlocks(int64_t elements) {
  return kernels::FixedPointBlocks(elements) * kernels::kFixedPointBlock;
}

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
  smallest_ = InWholeBlocks(std::max(options_.bucket_elements, elements / kMostBuckets));
  largest_ = std::min(kLargest * smallest_, InWholeBlocks(elements));
  for (int64_t i = 0; i < (exact() ? options_.local_shards : 1); ++i) {
    WEFT_ASSIGN_OR_RETURN(Tensor gradient,
                          kernels::NewTensor(device, device.sum_dtype(), {elements}));
    shard_gradients_.push_back(std::move(gradient));
  }
  if (!adds()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(stream_, device.NewStream());
  if (!exact()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(sum_, kernels::NewTensor(device, kernels::DType::kI32, {largest_}));
  WEFT_ASSIGN_OR_RETURN(exponents_, kernels::NewTensor(device, kernels::DType::kI32,
                                                       {kernels::FixedPointBlocks(largest_)}));
  return absl::OkStatus();
}

absl::Status GradientReducer::Begin(kernels::Stream& stream) {
  WEFT_CHECK(posted_ == 0);
  for (Tensor& gradient : shard_gradients_) {
    WEFT_RETURN_IF_ERROR(kernels::Fill(stream, gradient, 0.0));
  }
  posted_ = adds() ? options_.elements : 0;
  return absl::OkStatus();
}

absl::Status GradientReducer::Ready(kernels::Stream& stream, int64_t first) {
  // A block waits for all of its elements.
  const int64_t final_from = std::min(InWholeBlocks(first), posted_);
  int64_t wanted = smallest_;
  if (final_from <= largest_) wanted = InWholeBlocks(options_.bucket_elements);
  if (final_from == 0) wanted = 1;
  return posted_ - final_from >= wanted ? Post(stream, final_from) : absl::OkStatus();
}

absl::Status GradientReducer::Post(kernels::Stream& stream, int64_t first) {
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<kernels::StreamEvent> computed, stream.Record());
  while (posted_ > first) {
    // The last bucket of the block may end with part of a fixed-point block.
    const int64_t begin = std::max(first, InWholeBlocks(posted_) - largest_);
    const Bucket bucket = {.first = begin, .count = posted_ - begin};
    posted_ = begin;
    thread_.Post([this, computed, bucket]() -> absl::Status {
      WEFT_RETURN_IF_ERROR(stream_->WaitFor(*computed));
      return exact() ? ReduceBucket(bucket) : AddBucketInFloatingPoint(bucket);
    });
  }
  return absl::OkStatus();
}

absl::Status GradientReducer::Finish() {
  WEFT_CHECK(posted_ == 0);
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
  Tensor mean_part = mean().Part(bucket.first, {bucket.count});
  WEFT_RETURN_IF_ERROR(kernels::Dequantize(*stream_, sum, exponents, bits, mean_part));
  return stream_->Synchronize();
}

absl::Status GradientReducer::AddBucketInFloatingPoint(const Bucket& bucket) {
  WEFT_RETURN_IF_ERROR(stream_->Synchronize());
  Tensor sum = mean().Part(bucket.first, {bucket.count});
  return exchange_.Reduce(sum, ReduceOp::kSum, clock_.Now() + timeout_);
}

}  // namespace weft::worker

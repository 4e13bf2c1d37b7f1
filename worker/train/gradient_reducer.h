// GradientReducer: turns the gradients of a step's shards, computed on any number of ranks, into
// one mean gradient with the same bits on every rank.
//
// Each local shard has a gradient block of its own: two shards are never added in floating point.
// The flat block is reduced in buckets, from its end. As soon as the last local shard has gradients
// enough for one, the exchange thread reduces it, while the backward pass goes on towards earlier
// layers:
//
//   exponents = max over local shards, then over ranks, of each 1024-element block's exponent
//   sum       = the integers of all local shards, then of all ranks
//   mean      = sum as floating point (the shards' gradients carry 1 / tokens of the step already)
//
// The mean takes the place of the first shard's gradient, which has gone into it. A step of one
// shard has nothing to add.
//
// Where the gang never changes its size, gradients may be added in floating point instead: those of
// all local shards in one block, in the order in which they are computed, then by the exchange.
//
// Blocks are counted from the start of the flat block, so what is a bucket changes no bit; it
// follows from the calls of Ready alone, so all ranks do the same.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/time/clock.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"
#include "worker/comm/exchange.h"
#include "worker/train/exchange_thread.h"
#include "worker/train/train_config.h"

namespace weft::worker {

class GradientReducer {
 public:
  struct Options {
    int64_t elements = 0;      // of the flat block
    int64_t shards = 1;        // of a step, over all ranks
    int64_t local_shards = 1;  // of this rank, at least one
    Reproducibility reproducibility = Reproducibility::kExact;
    // What is worth an exchange, at least; rounded up to whole fixed-point blocks. 1 MiB of
    // elements: large enough that the cost of a call does not show.
    int64_t bucket_elements = int64_t{1} << 20;
    // See set_timeout.
    absl::Duration timeout = absl::Minutes(5);
  };

  // All references outlive the reducer. kResourceExhausted when the device is full.
  static absl::StatusOr<std::unique_ptr<GradientReducer>> Create(kernels::Device& device,
                                                                 Exchange& exchange,
                                                                 ExchangeThread& thread,
                                                                 const Clock& clock,
                                                                 const Options& options);

  // Waits for what the exchange thread still does with this reducer.
  ~GradientReducer() { thread_.Drain().IgnoreError(); }
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // How long one exchange may take; it includes waiting for ranks that are still computing. Between
  // steps only.
  void set_timeout(absl::Duration timeout) { timeout_ = timeout; }
  // Begins a step: all shard gradients become zero.
  absl::Status Begin(kernels::Stream& stream);
  // The flat block that the gradient of local shard i is added to: one for each shard, or all the
  // same in a fixed gang.
  [[nodiscard]] const kernels::Tensor& shard_gradient(int64_t i) const {
    return shard_gradients_[exact() ? static_cast<size_t>(i) : 0];
  }
  // The gradients of ALL local shards will be final from element `first` on when what is enqueued
  // on `stream` is done; `first` only falls.
  absl::Status Ready(kernels::Stream& stream, int64_t first);
  // Waits for the exchange thread, with whatever else was posted there; everything must be Ready.
  // Then mean() holds the step's gradient.
  absl::Status Finish();
  [[nodiscard]] const kernels::Tensor& mean() const { return shard_gradients_.front(); }

 private:
  struct Bucket {
    int64_t first = 0;
    int64_t count = 0;
  };

  GradientReducer(Exchange& exchange, ExchangeThread& thread, const Clock& clock,
                  const Options& options)
      : exchange_(exchange),
        thread_(thread),
        clock_(clock),
        options_(options),
        timeout_(options.timeout) {}
  absl::Status Allocate(kernels::Device& device);
  // On the exchange thread, with its own stream and buffers.
  absl::Status ReduceBucket(const Bucket& bucket);
  absl::Status AddBucketInFloatingPoint(const Bucket& bucket);
  // Posts all from element `first` on that is not posted, in as many buckets as it takes.
  absl::Status Post(kernels::Stream& stream, int64_t first);
  [[nodiscard]] bool adds() const { return options_.shards > 1; }
  [[nodiscard]] bool exact() const { return options_.reproducibility == Reproducibility::kExact; }

  Exchange& exchange_;
  ExchangeThread& thread_;
  const Clock& clock_;
  const Options options_;
  absl::Duration timeout_;
  std::vector<kernels::Tensor> shard_gradients_;
  int64_t smallest_ = 0;  // elements of a bucket far from the start of the block
  int64_t largest_ = 0;
  int64_t posted_ = 0;  // the first element that is
  // Used by the exchange thread only.
  std::unique_ptr<kernels::Stream> stream_;
  kernels::Tensor sum_;        // I32 [largest bucket]
  kernels::Tensor exponents_;  // I32 [its blocks]
};

}  // namespace weft::worker

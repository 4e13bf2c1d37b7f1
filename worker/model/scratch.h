// Temporary tensors that are handed out again and again: after the first pass over a shape nothing
// is allocated any more.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::worker {

// A stack of tensors, of the device's compute type unless another is asked for. Used by one thread.
// Contents are undefined when taken.
//
//   Scratch::Frame frame(scratch);
//   WEFT_ASSIGN_OR_RETURN(Tensor dq, scratch.Take({batch, tokens, width}));
//   // dq's memory is taken again by others after `frame` ends
class Scratch {
 public:
  class Frame {
   public:
    explicit Frame(Scratch& scratch) : scratch_(scratch), mark_(scratch.used_) {}
    ~Frame() { scratch_.used_ = mark_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    const size_t mark_;
  };

  // The device outlives this object and every tensor taken from it.
  explicit Scratch(kernels::Device& device) : device_(device) {}

  // kResourceExhausted when the device is full. Valid until the innermost frame ends.
  absl::StatusOr<kernels::Tensor> Take(const kernels::Shape& shape);
  absl::StatusOr<kernels::Tensor> Take(const kernels::Shape& shape, kernels::DType dtype);
  // How often memory was allocated: until it is again, tensors that are taken in the same order lie
  // where they lay.
  [[nodiscard]] int64_t allocations() const { return allocations_; }

 private:
  kernels::Device& device_;
  // Each as large as the largest tensor it has ever held.
  std::vector<std::shared_ptr<kernels::Buffer>> slots_;
  size_t used_ = 0;
  int64_t allocations_ = 0;
};

}  // namespace weft::worker

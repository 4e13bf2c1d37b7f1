#include "worker/model/scratch.h"

#include "common/base/status_macros.h"

namespace weft::worker {

absl::StatusOr<kernels::Tensor> Scratch::Take(const kernels::Shape& shape) {
  return Take(shape, device_.compute_dtype());
}

absl::StatusOr<kernels::Tensor> Scratch::Take(const kernels::Shape& shape, kernels::DType dtype) {
  if (used_ == slots_.size()) slots_.emplace_back();
  std::shared_ptr<kernels::Buffer>& slot = slots_[used_];
  const int64_t bytes = shape.count() * kernels::SizeOf(dtype);
  if (slot == nullptr || slot->bytes() < bytes) {
    slot.reset();  // first, so that both are never there
    ++allocations_;
    WEFT_ASSIGN_OR_RETURN(slot, device_.Allocate(bytes));
  }
  ++used_;
  return kernels::Tensor(slot, dtype, shape);
}

}  // namespace weft::worker

#include "worker/model/scratch.h"

#include "common/base/status_macros.h"

namespace weft::worker {

absl::StatusOr<kernels::Tensor> Scratch::Take(const kernels::Shape& shape) {
  if (used_ == slots_.size()) slots_.emplace_back();
  kernels::Tensor& slot = slots_[used_];
  if (!slot.present() || slot.count() < shape.count()) {
    WEFT_ASSIGN_OR_RETURN(slot, kernels::NewTensor(device_, device_.compute_dtype(), shape));
  }
  ++used_;
  return slot.Part(0, shape);
}

}  // namespace weft::worker

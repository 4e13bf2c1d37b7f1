#include "kernels/device/device.h"

#include <utility>

#include "common/base/status_macros.h"

namespace weft::kernels {

absl::StatusOr<Tensor> NewTensor(Device& device, DType dtype, const Shape& shape) {
  WEFT_ASSIGN_OR_RETURN(std::shared_ptr<Buffer> buffer,
                        device.Allocate(shape.count() * SizeOf(dtype)));
  return Tensor(std::move(buffer), dtype, shape);
}

}  // namespace weft::kernels

// Tensor: a handle to a contiguous, row-major block of elements on one device. Copying a handle
// copies no elements; both name the same memory. Ops read and write whole handles. Model code never
// asks for the address: that is what lets a device record the calls instead of running them.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/tensor/buffer.h"
#include "kernels/tensor/dtype.h"
#include "kernels/tensor/shape.h"

namespace weft::kernels {

class Tensor {
 public:
  Tensor() = default;  // no tensor: an optional operand that is absent
  Tensor(std::shared_ptr<Buffer> buffer, DType dtype, const Shape& shape, int64_t offset_bytes = 0)
      : buffer_(std::move(buffer)), shape_(shape), offset_bytes_(offset_bytes), dtype_(dtype) {
    WEFT_CHECK(buffer_ != nullptr);
    WEFT_CHECK(offset_bytes_ >= 0 && offset_bytes_ + bytes() <= buffer_->bytes());
  }

  [[nodiscard]] bool present() const { return buffer_ != nullptr; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t dim(int axis) const { return shape_.dim(axis); }
  [[nodiscard]] int64_t count() const { return shape_.count(); }
  [[nodiscard]] int64_t bytes() const { return count() * SizeOf(dtype_); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] Device& device() const { return buffer_->device(); }
  [[nodiscard]] std::string ToString() const {
    return absl::StrCat(NameOf(dtype_), shape_.ToString());
  }

  // The same elements under another shape of the same count.
  [[nodiscard]] Tensor Reshaped(const Shape& shape) const {
    WEFT_CHECK_MSG(shape.count() == count(), absl::StrCat(ToString(), " as ", shape.ToString()));
    return Tensor(buffer_, dtype_, shape, offset_bytes_);
  }
  // Elements [first, first + shape.count()) of the flattened tensor: how parameters lie in one
  // block.
  [[nodiscard]] Tensor Part(int64_t first, const Shape& shape) const {
    WEFT_CHECK(first >= 0 && first + shape.count() <= count());
    return Tensor(buffer_, dtype_, shape, offset_bytes_ + first * SizeOf(dtype_));
  }

  // For device code only: the address of the first element; null when absent.
  [[nodiscard]] void* address() const {
    return present() ? static_cast<char*>(buffer_->data()) + offset_bytes_ : nullptr;
  }
  // The same of an element type of this size.
  template <typename T>
  [[nodiscard]] T* data() const {
    WEFT_CHECK(SizeOf(dtype_) == static_cast<int64_t>(sizeof(T)));
    return static_cast<T*>(address());
  }

 private:
  std::shared_ptr<Buffer> buffer_;
  Shape shape_;
  int64_t offset_bytes_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace weft::kernels

// Tensors in ordinary memory, for tests that need no device.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "common/base/check.h"
#include "kernels/tensor/tensor.h"

namespace weft::testing {

class HostBuffer final : public kernels::Buffer {
 public:
  explicit HostBuffer(int64_t bytes) : words_(static_cast<size_t>(bytes + 7) / 8), bytes_(bytes) {}
  void* data() override { return words_.data(); }
  [[nodiscard]] int64_t bytes() const override { return bytes_; }
  [[nodiscard]] kernels::Device& device() const override {
    CheckFailed(__FILE__, __LINE__, "device()", "a host buffer of a test has no device");
  }

 private:
  std::vector<uint64_t> words_;
  int64_t bytes_;
};

inline kernels::Tensor NewHostTensor(kernels::DType dtype, const kernels::Shape& shape) {
  return kernels::Tensor(std::make_shared<HostBuffer>(shape.count() * kernels::SizeOf(dtype)),
                         dtype, shape);
}

template <typename T>
kernels::Tensor HostTensorOf(kernels::DType dtype, const std::vector<T>& values) {
  kernels::Tensor tensor = NewHostTensor(dtype, {static_cast<int64_t>(values.size())});
  if (!values.empty()) {
    std::memcpy(tensor.data<T>(), values.data(), values.size() * sizeof(T));
  }
  return tensor;
}

template <typename T>
std::vector<T> ValuesOf(const kernels::Tensor& tensor) {
  const T* first = tensor.data<T>();
  return std::vector<T>(first, first + tensor.count());
}

}  // namespace weft::testing

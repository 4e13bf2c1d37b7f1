// Memory on one device. Tensors share a buffer; it is freed with the last of them.
#pragma once

#include <cstdint>

namespace weft::kernels {

class Device;

class Buffer {
 public:
  virtual ~Buffer() = default;
  // The address on the device; on CPU an ordinary pointer, 64-byte aligned. Only device code may
  // dereference it. Null on a device that records programs.
  [[nodiscard]] virtual void* data() = 0;
  [[nodiscard]] virtual int64_t bytes() const = 0;
  [[nodiscard]] virtual Device& device() const = 0;
};

}  // namespace weft::kernels

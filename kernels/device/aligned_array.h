// Memory on a 64-byte boundary (a cache line, and the widest vector register), zeroed and freed
// with the object. The working space of CPU kernels and the body of host buffers.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "common/base/check.h"

namespace weft::kernels {

inline constexpr int64_t kHostAlignment = 64;

struct FreeAligned {
  void operator()(void* memory) const {
    ::operator delete (memory, std::align_val_t{kHostAlignment});
  }
};

// `count` zeroed elements of a plain type; null when there is no memory for them.
template <typename T>
std::unique_ptr<T[], FreeAligned> TryNewAligned(int64_t count) {
  const auto bytes = static_cast<size_t>(count > 0 ? count : 1) * sizeof(T);
  void* memory = ::operator new (bytes, std::align_val_t{kHostAlignment}, std::nothrow);
  if (memory != nullptr) std::memset(memory, 0, bytes);
  return std::unique_ptr<T[], FreeAligned>(static_cast<T*>(memory));
}

// A growing working space for one thread: Get returns at least `count` elements whose content is
// undefined, valid until the next Get.
template <typename T>
class Scratch {
 public:
  T* Get(int64_t count) {
    if (count > capacity_) {
      memory_.reset();
      memory_ = TryNewAligned<T>(count);
      WEFT_CHECK_MSG(memory_ != nullptr, "no memory for the working space of a kernel");
      capacity_ = count;
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<T[], FreeAligned> memory_;
  int64_t capacity_ = 0;
};

}  // namespace weft::kernels

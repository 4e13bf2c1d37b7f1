// Cuts working space on a GPU into parts.
#pragma once

#include <cstdint>

namespace weft::kernels {

// Each part begins on a multiple of `boundary` bytes from the base. With a null base it only
// counts. Owns nothing; for one thread.
class CudaCarver {
 public:
  explicit CudaCarver(void* base, int64_t boundary = 256)
      : base_(static_cast<uint8_t*>(base)), boundary_(boundary) {}
  uint8_t* TakeBytes(int64_t bytes) {
    uint8_t* const part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (bytes + boundary_ - 1) / boundary_ * boundary_;
    return part;
  }
  template <typename T>
  T* Take(int64_t count) {
    return reinterpret_cast<T*>(TakeBytes(count * static_cast<int64_t>(sizeof(T))));
  }
  [[nodiscard]] int64_t used() const { return used_; }  // bytes

 private:
  uint8_t* base_;
  int64_t boundary_;
  int64_t used_ = 0;
};

}  // namespace weft::kernels

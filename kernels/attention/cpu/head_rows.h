// What the CPU kernels of all mechanisms need around their matrix products: the rows of one head,
// and working space. Private to kernels/attention.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/device/aligned_array.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// The rows of one head in a [B, T, H, width] tensor of fp32, `stride` elements apart. Products want
// them dense: with strides of a power of two, all rows of a head meet in a few sets of the cache
// (measured: a third of the speed). So tiles are loaded and stored.
struct HeadRows {
  HeadRows(const Tensor& tensor, int64_t batch, int64_t head)
      : first(tensor.data<float>() +
              (batch * tensor.dim(1) * tensor.dim(2) + head) * tensor.dim(3)),
        width(tensor.dim(3)),
        stride(tensor.dim(2) * tensor.dim(3)) {}

  [[nodiscard]] float* Row(int64_t t) const { return first + t * stride; }
  // Rows t ... t + rows - 1 to and from a dense matrix.
  void Load(int64_t t, int64_t rows, float* to) const {
    for (int64_t i = 0; i < rows; ++i) Copy(Row(t + i), to + i * width);
  }
  void Store(int64_t t, int64_t rows, const float* from) const {
    for (int64_t i = 0; i < rows; ++i) Copy(from + i * width, Row(t + i));
  }

  float* first;
  int64_t width;
  int64_t stride;

 private:
  void Copy(const float* from, float* to) const {
    std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float));
  }
};

// Cuts one allocation into matrices that begin on cache lines. Without memory it only counts.
class Carver {
 public:
  explicit Carver(float* memory) : memory_(memory) {}
  template <typename T = float>
  T* Take(int64_t count) {
    float* const taken = memory_ == nullptr ? nullptr : memory_ + used_;
    constexpr int64_t kLine = kHostAlignment / static_cast<int64_t>(sizeof(T));
    used_ += (count + kLine - 1) / kLine * (kHostAlignment / static_cast<int64_t>(sizeof(float)));
    return reinterpret_cast<T*>(taken);
  }
  [[nodiscard]] int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

// A Space(problem, carver) in memory that this thread keeps: as large as its largest problem so
// far. Its content is undefined; the next call for the same Space takes it away.
template <typename Space, typename Problem>
Space ThreadSpace(const Problem& problem) {
  thread_local Scratch<float> scratch;
  Carver count(nullptr);
  static_cast<void>(Space(problem, count));
  Carver carver(scratch.Get(count.used()));
  return Space(problem, carver);
}

}  // namespace weft::kernels

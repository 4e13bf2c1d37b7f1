// The extents of a tensor, outermost first. At most kMaxRank of them; a value, no allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "common/base/check.h"

namespace weft::kernels {

class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;  // rank 0: one element
  Shape(std::initializer_list<int64_t> dims)
      : Shape(absl::MakeConstSpan(dims.begin(), dims.size())) {}
  explicit Shape(absl::Span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
    WEFT_CHECK(rank_ <= kMaxRank);
    for (int i = 0; i < rank_; ++i) {
      WEFT_CHECK(dims[i] >= 0);
      dims_[i] = dims[i];
    }
  }

  [[nodiscard]] int rank() const { return rank_; }
  // Negative axes count from the end: dim(-1) is the innermost extent.
  [[nodiscard]] int64_t dim(int axis) const {
    const int index = axis < 0 ? rank_ + axis : axis;
    WEFT_CHECK(index >= 0 && index < rank_);
    return dims_[index];
  }
  [[nodiscard]] int64_t count() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= dims_[i];
    return product;
  }
  // All extents but the last, multiplied: the rows of a row-wise op.
  [[nodiscard]] int64_t rows() const { return rank_ == 0 || dim(-1) == 0 ? 0 : count() / dim(-1); }
  [[nodiscard]] absl::Span<const int64_t> dims() const {
    return {dims_.data(), static_cast<size_t>(rank_)};
  }
  [[nodiscard]] std::string ToString() const {
    return absl::StrCat("[", absl::StrJoin(dims(), ", "), "]");
  }

  friend bool operator==(const Shape& a, const Shape& b) { return a.dims() == b.dims(); }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace weft::kernels

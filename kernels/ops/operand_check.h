// Checks that every op makes before it looks for its implementation. For op code only.
//
// All return kInvalidArgument that names the op, the operand, what it is and what it should be.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// Gathers the first complaint about the operands of one call:
//
//   OperandCheck check("RmsNormForward", stream);
//   check.Compute("x", x).Shaped("w", w, {channels});
//   WEFT_RETURN_IF_ERROR(check.status());
class OperandCheck {
 public:
  OperandCheck(absl::string_view op, const Stream& stream) : op_(op), stream_(stream) {}

  // Present, on the stream's device, of its compute type, of at least `rank` dimensions.
  OperandCheck& Compute(absl::string_view name, const Tensor& tensor, int rank = 0);
  // The same with this very shape.
  OperandCheck& Shaped(absl::string_view name, const Tensor& tensor, const Shape& shape);
  // The same with a type of its own.
  OperandCheck& Typed(absl::string_view name, const Tensor& tensor, DType dtype,
                      const Shape& shape);
  // The same with this number of elements, in any shape.
  OperandCheck& Counted(absl::string_view name, const Tensor& tensor, int64_t count);
  // Present, on the stream's device, of its sum type, of this very shape or number of elements.
  OperandCheck& SumShaped(absl::string_view name, const Tensor& tensor, const Shape& shape);
  OperandCheck& SumCounted(absl::string_view name, const Tensor& tensor, int64_t count);
  // Of a linear map: x [..., K] and y [..., N], of the compute type and with the same rows, and
  // w [N, K] of `w_type`.
  OperandCheck& Mapped(absl::string_view x_name, const Tensor& x, absl::string_view w_name,
                       const Tensor& w, DType w_type, absl::string_view y_name, const Tensor& y);
  // Present and on the stream's device.
  OperandCheck& Present(absl::string_view name, const Tensor& tensor);
  // Any complaint of the op's own: refused unless `holds`.
  OperandCheck& Require(bool holds, absl::string_view complaint);

  [[nodiscard]] bool ok() const { return status_.ok(); }
  [[nodiscard]] absl::Status status() const { return status_; }

 private:
  OperandCheck& CountedAs(absl::string_view name, const Tensor& tensor, DType wanted,
                          int64_t count);
  void Refuse(absl::string_view name, const Tensor& tensor, absl::string_view wanted);
  bool Lives(absl::string_view name, const Tensor& tensor);

  absl::string_view op_;
  const Stream& stream_;
  absl::Status status_;
};

// The rows of a row-wise op: all dimensions but the innermost, multiplied; right for empty rows
// too.
int64_t RowsOf(const Tensor& tensor);

// kInvalidArgument naming the row unless every element of `indices` (host memory) is below `limit`
// and, unless `allow_negative`, at least 0.
absl::Status CheckIndices(absl::string_view op, absl::string_view name, const int32_t* indices,
                          int64_t count, int64_t limit, bool allow_negative);

}  // namespace weft::kernels

#include "kernels/ops/operand_check.h"

namespace weft::kernels {

void OperandCheck::Refuse(absl::string_view name, const Tensor& tensor, absl::string_view wanted) {
  status_ = absl::InvalidArgumentError(
      absl::StrCat(op_, ": ", name, " is ", tensor.ToString(), ", expected ", wanted));
}

bool OperandCheck::Lives(absl::string_view name, const Tensor& tensor) {
  if (!status_.ok()) return false;
  if (!tensor.present()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(op_, ": ", name, " is absent"));
    return false;
  }
  if (&tensor.device() != &stream_.device()) {
    Refuse(name, tensor, "a tensor on the device of the stream");
    return false;
  }
  return true;
}

OperandCheck& OperandCheck::Compute(absl::string_view name, const Tensor& tensor, int rank) {
  if (!Lives(name, tensor)) return *this;
  const DType wanted = stream_.device().compute_dtype();
  if (tensor.dtype() != wanted || tensor.shape().rank() < rank) {
    Refuse(name, tensor, absl::StrCat(NameOf(wanted), " of ", rank, " dimensions or more"));
  }
  return *this;
}

OperandCheck& OperandCheck::Shaped(absl::string_view name, const Tensor& tensor,
                                   const Shape& shape) {
  return Typed(name, tensor, stream_.device().compute_dtype(), shape);
}

OperandCheck& OperandCheck::Typed(absl::string_view name, const Tensor& tensor, DType dtype,
                                  const Shape& shape) {
  if (!Lives(name, tensor)) return *this;
  if (tensor.dtype() != dtype || !(tensor.shape() == shape)) {
    Refuse(name, tensor, absl::StrCat(NameOf(dtype), shape.ToString()));
  }
  return *this;
}

OperandCheck& OperandCheck::Counted(absl::string_view name, const Tensor& tensor, int64_t count) {
  return CountedAs(name, tensor, stream_.device().compute_dtype(), count);
}

OperandCheck& OperandCheck::SumShaped(absl::string_view name, const Tensor& tensor,
                                      const Shape& shape) {
  return Typed(name, tensor, stream_.device().sum_dtype(), shape);
}

OperandCheck& OperandCheck::SumCounted(absl::string_view name, const Tensor& tensor,
                                       int64_t count) {
  return CountedAs(name, tensor, stream_.device().sum_dtype(), count);
}

OperandCheck& OperandCheck::CountedAs(absl::string_view name, const Tensor& tensor, DType wanted,
                                      int64_t count) {
  if (!Lives(name, tensor)) return *this;
  if (tensor.dtype() != wanted || tensor.count() != count) {
    Refuse(name, tensor, absl::StrCat(count, " elements of ", NameOf(wanted)));
  }
  return *this;
}

OperandCheck& OperandCheck::Mapped(absl::string_view x_name, const Tensor& x,
                                   absl::string_view w_name, const Tensor& w, DType w_type,
                                   absl::string_view y_name, const Tensor& y) {
  Compute(x_name, x, 1).Compute(y_name, y, 1);
  if (!ok()) return *this;
  Typed(w_name, w, w_type, {y.dim(-1), x.dim(-1)});
  return Require(RowsOf(x) == RowsOf(y), absl::StrCat(x_name, " is ", x.ToString(), " but ", y_name,
                                                      " is ", y.ToString(), ": rows differ"));
}

OperandCheck& OperandCheck::Present(absl::string_view name, const Tensor& tensor) {
  Lives(name, tensor);
  return *this;
}

OperandCheck& OperandCheck::Require(bool holds, absl::string_view complaint) {
  if (status_.ok() && !holds) {
    status_ = absl::InvalidArgumentError(absl::StrCat(op_, ": ", complaint));
  }
  return *this;
}

int64_t RowsOf(const Tensor& tensor) {
  int64_t rows = 1;
  for (int axis = 0; axis + 1 < tensor.shape().rank(); ++axis) rows *= tensor.dim(axis);
  return rows;
}

absl::Status CheckIndices(absl::string_view op, absl::string_view name, const int32_t* indices,
                          int64_t count, int64_t limit, bool allow_negative) {
  for (int64_t i = 0; i < count; ++i) {
    if (indices[i] >= limit || (indices[i] < 0 && !allow_negative)) {
      return absl::InvalidArgumentError(
          absl::StrCat(op, ": ", name, "[", i, "] is ", indices[i], ", outside [0, ", limit, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

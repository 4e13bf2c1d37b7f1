#include "kernels/ops/columns/columns_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

// `bytes` of every row, which follow each other by the strides.
void CopyRows(Stream& /*stream*/, int64_t rows, int64_t bytes, const char* from,
              int64_t from_stride, char* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < bytes; ++i) to[r * to_stride + i] = from[r * from_stride + i];
  }
}

int64_t RowBytes(const Tensor& tensor) { return tensor.dim(-1) * SizeOf(tensor.dtype()); }

absl::Status PutReference(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  auto* target = static_cast<char*>(to.address()) + at * SizeOf(to.dtype());
  CopyRows(stream, RowsOf(from), RowBytes(from), static_cast<const char*>(from.address()),
           RowBytes(from), target, RowBytes(to));
  return absl::OkStatus();
}

absl::Status TakeReference(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  const auto* source = static_cast<const char*>(from.address()) + at * SizeOf(from.dtype());
  CopyRows(stream, RowsOf(to), RowBytes(to), source, RowBytes(from),
           static_cast<char*>(to.address()), RowBytes(to));
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceColumns() {
  put_columns.Set(DeviceKind::kReference, PutReference);
  take_columns.Set(DeviceKind::kReference, TakeReference);
}

}  // namespace weft::kernels::internal

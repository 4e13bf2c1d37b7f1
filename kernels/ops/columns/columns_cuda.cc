#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/columns/columns_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

int64_t RowBytes(const Tensor& tensor) { return tensor.dim(-1) * SizeOf(tensor.dtype()); }

// `bytes` of every row, which follow each other by the strides.
absl::Status CopyRows(Stream& stream, int64_t rows, int64_t bytes, const char* from,
                      int64_t from_stride, char* to, int64_t to_stride) {
  if (rows == 0 || bytes == 0) return absl::OkStatus();
  return CudaStatus(
      cudaMemcpy2DAsync(to, static_cast<size_t>(to_stride), from, static_cast<size_t>(from_stride),
                        static_cast<size_t>(bytes), static_cast<size_t>(rows),
                        cudaMemcpyDeviceToDevice, AsCudaStream(stream).launch().stream),
      "copy of columns");
}

absl::Status PutCuda(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  return CopyRows(stream, RowsOf(from), RowBytes(from), static_cast<const char*>(from.address()),
                  RowBytes(from), static_cast<char*>(to.address()) + at * SizeOf(to.dtype()),
                  RowBytes(to));
}

absl::Status TakeCuda(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  return CopyRows(stream, RowsOf(to), RowBytes(to),
                  static_cast<const char*>(from.address()) + at * SizeOf(from.dtype()),
                  RowBytes(from), static_cast<char*>(to.address()), RowBytes(to));
}

}  // namespace

void RegisterCudaColumns() {
  put_columns.Set(DeviceKind::kCuda, PutCuda);
  take_columns.Set(DeviceKind::kCuda, TakeCuda);
}

}  // namespace weft::kernels::internal

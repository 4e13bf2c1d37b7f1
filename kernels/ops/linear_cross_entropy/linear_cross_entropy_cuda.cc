#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_cuda.h"

#include <algorithm>

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"

namespace weft::kernels::internal {
namespace {

// Rows whose logits exist at a time. The more, the better the products run (the gradient of 50,304
// x 768 weights is read and written for each block; 16,384 rows take 15 % less than four times
// 4,096); few enough for the logits to stay below kMostLogitBytes, beside which a model of so many
// classes is large.
constexpr int64_t kFewestRows = 4096;
constexpr int64_t kMostRows = 16384;
constexpr int64_t kMostLogitBytes = int64_t{2} << 30;
// Every row of logits begins on a 16-byte boundary.
constexpr int64_t kRowMultiple = 8;

struct Head {
  CudaStream& cuda;
  const Tensor& h;
  const Tensor& w;
  const Tensor& bias;
  const Tensor& targets;
  Tensor& losses;
  Tensor& right;

  [[nodiscard]] int64_t rows() const { return targets.count(); }
  [[nodiscard]] int64_t classes() const { return w.dim(0); }
  [[nodiscard]] int64_t channels() const { return w.dim(1); }
  [[nodiscard]] int64_t stride() const {
    return (classes() + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  }
  // Of row `row` of h, or of a tensor of its shape.
  [[nodiscard]] void* RowOf(const Tensor& tensor, int64_t row) const {
    return static_cast<char*>(tensor.address()) + row * channels() * SizeOf(tensor.dtype());
  }
  // Of a block; the last one may have fewer.
  [[nodiscard]] int64_t rows_of_block() const {
    const int64_t most = kMostLogitBytes / (stride() * SizeOf(w.dtype()));
    return std::clamp(most / kFewestRows * kFewestRows, kFewestRows, kMostRows);
  }
  absl::StatusOr<CudaScratch> NewLogits() const {
    return cuda.Scratch(std::min(rows(), rows_of_block()) * stride() * SizeOf(w.dtype()));
  }
};

// logits = h w^T + bias of `count` rows from `first` on; then their losses, and their slopes in
// place.
absl::Status LossesOfBlock(const Head& head, int64_t first, int64_t count, bool slopes,
                           double gradient_scale, void* logits) {
  WEFT_RETURN_IF_ERROR(Run(head.cuda, {.m = count,
                                       .n = head.classes(),
                                       .k = head.channels(),
                                       .a = head.RowOf(head.h, first),
                                       .a_stride = head.channels(),
                                       .b = head.w.address(),
                                       .b_stride = head.channels(),
                                       .b_transposed = true,
                                       .d = logits,
                                       .d_stride = head.stride(),
                                       .d_type = head.w.dtype(),
                                       .bias = head.bias.address()}));
  const SoftmaxRows shape = {.rows = count,
                             .classes = head.classes(),
                             .stride = head.stride(),
                             .targets = head.targets.data<int32_t>() + first,
                             .first_row = first,
                             .bad_index = head.cuda.bad_index()};
  return CudaStatus(
      LaunchSoftmaxRows(head.cuda.launch(), shape, slopes, static_cast<float>(gradient_scale),
                        logits, head.losses.data<float>() + first,
                        head.right.data<float>() + first),
      "LinearCrossEntropy");
}

// From the slopes of the logits: dh = slopes w, dw += slopes^T h, dbias += their sums.
absl::Status GradientsOfBlock(const Head& head, int64_t first, int64_t count, const void* slopes,
                              Tensor& dh, Tensor& dw, Tensor& dbias) {
  WEFT_RETURN_IF_ERROR(Run(head.cuda, {.m = count,
                                       .n = head.channels(),
                                       .k = head.classes(),
                                       .a = slopes,
                                       .a_stride = head.stride(),
                                       .b = head.w.address(),
                                       .b_stride = head.channels(),
                                       .d = head.RowOf(dh, first),
                                       .d_stride = head.channels(),
                                       .d_type = dh.dtype()}));
  WEFT_RETURN_IF_ERROR(Run(head.cuda, {.m = head.classes(),
                                       .n = head.channels(),
                                       .k = count,
                                       .a = slopes,
                                       .a_stride = head.stride(),
                                       .a_transposed = true,
                                       .b = head.RowOf(head.h, first),
                                       .b_stride = head.channels(),
                                       .d = dw.address(),
                                       .d_stride = head.channels(),
                                       .d_type = dw.dtype(),
                                       .beta = 1.0F}));
  if (!dbias.present()) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(
      const CudaScratch partial,
      head.cuda.Scratch(SlopeSumPartials(count, head.classes()) * SizeOf(DType::kF32)));
  return CudaStatus(LaunchSlopeSums(head.cuda.launch(), count, head.classes(), head.stride(),
                                    slopes, dbias.data<float>(), partial.data<float>()),
                    "LinearCrossEntropy");
}

absl::Status ForwardCuda(Stream& stream, const Tensor& h, const Tensor& w, const Tensor& bias,
                         const Tensor& targets, Tensor& losses, Tensor& right) {
  const Head head{AsCudaStream(stream), h, w, bias, targets, losses, right};
  WEFT_ASSIGN_OR_RETURN(const CudaScratch logits, head.NewLogits());
  const int64_t step = head.rows_of_block();
  for (int64_t first = 0; first < head.rows(); first += step) {
    WEFT_RETURN_IF_ERROR(LossesOfBlock(head, first, std::min(step, head.rows() - first),
                                       /*slopes=*/false, /*gradient_scale=*/0,
                                       logits.data<void>()));
  }
  return absl::OkStatus();
}

absl::Status ForwardBackwardCuda(Stream& stream, const Tensor& h, const Tensor& w,
                                 const Tensor& bias, const Tensor& targets, double gradient_scale,
                                 Tensor& losses, Tensor& right, Tensor& dh, Tensor& dw,
                                 Tensor& dbias) {
  const Head head{AsCudaStream(stream), h, w, bias, targets, losses, right};
  WEFT_ASSIGN_OR_RETURN(const CudaScratch logits, head.NewLogits());
  const int64_t step = head.rows_of_block();
  for (int64_t first = 0; first < head.rows(); first += step) {
    const int64_t count = std::min(step, head.rows() - first);
    WEFT_RETURN_IF_ERROR(
        LossesOfBlock(head, first, count, /*slopes=*/true, gradient_scale, logits.data<void>()));
    WEFT_RETURN_IF_ERROR(GradientsOfBlock(head, first, count, logits.data<void>(), dh, dw, dbias));
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCudaLinearCrossEntropy() {
  linear_cross_entropy_forward.Set(DeviceKind::kCuda, ForwardCuda);
  linear_cross_entropy_forward_backward.Set(DeviceKind::kCuda, ForwardBackwardCuda);
}

}  // namespace weft::kernels::internal

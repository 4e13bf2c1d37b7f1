// Blocks of rows, one after the other: logits by tiles on all threads, then each row's softmax in
// place, then the gradients by tiles from what now are the slopes of the logits.
#include <algorithm>
#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/device/aligned_array.h"
#include "kernels/device/cpu/gemm_tiles.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

// A block's logits take about 16 MiB at most, and a block has enough rows for its products to run
// at speed: with 32000 tokens 128 rows are half as fast again as 32.
constexpr int64_t kLogitsOfBlock = int64_t{1} << 22;
constexpr int64_t kFewestRows = 32;
constexpr int64_t kMostRows = 1024;
constexpr int64_t kRowsOfTask = 8;

int64_t RowsPerBlock(int64_t vocabulary) {
  return std::clamp(kLogitsOfBlock / vocabulary / kFewestRows * kFewestRows, kFewestRows,
                    kMostRows);
}

struct Head {
  CpuStream& cpu;
  const Tensor& w;
  const float* bias;  // null: none
  int64_t vocabulary, channels;
};

// What a block of rows gives.
struct RowResults {
  float* losses;
  float* right;
};

// Whether the target is the first of the largest logits.
bool IsPredicted(const float* logits, int32_t target, float largest) {
  return logits[target] == largest &&
         std::none_of(logits, logits + target, [=](float logit) { return logit == largest; });
}

// The loss of one row. Its logits become gradient_scale * (softmax - one at the target).
float LossAndSlopes(const Head& head, int32_t target, float gradient_scale, float* logits,
                    float& right) {
  const VectorTable& vector = head.cpu.vector();
  if (target < 0) {
    std::fill_n(logits, head.vocabulary, 0.0F);
    right = 0;
    return 0;
  }
  if (head.bias != nullptr) vector.add(logits, head.bias, logits, head.vocabulary);
  const float largest = vector.max(logits, head.vocabulary);
  right = IsPredicted(logits, target, largest) ? 1 : 0;
  const double target_logit = logits[target];
  const float sum = vector.exp_sum(1, logits, largest, logits, head.vocabulary);
  const double loss = std::log(static_cast<double>(sum)) + (largest - target_logit);
  vector.scale(gradient_scale / sum, logits, logits, head.vocabulary);
  logits[target] -= gradient_scale;
  return static_cast<float>(loss);
}

// Results and, in place of the logits, their slopes for `rows` rows of h.
float* LossBlock(const Head& head, const float* h, const int32_t* targets, int64_t rows,
                 float gradient_scale, const RowResults& results) {
  thread_local Scratch<float> scratch;
  float* logits = scratch.Get(RowsPerBlock(head.vocabulary) * head.vocabulary);
  ParallelGemm(head.cpu, {Transpose::kNo, Transpose::kYes, rows, head.vocabulary, head.channels}, h,
               head.w.data<float>(), 0, logits);
  ForBlocks(head.cpu, rows, kRowsOfTask, [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      results.losses[r] = LossAndSlopes(head, targets[r], gradient_scale,
                                        logits + r * head.vocabulary, results.right[r]);
    }
  });
  return logits;
}

Head HeadOf(Stream& stream, const Tensor& w, const Tensor& bias) {
  return {AsCpuStream(stream), w, bias.present() ? bias.data<float>() : nullptr, w.dim(0),
          w.dim(1)};
}

RowResults ResultsFrom(int64_t first, Tensor& losses, Tensor& right) {
  return {losses.data<float>() + first, right.data<float>() + first};
}

// dbias += the sum of the slopes over the rows, in their order.
void AddBiasSlopes(const Head& head, const float* slopes, int64_t rows, float* dbias) {
  ForBlocks(head.cpu, head.vocabulary, kElementBlock, [&](int64_t first, int64_t count) {
    for (int64_t r = 0; r < rows; ++r) {
      head.cpu.vector().add(dbias + first, slopes + r * head.vocabulary + first, dbias + first,
                            count);
    }
  });
}

absl::Status ForwardCpu(Stream& stream, const Tensor& h, const Tensor& w, const Tensor& bias,
                        const Tensor& targets, Tensor& losses, Tensor& right) {
  const Head head = HeadOf(stream, w, bias);
  const int32_t* ids = targets.data<int32_t>();
  WEFT_RETURN_IF_ERROR(CheckIndices("LinearCrossEntropyForward", "targets", ids, targets.count(),
                                    head.vocabulary, true));
  const int64_t block = RowsPerBlock(head.vocabulary);
  for (int64_t first = 0; first < targets.count(); first += block) {
    LossBlock(head, h.data<float>() + first * head.channels, ids + first,
              std::min(block, targets.count() - first), 1, ResultsFrom(first, losses, right));
  }
  return absl::OkStatus();
}

absl::Status ForwardBackwardCpu(Stream& stream, const Tensor& h, const Tensor& w,
                                const Tensor& bias, const Tensor& targets, double gradient_scale,
                                Tensor& losses, Tensor& right, Tensor& dh, Tensor& dw,
                                Tensor& dbias) {
  const Head head = HeadOf(stream, w, bias);
  const int32_t* ids = targets.data<int32_t>();
  WEFT_RETURN_IF_ERROR(CheckIndices("LinearCrossEntropyForwardBackward", "targets", ids,
                                    targets.count(), head.vocabulary, true));
  const int64_t block = RowsPerBlock(head.vocabulary);
  for (int64_t first = 0; first < targets.count(); first += block) {
    const int64_t rows = std::min(block, targets.count() - first);
    const float* activations = h.data<float>() + first * head.channels;
    const float* slopes =
        LossBlock(head, activations, ids + first, rows, static_cast<float>(gradient_scale),
                  ResultsFrom(first, losses, right));
    ParallelGemm(head.cpu, {Transpose::kNo, Transpose::kNo, rows, head.channels, head.vocabulary},
                 slopes, w.data<float>(), 0, dh.data<float>() + first * head.channels);
    ParallelGemm(head.cpu, {Transpose::kYes, Transpose::kNo, head.vocabulary, head.channels, rows},
                 slopes, activations, 1, dw.data<float>());
    if (dbias.present()) AddBiasSlopes(head, slopes, rows, dbias.data<float>());
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuLinearCrossEntropy() {
  linear_cross_entropy_forward.Set(DeviceKind::kCpu, ForwardCpu);
  linear_cross_entropy_forward_backward.Set(DeviceKind::kCpu, ForwardBackwardCpu);
}

}  // namespace weft::kernels::internal

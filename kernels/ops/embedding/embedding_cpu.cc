#include <algorithm>

#include "common/base/status_macros.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/embedding/embedding_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

constexpr int64_t kChannelBlock = 64;

absl::Status ForwardCpu(Stream& stream, const Tensor& tokens, const Tensor& table, Tensor& y) {
  const int64_t channels = table.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("EmbeddingForward", "tokens", ids, tokens.count(), table.dim(0), false));
  ForBlocks(AsCpuStream(stream), tokens.count(), RowBlock(channels),
            [&](int64_t first, int64_t count) {
              for (int64_t r = first; r < first + count; ++r) {
                std::copy_n(table.data<float>() + ids[r] * channels, channels,
                            y.data<float>() + r * channels);
              }
            });
  return absl::OkStatus();
}

// Each thread takes some channels of all rows: a token that occurs twice is then no conflict, and
// its rows are added in their order.
absl::Status BackwardCpu(Stream& stream, const Tensor& tokens, const Tensor& dy, Tensor& dtable) {
  const int64_t channels = dtable.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("EmbeddingBackward", "tokens", ids, tokens.count(), dtable.dim(0), false));
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, channels, kChannelBlock, [&](int64_t first, int64_t count) {
    for (int64_t r = 0; r < tokens.count(); ++r) {
      float* row = dtable.data<float>() + ids[r] * channels + first;
      cpu.vector().add(row, dy.data<float>() + r * channels + first, row, count);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuEmbedding() {
  embedding_forward.Set(DeviceKind::kCpu, ForwardCpu);
  embedding_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal

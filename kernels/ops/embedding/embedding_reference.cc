#include <algorithm>

#include "common/base/status_macros.h"
#include "kernels/ops/embedding/embedding_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& tokens, const Tensor& table,
                              Tensor& y) {
  const int64_t channels = table.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("EmbeddingForward", "tokens", ids, tokens.count(), table.dim(0), false));
  for (int64_t r = 0; r < tokens.count(); ++r) {
    std::copy_n(table.data<double>() + ids[r] * channels, channels,
                y.data<double>() + r * channels);
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& tokens, const Tensor& dy,
                               Tensor& dtable) {
  const int64_t channels = dtable.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  WEFT_RETURN_IF_ERROR(
      CheckIndices("EmbeddingBackward", "tokens", ids, tokens.count(), dtable.dim(0), false));
  for (int64_t r = 0; r < tokens.count(); ++r) {
    const double* slopes = dy.data<double>() + r * channels;
    double* row = dtable.data<double>() + ids[r] * channels;
    for (int64_t c = 0; c < channels; ++c) row[c] += slopes[c];
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceEmbedding() {
  embedding_forward.Set(DeviceKind::kReference, ForwardReference);
  embedding_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal

#include "kernels/ops/embedding/embedding_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/embedding/embedding_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& tokens, const Tensor& table, Tensor& y) {
  CudaStream& cuda = AsCudaStream(stream);
  return CudaStatus(LaunchEmbeddingForward(cuda.launch(), tokens.count(), table.dim(0),
                                           table.dim(1), tokens.data<int32_t>(), table.address(),
                                           y.address(), cuda.bad_index()),
                    "EmbeddingForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& tokens, const Tensor& dy, Tensor& dtable) {
  CudaStream& cuda = AsCudaStream(stream);
  EmbeddingSpace space;
  WEFT_RETURN_IF_ERROR(CudaStatus(EmbeddingBackwardSpace(tokens.count(), dtable.dim(1), &space),
                                  "EmbeddingBackward"));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch memory, cuda.Scratch(space.bytes));
  return CudaStatus(
      LaunchEmbeddingBackward(cuda.launch(), tokens.count(), dtable.dim(0), dtable.dim(1),
                              tokens.data<int32_t>(), dy.address(), dtable.data<float>(), space,
                              memory.data<void>(), cuda.bad_index()),
      "EmbeddingBackward");
}

}  // namespace

void RegisterCudaEmbedding() {
  embedding_forward.Set(DeviceKind::kCuda, ForwardCuda);
  embedding_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

#include "kernels/ops/pair_features/pair_features_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/pair_features/pair_features_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, Tensor& y) {
  return CudaStatus(LaunchPairFeaturesForward(AsCudaStream(stream).launch(), x.dim(0), x.dim(1) / 2,
                                              x.address(), y.address()),
                    "PairFeaturesForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  return CudaStatus(
      LaunchPairFeaturesBackward(AsCudaStream(stream).launch(), x.dim(0), x.dim(1) / 2, x.address(),
                                 dy.address(), dx.address()),
      "PairFeaturesBackward");
}

}  // namespace

void RegisterCudaPairFeatures() {
  pair_features_forward.Set(DeviceKind::kCuda, ForwardCuda);
  pair_features_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal

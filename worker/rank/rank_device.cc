#include "worker/rank/rank_device.h"

#include <utility>

#include "absl/status/status.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cuda/cuda_device.h"
#include "worker/comm/gpu_exchange.h"
#include "worker/comm/local_exchange.h"
#include "worker/comm/relay_exchange.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<kernels::Device>> NewRankDevice(
    const v1::RankAssignment& assignment) {
  if (assignment.device().kind() != v1::DEVICE_KIND_GPU) {
    return kernels::NewCpuDevice({.threads = assignment.threads()});
  }
  const bool bf16 = assignment.spec().training().precision() == v1::PRECISION_BF16;
  auto device = kernels::NewCudaDevice(
      {.ordinal = 0, .compute = bf16 ? kernels::DType::kBf16 : kernels::DType::kF32});
  // Unavailable is what a lost peer is: a GPU that cannot be used is this worker's own failure.
  if (absl::IsUnavailable(device.status())) return absl::InternalError(device.status().message());
  return device;
}

absl::StatusOr<std::unique_ptr<Exchange>> NewRankExchange(const v1::RankAssignment& assignment,
                                                          kernels::Device& device) {
  if (assignment.relay_channel().empty()) return std::make_unique<LocalExchange>();
  auto relay = std::make_unique<RelayExchange>();
  if (device.kind() != kernels::DeviceKind::kCuda) return relay;
  return NewGpuExchange(std::move(relay), device, /*ordinal=*/0);
}

}  // namespace weft::worker

// What a build without CUDA has in place of the device.
#include "kernels/device/cuda/cuda_device.h"

namespace weft::kernels {
namespace {

absl::Status Absent() { return absl::UnavailableError("this program was built without CUDA"); }

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const CudaOptions& /*options*/) {
  return Absent();
}

absl::StatusOr<CudaMemory> CudaMemoryOf(const Device& /*device*/) { return Absent(); }

}  // namespace weft::kernels

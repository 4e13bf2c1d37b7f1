// The CUDA device: one NVIDIA GPU, in bf16 with fp32 sums or all in fp32.
//
// Ops are enqueued on a stream and run in its order; nothing waits for the GPU but Synchronize, the
// copies to the host and Allocate. Bits of results depend on device_class() and the version of the
// CUDA libraries alone. A build without CUDA has these functions too: they answer kUnavailable.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"

namespace weft::kernels {

struct CudaOptions {
  int ordinal = 0;               // which of the GPUs that this process sees
  DType compute = DType::kBf16;  // or kF32, for comparison with other devices
};

// kUnavailable: no driver, no GPU, or a build without CUDA. kInvalidArgument: an ordinal or type
// that is none. kUnimplemented: a GPU older than compute capability 8.0.
absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const CudaOptions& options);

struct CudaMemory {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
  int64_t allocated_bytes = 0;  // by this device's buffers
  int64_t peak_bytes = 0;       // the most that these ever were
};
// Of a device made by NewCudaDevice.
absl::StatusOr<CudaMemory> CudaMemoryOf(const Device& device);

}  // namespace weft::kernels

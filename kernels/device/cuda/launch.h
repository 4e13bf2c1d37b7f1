// Where a kernel is to run: what .cu files know of the device. They include neither Abseil nor the
// device's own headers, because nvcc reads every header once for each architecture: launchers take
// plain addresses and extents and return CUDA's error, and the .cc file beside them turns tensors
// into the former and the latter into a Status.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels {

struct CudaLaunch {
  cudaStream_t stream = nullptr;
  bool bf16 = true;         // the compute type; f32 otherwise
  int multiprocessors = 1;  // of the GPU
  int ordinal = 0;          // of the GPU in this process
};

}  // namespace weft::kernels

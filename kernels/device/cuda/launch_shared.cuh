// How kernels start that keep more in shared memory than a block has without asking (48 KiB).
#pragma once

#include <cuda_runtime_api.h>

#include <type_traits>

namespace weft::kernels {

// Starts `kernel` with `bytes` of dynamic shared memory.
template <typename... Params>
cudaError_t LaunchShared(void (*kernel)(Params...), dim3 grid, int threads, int bytes,
                         cudaStream_t stream, std::type_identity_t<Params>... params) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<grid, static_cast<unsigned>(threads), static_cast<size_t>(bytes), stream>>>(params...);
  return cudaGetLastError();
}

}  // namespace weft::kernels

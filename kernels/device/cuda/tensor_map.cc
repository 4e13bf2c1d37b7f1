#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels {
namespace {

// The driver's function, found through the runtime so that nothing links against the driver.
cudaError_t FindEncoder(PFN_cuTensorMapEncodeTiled_v12000* encode) {
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  void* function = nullptr;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  *encode = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  return cudaSuccess;
}

}  // namespace

cudaError_t MakeTensorMap(const __nv_bfloat16* data, int64_t batch, int64_t tokens, int64_t heads,
                          int64_t width, int box_tokens, CUtensorMap* map) {
  static PFN_cuTensorMapEncodeTiled_v12000 encode = nullptr;
  static const cudaError_t found = FindEncoder(&encode);
  if (found != cudaSuccess) return found;
  const cuuint64_t extents[4] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(heads),
                                 static_cast<cuuint64_t>(tokens), static_cast<cuuint64_t>(batch)};
  const cuuint64_t row = extents[0] * sizeof(__nv_bfloat16);
  const cuuint64_t strides[3] = {row, row * extents[1], row * extents[1] * extents[2]};
  const cuuint32_t box[4] = {64, 1, static_cast<cuuint32_t>(box_tokens), 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<__nv_bfloat16*>(data), extents,
             strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace weft::kernels

#include "kernels/device/cuda/tensor_map.h"

#include "kernels/device/cuda/encode_tensor_map.h"

namespace weft::kernels {

cudaError_t MakeTensorMap(const __nv_bfloat16* data, int64_t batch, int64_t tokens, int64_t heads,
                          int64_t width, int box_tokens, CUtensorMap* map) {
  const cuuint64_t extents[4] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(heads),
                                 static_cast<cuuint64_t>(tokens), static_cast<cuuint64_t>(batch)};
  const cuuint64_t row = extents[0] * sizeof(__nv_bfloat16);
  const cuuint64_t strides[3] = {row, row * extents[1], row * extents[1] * extents[2]};
  const cuuint32_t box[4] = {64, 1, static_cast<cuuint32_t>(box_tokens), 1};
  return internal::Encode(data, extents, strides, box, map);
}

}  // namespace weft::kernels

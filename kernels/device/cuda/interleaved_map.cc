#include "kernels/device/cuda/interleaved_map.h"

#include "kernels/device/cuda/encode_tensor_map.h"

namespace weft::kernels {

cudaError_t MakeInterleavedMap(const __nv_bfloat16* data, int64_t rows, int64_t width, int box_rows,
                               CUtensorMap* map) {
  // e, q and j, in the order in which they arrive.
  const cuuint64_t extents[5] = {static_cast<cuuint64_t>(width), 2, 4, 4,
                                 static_cast<cuuint64_t>(rows / 32)};
  const cuuint64_t row = extents[0] * sizeof(__nv_bfloat16);
  const cuuint64_t strides[4] = {row, 8 * row, 2 * row, 32 * row};
  const cuuint32_t box[5] = {64, 2, 4, 4, static_cast<cuuint32_t>(box_rows / 32)};
  return internal::Encode(data, extents, strides, box, map);
}

}  // namespace weft::kernels

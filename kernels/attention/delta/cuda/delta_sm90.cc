#include "kernels/attention/delta/cuda/delta_sm90.h"

#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels::sm90 {
namespace {

// Makes maps of the [B, T, H, width] tensors of a call; the first error stays.
class MapMaker {
 public:
  explicit MapMaker(const DeltaCudaShape& shape) : shape_(shape) {}
  CUtensorMap Keys(const __nv_bfloat16* data) { return Make(data, shape_.key_dim); }
  CUtensorMap Values(const __nv_bfloat16* data) { return Make(data, shape_.value_dim); }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  CUtensorMap Make(const __nv_bfloat16* data, int width) {
    CUtensorMap map = {};
    if (error_ == cudaSuccess) {
      error_ = MakeTensorMap(data, shape_.batch, shape_.tokens, shape_.heads, width,
                             kDeltaCudaChunk, &map);
    }
    return map;
  }

  DeltaCudaShape shape_;
  cudaError_t error_ = cudaSuccess;
};

int64_t AllChunks(const DeltaCudaShape& shape) {
  return int64_t{shape.batch} * shape.heads * ChunksOf(shape);
}
int64_t StateBytes(const DeltaCudaShape& shape) {
  return AllChunks(shape) * shape.key_dim * shape.value_dim * 2;
}

DeltaChunkStates Carve(const DeltaBackwardArgs& args) {
  const int64_t bytes = StateBytes(args.shape);
  return {args.scratch, args.scratch + bytes, reinterpret_cast<float*>(args.scratch + 2 * bytes)};
}

}  // namespace

int SlicesOfBlock(const DeltaCudaShape& shape) {
  // A block a head and both slices in it, unless half of the machine would idle.
  return shape.value_dim % 128 == 0 && shape.batch * shape.heads >= kManyHeads ? 2 : 1;
}

bool Covers(const DeltaCudaShape& shape) {
  const auto covers = [](int width) { return width == 64 || width == 128; };
  return covers(shape.key_dim) && covers(shape.value_dim);
}

cudaError_t DeltaForward(const DeltaForwardArgs& args, cudaStream_t stream) {
  MapMaker make(args.shape);
  const DeltaForwardMaps maps{make.Keys(args.q), make.Keys(args.k), make.Values(args.v),
                              make.Values(args.o),
                              make.Values(args.errors != nullptr ? args.errors : args.o)};
  if (make.error() != cudaSuccess) return make.error();
  const cudaError_t error =
      LaunchPrepare(args.shape, maps.q, maps.k, args.beta, args.records, stream);
  if (error != cudaSuccess) return error;
  return LaunchForward(args, maps, stream);
}

int64_t BackwardScratchBytes(const DeltaCudaShape& shape) {
  return 2 * StateBytes(shape) + AllChunks(shape) * kDeltaCudaChunk * (shape.value_dim / 64) * 4;
}

cudaError_t DeltaBackward(const DeltaBackwardArgs& args, cudaStream_t stream) {
  MapMaker make(args.shape);
  const DeltaBackwardMaps maps{make.Keys(args.q),     make.Keys(args.k),   make.Values(args.errors),
                               make.Values(args.d_o), make.Keys(args.d_q), make.Keys(args.d_k),
                               make.Values(args.d_v)};
  if (make.error() != cudaSuccess) return make.error();
  const DeltaChunkStates scratch = Carve(args);
  const cudaError_t error = LaunchStates(args, maps, scratch, stream);
  if (error != cudaSuccess) return error;
  return LaunchGradients(args, maps, scratch, stream);
}

}  // namespace weft::kernels::sm90

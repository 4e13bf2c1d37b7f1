#include "kernels/attention/softmax/cuda/softmax_sm90.h"

#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels::sm90 {
namespace {

struct Sizes {
  explicit Sizes(const SoftmaxCudaProblem& p)
      : tiles((p.queries + TileQueries(p.head_dim) - 1) / TileQueries(p.head_dim)),
        halves(int64_t{p.batch} * p.heads * tiles * 2),
        rows(halves / 2 * TileQueries(p.head_dim)) {}
  int64_t tiles;
  int64_t halves;  // of tiles of d_q
  int64_t rows;
  [[nodiscard]] int64_t Counts() const { return halves / 2 * 3 + 1; }  // turns, known, ticket
  static constexpr int64_t kHalfBytes = 64 * 64 * sizeof(float);
};

// Makes maps of the tensors of a call; the first error stays.
class MapMaker {
 public:
  explicit MapMaker(const SoftmaxCudaProblem& p) : p_(p) {}
  void Queries(const void* data, int box, CUtensorMap* map) {
    Make(data, p_.queries, p_.heads, box, map);
  }
  void Keys(const void* data, CUtensorMap* map) {
    Make(data, p_.keys, p_.kv_heads, kBlockKeys, map);
  }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  void Make(const void* data, int tokens, int heads, int box, CUtensorMap* map) {
    if (error_ != cudaSuccess) return;
    error_ = MakeTensorMap(static_cast<const __nv_bfloat16*>(data), p_.batch, tokens, heads,
                           p_.head_dim, box, map);
  }

  const SoftmaxCudaProblem& p_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace

const char* WhyNotCovered(const SoftmaxCudaProblem& p) {
  if (p.head_dim != 64 && p.head_dim != 128) return "heads are neither 64 nor 128 wide";
  if (p.queries != p.keys) return "there are not as many queries as keys";
  if (p.queries == 0) return "there are no queries";
  if (p.valid != nullptr) return "keys are padded";
  if (p.dropout.on) return "weights are dropped";
  if (!p.vectors) return "operands are not aligned";
  return nullptr;
}

cudaError_t SoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p, int32_t* taken,
                           void* o, float* lse) {
  SoftmaxForwardMaps maps;
  MapMaker make(p);
  make.Queries(p.q, 64, &maps.q);
  make.Queries(o, 64, &maps.o);
  make.Keys(p.k, &maps.k);
  make.Keys(p.v, &maps.v);
  if (make.error() != cudaSuccess) return make.error();
  const cudaError_t error = cudaMemsetAsync(taken, 0, sizeof(int32_t), on.stream);
  return error == cudaSuccess ? LaunchSoftmaxForward(on, p, maps, taken, lse) : error;
}

int64_t SoftmaxBackwardScratchBytes(const SoftmaxCudaProblem& p) {
  const Sizes sizes(p);
  return sizes.halves * Sizes::kHalfBytes + sizes.rows * 8 + sizes.Counts() * 4;
}

cudaError_t SoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                            const SoftmaxCudaGradients& g, uint8_t* scratch) {
  SoftmaxBackwardMaps maps;
  MapMaker make(p);
  make.Queries(p.q, TileQueries(p.head_dim), &maps.q);
  make.Queries(g.o, TileQueries(p.head_dim), &maps.o);
  make.Queries(g.d_o, TileQueries(p.head_dim), &maps.d_o);
  make.Keys(p.k, &maps.k);
  make.Keys(p.v, &maps.v);
  make.Queries(g.d_q, 64, &maps.d_q);
  make.Keys(g.d_k, &maps.d_k);
  make.Keys(g.d_v, &maps.d_v);
  if (make.error() != cudaSuccess) return make.error();
  const Sizes sizes(p);
  SoftmaxBackwardScratch parts = {};
  parts.tiles = static_cast<int>(sizes.tiles);
  parts.d_q = reinterpret_cast<float4*>(scratch);
  parts.shifts = reinterpret_cast<float*>(scratch + sizes.halves * Sizes::kHalfBytes);
  parts.means = parts.shifts + sizes.rows;
  parts.turns = reinterpret_cast<int32_t*>(parts.means + sizes.rows);
  parts.known = parts.turns + sizes.halves;
  parts.ticket = parts.known + sizes.halves / 2;
  const cudaError_t error =
      cudaMemsetAsync(parts.turns, 0, static_cast<size_t>(sizes.Counts() * 4), on.stream);
  return error == cudaSuccess ? LaunchSoftmaxBackward(on, p, maps, g.lse, parts) : error;
}

}  // namespace weft::kernels::sm90

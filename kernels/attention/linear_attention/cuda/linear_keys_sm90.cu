#include "kernels/attention/linear_attention/cuda/linear_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct KeysMaps {
  CUtensorMap q, k, v, d_o, d_k, d_v;
};
struct KeysParams {
  KeysMaps maps;
  LinearSm90Backward args;
};

template <int kWidth>
struct KeysLayout : LinearGeometry<kWidth> {
  using Geometry = LinearGeometry<kWidth>;
  static constexpr int kStages = 2;
  // Q, K, V, dO; in the end dK for K and dV for V.
  static constexpr int kStageBytes = 4 * Geometry::kMatrixBytes;
  static constexpr int kF = kStages * kStageBytes;
  static constexpr int kG = kF + Geometry::kMatrixBytes;
  static constexpr int kState = kG + Geometry::kMatrixBytes;  // dR
  static constexpr int kSums = kState + Geometry::kStateBytes;
  static constexpr int kInverse = kSums + kWidth * 4;  // float [2][64], of two chunks in turn
  static constexpr int kSlopes = kInverse + 512;
  static constexpr int kBarriers = kSlopes + 512;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};

// Chunk n from the end.
template <int kWidth>
__device__ void LoadChunk(const KeysParams& params, const LinearWork& work, int n,
                          uint8_t* shared) {
  using Layout = KeysLayout<kWidth>;
  uint8_t* stage = shared + n % Layout::kStages * Layout::kStageBytes;
  auto* const barrier =
      reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + n % Layout::kStages;
  const int token = (work.first_chunk + work.chunks - 1 - n) * kLinearChunk;
  hopper::ArriveExpecting(barrier, Layout::kStageBytes);
  for (const CUtensorMap* map :
       {&params.maps.q, &params.maps.k, &params.maps.v, &params.maps.d_o}) {
    LoadTiles<kWidth>(*map, stage, barrier, work.head, token, work.batch);
    stage += Layout::kMatrixBytes;
  }
}

// Brings a chunk into the L2 cache: two stages are too few to hide memory's latency.
template <int kWidth>
__device__ void PrefetchChunk(const KeysParams& params, const LinearWork& work, int n) {
  if (n >= work.chunks) return;
  const int token = (work.first_chunk + work.chunks - 1 - n) * kLinearChunk;
  for (const CUtensorMap* map :
       {&params.maps.q, &params.maps.k, &params.maps.v, &params.maps.d_o}) {
    PrefetchTiles<kWidth>(*map, work.head, token, work.batch);
  }
}

// inverse and slope of a query; nothing of those that are not there.
__device__ float2 QueryOf(const LinearSm90Backward& args, const LinearWork& work, int token) {
  if (token < 0 || token >= args.shape.tokens) return {0, 0};
  return {args.inverse[work.row + token], args.slopes[work.row + token]};
}

// Rows are keys, columns queries: x <- inverse x + slope where the query sees the key. Null slopes
// are zero.
__device__ void ScalePairs(float (&x)[32], const float* inverse, const float* slopes,
                           const Place& at) {
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float2 factor = *reinterpret_cast<const float2*>(inverse + 8 * j + at.column);
    float2 slope = {};
    if (slopes != nullptr) slope = *reinterpret_cast<const float2*>(slopes + 8 * j + at.column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = 8 * j + at.column + i % 2;
      const int key = at.row + i / 2 * 8;
      const float value =
          i % 2 == 0 ? factor.x * x[4 * j + i] + slope.x : factor.y * x[4 * j + i] + slope.y;
      x[4 * j + i] = key > query ? 0.0F : value;
    }
  }
}

// A block; each thread has one.
template <int kWidth>
class KeysBlock {
 public:
  using Layout = KeysLayout<kWidth>;
  __device__ KeysBlock(const KeysParams& params, uint8_t* shared)
      : params_(params),
        args_(params.args),
        shared_(shared),
        tiles_(hopper::TilesAt(shared)),
        work_(args_.shape, 0, args_.shape.segments),
        seen_(SeenOf(args_.shape, args_.valid, work_.batch)),
        slice_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0)) {}

  __device__ void Start();
  __device__ void Chunk(int n);
  [[nodiscard]] __device__ int chunks() const { return work_.chunks; }

 private:
  // Features of queries and keys, and what queries count, to shared memory.
  __device__ void Operands(int n, const uint8_t* stage);
  // A^T and dA^T as operands, and G dR.
  __device__ void Pairs(int n, const uint8_t* stage, float (&dv)[32], uint32_t (&weights)[4][4],
                        uint32_t (&slopes)[4][4]) const;
  // dG to dK, which takes the place of K, and dV that of V.
  __device__ void WriteRows(int token, uint8_t* stage, const float (&dk)[32],
                            const float (&dv)[32]) const;

  // Chunks are counted from the end.
  [[nodiscard]] __device__ int TokenOf(int n) const {
    return (work_.first_chunk + work_.chunks - 1 - n) * kLinearChunk;
  }
  [[nodiscard]] __device__ uint64_t* Barrier(int n) const {
    return reinterpret_cast<uint64_t*>(shared_ + Layout::kBarriers) + n % Layout::kStages;
  }
  // Of this block, as an operand.
  [[nodiscard]] __device__ hopper::Tiles At(const uint8_t* tile) const {
    return tiles_ + static_cast<int>(tile - shared_);
  }
  [[nodiscard]] __device__ float* sums() const {
    return reinterpret_cast<float*>(shared_ + Layout::kSums);
  }
  [[nodiscard]] __device__ float* Inverse(int n) const {
    return reinterpret_cast<float*>(shared_ + Layout::kInverse) + n % 2 * 64;
  }
  [[nodiscard]] __device__ float* Slopes(int n) const {
    return reinterpret_cast<float*>(shared_ + Layout::kSlopes) + n % 2 * 64;
  }

  const KeysParams& params_;
  const LinearSm90Backward& args_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same
  const LinearWork work_;
  const SeenKeys seen_;
  const Place at_;
  const int slice_;
  LinearState<kWidth> state_;  // dR and dz
  float2 query_ = {};          // of this thread, in the chunk to come
};

template <int kWidth>
__device__ void KeysBlock<kWidth>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) hopper::InitBarrier(Barrier(i), 1);
    hopper::PublishBarriers();
    for (int n = 0; n < min(Layout::kStages, work_.chunks); ++n) {
      LoadChunk<kWidth>(params_, work_, n, shared_);
    }
    PrefetchChunk<kWidth>(params_, work_, Layout::kStages);
  }
  state_.Load(args_.gradients == nullptr ? nullptr : args_.gradients + work_.state, slice_, at_);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
  state_.StoreSums(sums(), slice_, at_);
  if (threadIdx.x < 64) query_ = QueryOf(args_, work_, TokenOf(0) + threadIdx.x);
  __syncthreads();
}

template <int kWidth>
__device__ void KeysBlock<kWidth>::Operands(int n, const uint8_t* stage) {
  if (threadIdx.x < 64) {
    Inverse(n)[threadIdx.x] = query_.x;
    Slopes(n)[threadIdx.x] = query_.y;
  }
  hopper::AwaitPhase(Barrier(n), n / Layout::kStages % 2);
  MakeFeatures<kWidth, false>(args_.map, stage, shared_ + Layout::kF, [](int) { return true; });
  MakeFeatures<kWidth, false>(args_.map, stage + Layout::kMatrixBytes, shared_ + Layout::kG,
                              [&](int row) { return seen_(TokenOf(n) + row); });
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
  hopper::FenceForEngines();
  __syncthreads();  // they and the state are there; the stage before is free
  if (threadIdx.x == 0 && n > 0 && n - 1 + Layout::kStages < work_.chunks) {
    LoadChunk<kWidth>(params_, work_, n - 1 + Layout::kStages, shared_);
    PrefetchChunk<kWidth>(params_, work_, n + Layout::kStages);
  }
  if (threadIdx.x < 64) query_ = QueryOf(args_, work_, TokenOf(n + 1) + threadIdx.x);
}

template <int kWidth>
__device__ void KeysBlock<kWidth>::Pairs(int n, const uint8_t* stage, float (&dv)[32],
                                         uint32_t (&weights)[4][4],
                                         uint32_t (&slopes)[4][4]) const {
  const uint8_t* const g = shared_ + Layout::kG;
  float a[32];
  float d[32];
  hopper::StartProducts();
  ProductOfRows<kWidth>(a, At(g), At(shared_ + Layout::kF));
  hopper::CommitProducts();
  ProductOfRows<kWidth>(d, At(stage + 2 * Layout::kMatrixBytes),
                        At(stage + 3 * Layout::kMatrixBytes));
  hopper::CommitProducts();
  ProductWithState<kWidth>(dv, At(g), At(shared_ + Layout::kState), slice_);
  hopper::CommitProducts();
  hopper::AwaitProducts<2>();
  hopper::Settle(a);
  ScalePairs(a, Inverse(n), nullptr, at_);
  hopper::ToOperand(weights, a);
  hopper::AwaitProducts<1>();
  hopper::Settle(d);
  ScalePairs(d, Inverse(n), Slopes(n), at_);
  hopper::ToOperand(slopes, d);
  hopper::AwaitProducts<0>();
  hopper::Settle(dv);
}

template <int kWidth>
__device__ void KeysBlock<kWidth>::WriteRows(int token, uint8_t* stage, const float (&dk)[32],
                                             const float (&dv)[32]) const {
  uint8_t* const d_k = stage + Layout::kMatrixBytes + slice_ * kTileBytes;
  uint8_t* const d_v = d_k + Layout::kMatrixBytes;
  WriteTile(d_v, dv);
  WriteFeatureGradients(args_.map, d_k, dk, {seen_(token + at_.row), seen_(token + at_.row + 8)});
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + slice_, 128);
  if (threadIdx.x % 128 == 0) {
    hopper::StoreBox(params_.maps.d_k, d_k, 64 * slice_, work_.head, token, work_.batch);
    hopper::StoreBox(params_.maps.d_v, d_v, 64 * slice_, work_.head, token, work_.batch);
    hopper::CommitStores();
  }
}

template <int kWidth>
__device__ void KeysBlock<kWidth>::Chunk(int n) {
  uint8_t* const stage = shared_ + n % Layout::kStages * Layout::kStageBytes;
  const uint8_t* const v = stage + 2 * Layout::kMatrixBytes;
  const uint8_t* const d_o = stage + 3 * Layout::kMatrixBytes;
  const uint8_t* const f = shared_ + Layout::kF + slice_ * kTileBytes;
  Operands(n, stage);
  float dv[32];
  float dk[32];
  uint32_t weights[4][4];
  uint32_t slopes[4][4];
  Pairs(n, stage, dv, weights, slopes);
  hopper::StartProducts();
  ProductWithTransposedState<kWidth>(dk, At(v), At(shared_ + Layout::kState), slice_);
  AddProduct(dv, weights, At(d_o + slice_ * kTileBytes));
  AddProduct(dk, slopes, At(f));
  hopper::CommitProducts();
  uint32_t queries[4][4];
  LoadTokens(queries, f);
  WeighTokens(queries, state_.z, Inverse(n), Slopes(n), at_);
  hopper::StartProducts();
  AddProduct(state_.r, queries, At(d_o));
  hopper::CommitProducts();
  hopper::AwaitProducts<1>();
  hopper::Settle(dv);
  hopper::Settle(dk);
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] += sums()[64 * slice_ + i / 4 * 8 + at_.column + i % 2];
  __syncthreads();  // nobody reads features, V and the state any more
  state_.StoreSums(sums(), slice_, at_);
  WriteRows(TokenOf(n), stage, dk, dv);
  hopper::AwaitProducts<0>();
  hopper::Settle(state_.r);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
}

template <int kWidth>
__global__ void __launch_bounds__(LinearGeometry<kWidth>::kThreads, LinearGeometry<kWidth>::kBlocks)
    KeyGradients(const __grid_constant__ KeysParams params) {
  extern __shared__ uint8_t raw[];
  KeysBlock<kWidth> block(params, AlignedShared(raw));
  block.Start();
  for (int n = 0; n < block.chunks(); ++n) block.Chunk(n);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
cudaError_t Launch(const KeysParams& params, cudaStream_t stream) {
  const LinearSm90Shape& shape = params.args.shape;
  return LaunchSegments<KeysLayout<kWidth>>(KeyGradients<kWidth>, shape, shape.segments, params,
                                            stream);
}

}  // namespace

cudaError_t LinearKeyGradients(const LinearSm90Backward& args, cudaStream_t stream) {
  LinearMaps make(args.shape);
  const KeysParams params{{make.Of(args.q), make.Of(args.k), make.Of(args.v), make.Of(args.d_o),
                           make.Of(args.d_k), make.Of(args.d_v)},
                          args};
  if (make.error() != cudaSuccess) return make.error();
  return args.shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

}  // namespace weft::kernels::sm90

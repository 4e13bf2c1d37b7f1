#include "kernels/attention/linear_attention/cuda/linear_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct QueriesMaps {
  CUtensorMap q, k, v, d_o, d_q;
};
struct QueriesParams {
  QueriesMaps maps;
  LinearSm90Backward args;
};

template <int kWidth>
struct QueriesLayout : LinearGeometry<kWidth> {
  using Geometry = LinearGeometry<kWidth>;
  static constexpr int kStages = 2;
  // Q, in the end dQ, then K, V, dO.
  static constexpr int kStageBytes = 4 * Geometry::kMatrixBytes;
  static constexpr int kG = kStages * kStageBytes;  // of two chunks in turn
  static constexpr int kState = kG + 2 * Geometry::kMatrixBytes;
  static constexpr int kSums = kState + Geometry::kStateBytes;
  static constexpr int kBarriers = kSums + kWidth * 4;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};

template <int kWidth>
__device__ void LoadChunk(const QueriesParams& params, const LinearWork& work, int n,
                          uint8_t* shared) {
  using Layout = QueriesLayout<kWidth>;
  uint8_t* stage = shared + n % Layout::kStages * Layout::kStageBytes;
  auto* const barrier =
      reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + n % Layout::kStages;
  const int token = (work.first_chunk + n) * kLinearChunk;
  hopper::ArriveExpecting(barrier, Layout::kStageBytes);
  for (const CUtensorMap* map :
       {&params.maps.q, &params.maps.k, &params.maps.v, &params.maps.d_o}) {
    LoadTiles<kWidth>(*map, stage, barrier, work.head, token, work.batch);
    stage += Layout::kMatrixBytes;
  }
}

// Brings a chunk into the L2 cache: two stages are too few to hide memory's latency.
template <int kWidth>
__device__ void PrefetchChunk(const QueriesParams& params, const LinearWork& work, int n) {
  if (n >= work.chunks) return;
  const int token = (work.first_chunk + n) * kLinearChunk;
  for (const CUtensorMap* map :
       {&params.maps.q, &params.maps.k, &params.maps.v, &params.maps.d_o}) {
    PrefetchTiles<kWidth>(*map, work.head, token, work.batch);
  }
}

// N = inverse dO and u = slope of the rows of a thread, and what u adds.
struct QueryRows {
  float inverse[2];
  float slope[2];

  __device__ QueryRows(const LinearSm90Backward& args, const LinearWork& work, int token,
                       const Place& at) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = token + at.row + 8 * i;
      const bool there = t < args.shape.tokens;
      inverse[i] = there ? args.inverse[work.row + t] : 0.0F;
      slope[i] = there ? args.slopes[work.row + t] : 0.0F;
    }
  }

  // dO V^T -> dA.
  __device__ void Pairs(float (&d)[32], const Place& at) const {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int key = i / 4 * 8 + at.column + i % 2;
      const int query = at.row + i % 4 / 2 * 8;
      d[i] = key > query ? 0.0F : inverse[i % 4 / 2] * d[i] + slope[i % 4 / 2];
    }
  }
  // dO R^T -> N R^T + u z^T.
  __device__ void State(float (&d)[32], const float* sums, const Place& at) const {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      d[i] = inverse[i % 4 / 2] * d[i] + slope[i % 4 / 2] * sums[i / 4 * 8 + at.column + i % 2];
    }
  }
};

// A block; each thread has one.
template <int kWidth>
class QueriesBlock {
 public:
  using Layout = QueriesLayout<kWidth>;
  __device__ QueriesBlock(const QueriesParams& params, uint8_t* shared)
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
  // dF to dQ, which takes the place of Q.
  __device__ void WriteRows(int token, uint8_t* stage, const float (&d)[32]) const;

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

  const QueriesParams& params_;
  const LinearSm90Backward& args_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same
  const LinearWork work_;
  const SeenKeys seen_;
  const Place at_;
  const int slice_;
  LinearState<kWidth> state_;
};

template <int kWidth>
__device__ void QueriesBlock<kWidth>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) hopper::InitBarrier(Barrier(i), 1);
    hopper::PublishBarriers();
    for (int n = 0; n < min(Layout::kStages, work_.chunks); ++n) {
      LoadChunk<kWidth>(params_, work_, n, shared_);
    }
    PrefetchChunk<kWidth>(params_, work_, Layout::kStages);
  }
  state_.Load(args_.states + work_.state, slice_, at_);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
  state_.StoreSums(sums(), slice_, at_);
  __syncthreads();
}

template <int kWidth>
__device__ void QueriesBlock<kWidth>::WriteRows(int token, uint8_t* stage,
                                                const float (&d)[32]) const {
  uint8_t* const out = stage + slice_ * kTileBytes;
  WriteFeatureGradients(args_.map, out, d, {true, true});
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + slice_, 128);
  if (threadIdx.x % 128 == 0) {
    hopper::StoreBox(params_.maps.d_q, out, 64 * slice_, work_.head, token, work_.batch);
    hopper::CommitStores();
  }
}

template <int kWidth>
__device__ void QueriesBlock<kWidth>::Chunk(int n) {
  const int token = (work_.first_chunk + n) * kLinearChunk;
  uint8_t* const stage = shared_ + n % Layout::kStages * Layout::kStageBytes;
  const uint8_t* const v = stage + 2 * Layout::kMatrixBytes;
  const uint8_t* const d_o = stage + 3 * Layout::kMatrixBytes;
  uint8_t* const g = shared_ + Layout::kG + n % 2 * Layout::kMatrixBytes;
  const QueryRows rows(args_, work_, token, at_);
  hopper::AwaitPhase(Barrier(n), n / Layout::kStages % 2);
  MakeFeatures<kWidth, false>(args_.map, stage + Layout::kMatrixBytes, g,
                              [&](int row) { return seen_(token + row); });
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
  hopper::FenceForEngines();
  __syncthreads();  // features and the state are there; the stage before is free
  if (threadIdx.x == 0 && n > 0 && n - 1 + Layout::kStages < work_.chunks) {
    LoadChunk<kWidth>(params_, work_, n - 1 + Layout::kStages, shared_);
    PrefetchChunk<kWidth>(params_, work_, n + Layout::kStages);
  }
  float a[32];
  float d[32];
  hopper::StartProducts();
  ProductOfRows<kWidth>(a, At(d_o), At(v));
  hopper::CommitProducts();
  ProductWithTransposedState<kWidth>(d, At(d_o), At(shared_ + Layout::kState), slice_);
  hopper::CommitProducts();
  uint32_t keys[4][4];
  LoadTokens(keys, g + slice_ * kTileBytes);
  AddTokenSums(state_.z, keys);
  hopper::AwaitProducts<1>();
  hopper::Settle(a);
  rows.Pairs(a, at_);
  uint32_t weights[4][4];
  hopper::ToOperand(weights, a);
  hopper::AwaitProducts<0>();
  hopper::Settle(d);
  rows.State(d, sums() + 64 * slice_, at_);
  __syncthreads();  // nobody reads the state any more
  hopper::StartProducts();
  AddProduct(d, weights, At(g + slice_ * kTileBytes));
  hopper::CommitProducts();
  AddProduct(state_.r, keys, At(v));
  hopper::CommitProducts();
  state_.StoreSums(sums(), slice_, at_);
  hopper::AwaitProducts<1>();
  hopper::Settle(d);
  WriteRows(token, stage, d);
  hopper::AwaitProducts<0>();
  hopper::Settle(state_.r);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
}

template <int kWidth>
__global__ void __launch_bounds__(LinearGeometry<kWidth>::kThreads, LinearGeometry<kWidth>::kBlocks)
    QueryGradients(const __grid_constant__ QueriesParams params) {
  extern __shared__ uint8_t raw[];
  QueriesBlock<kWidth> block(params, AlignedShared(raw));
  block.Start();
  for (int n = 0; n < block.chunks(); ++n) block.Chunk(n);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
cudaError_t Launch(const QueriesParams& params, cudaStream_t stream) {
  const LinearSm90Shape& shape = params.args.shape;
  return LaunchSegments<QueriesLayout<kWidth>>(QueryGradients<kWidth>, shape, shape.segments,
                                               params, stream);
}

}  // namespace

cudaError_t LinearQueryGradients(const LinearSm90Backward& args, cudaStream_t stream) {
  LinearMaps make(args.shape);
  const QueriesParams params{
      {make.Of(args.q), make.Of(args.k), make.Of(args.v), make.Of(args.d_o), make.Of(args.d_q)},
      args};
  if (make.error() != cudaSuccess) return make.error();
  return args.shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

}  // namespace weft::kernels::sm90

#include "kernels/attention/linear_attention/cuda/linear_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct OutputsMaps {
  CUtensorMap q, k, v, o;
};
struct OutputsParams {
  OutputsMaps maps;
  LinearSm90Forward args;
};

template <int kWidth>
struct OutputsLayout : LinearGeometry<kWidth> {
  using Geometry = LinearGeometry<kWidth>;
  static constexpr int kStages = 3;
  static constexpr int kStageBytes = 3 * Geometry::kMatrixBytes;  // Q, K, V; in the end O for Q
  static constexpr int kF = kStages * kStageBytes;
  static constexpr int kG = kF + Geometry::kMatrixBytes;
  static constexpr int kState = kG + Geometry::kMatrixBytes;
  static constexpr int kSums = kState + Geometry::kStateBytes;
  static constexpr int kDots = kSums + kWidth * 4;
  static constexpr int kBarriers = kDots + kWidth * 4;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};

template <int kWidth>
__device__ void LoadChunk(const OutputsParams& params, const LinearWork& work, int n,
                          uint8_t* shared) {
  using Layout = OutputsLayout<kWidth>;
  uint8_t* const stage = shared + n % Layout::kStages * Layout::kStageBytes;
  auto* const barrier =
      reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + n % Layout::kStages;
  const int token = (work.first_chunk + n) * kLinearChunk;
  hopper::ArriveExpecting(barrier, Layout::kStageBytes);
  LoadTiles<kWidth>(params.maps.q, stage, barrier, work.head, token, work.batch);
  LoadTiles<kWidth>(params.maps.k, stage + Layout::kMatrixBytes, barrier, work.head, token,
                    work.batch);
  LoadTiles<kWidth>(params.maps.v, stage + 2 * Layout::kMatrixBytes, barrier, work.head, token,
                    work.batch);
}

// A row by row: weights of keys that a query does not see vanish, the others are summed.
__device__ void MaskWeights(float (&a)[32], float (&sums)[2], const Place& at) {
  sums[0] = sums[1] = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int key = i / 4 * 8 + at.column + i % 2;
    const int query = at.row + i % 4 / 2 * 8;
    if (key > query) a[i] = 0;
    sums[i % 4 / 2] += a[i];
  }
  sums[0] = GroupReduce<4>(sums[0], AddOf());
  sums[1] = GroupReduce<4>(sums[1], AddOf());
}

__device__ float Guarded(const LinearSm90Forward& args, float sum) {
  if (!args.lift_small) return sum + args.guard_epsilon;
  return fabsf(sum) <= args.guard_epsilon ? sum + 2.0F * args.guard_epsilon : sum;
}

// Writes them where they are wanted and leaves their inverse.
__device__ void StoreDenominators(const LinearSm90Forward& args, const LinearWork& work, int token,
                                  float (&denominators)[2], int slice, const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int t = token + at.row + 8 * i;
    if (slice == 0 && at.column == 0 && t < args.shape.tokens && args.denominators != nullptr) {
      args.denominators[work.row + t] = denominators[i];
    }
    denominators[i] = denominators[i] == 0 ? 0.0F : 1.0F / denominators[i];
  }
}

// A block; each thread has one.
template <int kWidth>
class OutputsBlock {
 public:
  using Layout = OutputsLayout<kWidth>;
  __device__ OutputsBlock(const OutputsParams& params, uint8_t* shared)
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
  // Of chunk n, while products of the one before run.
  __device__ void Features(int n);
  // `sums` of the weights of rows at_.row and + 8 inside of the chunk, to denominators.
  __device__ void Denominators(float (&sums)[2]) const;
  __device__ void WriteRows(int token, uint8_t* stage, float (&o)[32]) const;

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
  [[nodiscard]] __device__ float* dots() const {
    return reinterpret_cast<float*>(shared_ + Layout::kDots);
  }

  const OutputsParams& params_;
  const LinearSm90Forward& args_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same
  const LinearWork work_;
  const SeenKeys seen_;
  const Place at_;
  const int slice_;
  LinearState<kWidth> state_;
};

template <int kWidth>
__device__ void OutputsBlock<kWidth>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) hopper::InitBarrier(Barrier(i), 1);
    hopper::PublishBarriers();
    for (int n = 0; n < min(Layout::kStages, work_.chunks); ++n) {
      LoadChunk<kWidth>(params_, work_, n, shared_);
    }
  }
  state_.Load(args_.states + work_.state, slice_, at_);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
  state_.StoreSums(sums(), slice_, at_);
  __syncthreads();
  Features(0);
}

template <int kWidth>
__device__ void OutputsBlock<kWidth>::Features(int n) {
  if (n >= work_.chunks) return;
  const uint8_t* const stage = shared_ + n % Layout::kStages * Layout::kStageBytes;
  const int token = (work_.first_chunk + n) * kLinearChunk;
  hopper::AwaitPhase(Barrier(n), n / Layout::kStages % 2);
  MakeFeatures<kWidth, true>(
      args_.map, stage, shared_ + Layout::kF, [](int) { return true; }, sums(), dots());
  MakeFeatures<kWidth, false>(args_.map, stage + Layout::kMatrixBytes, shared_ + Layout::kG,
                              [&](int row) { return seen_(token + row); });
}

template <int kWidth>
__device__ void OutputsBlock<kWidth>::Denominators(float (&sums)[2]) const {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < Layout::kSlices; ++j) sums[i] += dots()[64 * j + at_.row + 8 * i];
    sums[i] = Guarded(args_, sums[i]);
  }
}

template <int kWidth>
__device__ void OutputsBlock<kWidth>::WriteRows(int token, uint8_t* stage, float (&o)[32]) const {
  uint8_t* const out = stage + slice_ * kTileBytes;
  WriteTile(out, o);
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + slice_, 128);
  if (threadIdx.x % 128 == 0) {
    hopper::StoreBox(params_.maps.o, out, 64 * slice_, work_.head, token, work_.batch);
    hopper::CommitStores();
  }
}

template <int kWidth>
__device__ void OutputsBlock<kWidth>::Chunk(int n) {
  const int token = (work_.first_chunk + n) * kLinearChunk;
  uint8_t* const stage = shared_ + n % Layout::kStages * Layout::kStageBytes;
  const uint8_t* const v = stage + 2 * Layout::kMatrixBytes;
  const uint8_t* const f = shared_ + Layout::kF;
  const uint8_t* const g = shared_ + Layout::kG;
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
  hopper::FenceForEngines();
  __syncthreads();  // features, dots and the state are there; the stage before is free
  if (threadIdx.x == 0 && n > 0 && n - 1 + Layout::kStages < work_.chunks) {
    LoadChunk<kWidth>(params_, work_, n - 1 + Layout::kStages, shared_);
  }
  float a[32];
  float o[32];
  hopper::StartProducts();
  ProductOfRows<kWidth>(a, At(f), At(g));
  hopper::CommitProducts();
  ProductWithState<kWidth>(o, At(f), At(shared_ + Layout::kState), slice_);
  hopper::CommitProducts();
  uint32_t keys[4][4];
  LoadTokens(keys, g + slice_ * kTileBytes);
  AddTokenSums(state_.z, keys);
  state_.StoreSums(sums(), slice_, at_);
  hopper::AwaitProducts<1>();
  hopper::Settle(a);
  float denominators[2];
  MaskWeights(a, denominators, at_);
  uint32_t weights[4][4];
  hopper::ToOperand(weights, a);
  Denominators(denominators);
  hopper::AwaitProducts<0>();
  hopper::Settle(o);
  __syncthreads();  // nobody reads features and the state any more
  hopper::StartProducts();
  AddProduct(o, weights, At(v + slice_ * kTileBytes));
  hopper::CommitProducts();
  AddProduct(state_.r, keys, At(v));
  hopper::CommitProducts();
  StoreDenominators(args_, work_, token, denominators, slice_, at_);
  Features(n + 1);
  hopper::AwaitProducts<1>();
  hopper::Settle(o);
#pragma unroll
  for (int i = 0; i < 32; ++i) o[i] *= denominators[i % 4 / 2];
  WriteRows(token, stage, o);
  hopper::AwaitProducts<0>();
  hopper::Settle(state_.r);
  state_.StoreTiles(shared_ + Layout::kState, slice_);
}

template <int kWidth>
__global__ void __launch_bounds__(LinearGeometry<kWidth>::kThreads, LinearGeometry<kWidth>::kBlocks)
    Outputs(const __grid_constant__ OutputsParams params) {
  extern __shared__ uint8_t raw[];
  OutputsBlock<kWidth> block(params, AlignedShared(raw));
  block.Start();
  for (int n = 0; n < block.chunks(); ++n) block.Chunk(n);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
cudaError_t Launch(const OutputsParams& params, cudaStream_t stream) {
  const LinearSm90Shape& shape = params.args.shape;
  return LaunchSegments<OutputsLayout<kWidth>>(Outputs<kWidth>, shape, shape.segments, params,
                                               stream);
}

}  // namespace

cudaError_t LinearForward(const LinearSm90Forward& args, cudaStream_t stream) {
  LinearMaps make(args.shape);
  const OutputsParams params{{make.Of(args.q), make.Of(args.k), make.Of(args.v), make.Of(args.o)},
                             args};
  if (make.error() != cudaSuccess) return make.error();
  return args.shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

}  // namespace weft::kernels::sm90

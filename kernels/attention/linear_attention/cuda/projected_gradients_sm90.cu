// Gradients of given features, of queries and of keys: a block for each half of the features.
#include "kernels/attention/linear_attention/cuda/projected_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct GradientsMaps {
  CUtensorMap x, y, features, gradients;
};
struct GradientsParams {
  GradientsMaps maps;
  ProjectedGradients args;
};

template <int kWidth>
struct Layout {
  static constexpr int kThreads = 256;
  static constexpr int kStages = 3;
  static constexpr int kMatrixBytes = kWidth / 64 * kTileBytes;
  static constexpr int kHalfBytes = kProjectedFeatures / 128 * kTileBytes;  // of the features
  static constexpr int kStageBytes = 2 * kMatrixBytes + kHalfBytes;         // x, y, features
  static constexpr int kState = kStages * kStageBytes;
  static constexpr int kOut = kState + 2 * kMatrixBytes;
  static constexpr int kSums = kOut + kHalfBytes;
  static constexpr int kFactorTable = kSums + 128 * 4;
  static constexpr int kBarriers = kFactorTable + FactorTable::kBytes;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};
static_assert(Layout<128>::kSharedBytes <= 227 * 1024);

// A block; each thread has one.
template <int kWidth, bool kBackwards>
class GradientsBlock {
 public:
  using Space = Layout<kWidth>;
  __device__ GradientsBlock(const GradientsParams& params, uint8_t* shared)
      : params_(params),
        args_(params.args),
        shared_(shared),
        tiles_(hopper::TilesAt(shared)),
        work_(args_.pass, 0, args_.pass.shape.segments, 2),
        half_(static_cast<int>(blockIdx.x) % 2),
        part_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0)),
        factors_(args_.pass, work_.row, reinterpret_cast<float*>(shared + Space::kFactorTable)) {}

  __device__ void Start();
  __device__ void Chunk(int n);
  [[nodiscard]] __device__ int chunks() const { return work_.chunks; }

 private:
  __device__ void Load(int n);
  // x y^T to what pairs count in the features' gradients, as an operand.
  __device__ void WeighPairs(int n, float (&a)[32], uint32_t (&weights)[4][4]) const;
  // x R^T to what the state counts in them.
  __device__ void WeighState(int n, float (&d)[32]) const;
  __device__ void WriteRows(int n, const float (&d)[32]) const;

  [[nodiscard]] __device__ uint8_t* Stage(int n) const {
    return shared_ + n % Space::kStages * Space::kStageBytes;
  }
  [[nodiscard]] __device__ uint64_t* Barrier(int n) const {
    return reinterpret_cast<uint64_t*>(shared_ + Space::kBarriers) + n % Space::kStages;
  }
  [[nodiscard]] __device__ float* sums() const {
    return reinterpret_cast<float*>(shared_ + Space::kSums);
  }

  const GradientsParams& params_;
  const ProjectedGradients& args_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same
  const ProjectedWork work_;
  const int half_;  // of the features
  const int part_;  // 64 features of it: the warpgroup's
  const Place at_;
  FactorTable factors_;
  LinearState<kWidth, kProjectedFeatures> state_;
  float fading_ = 1;  // of the state in the next chunk
};

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::Load(int n) {
  if (n >= work_.chunks) return;
  const int token = work_.TokenOf(n);
  uint8_t* const stage = Stage(n);
  hopper::ArriveExpecting(Barrier(n), Space::kStageBytes);
  LoadTiles<kWidth>(params_.maps.x, stage, Barrier(n), work_.head, token, work_.batch);
  LoadTiles<kWidth>(params_.maps.y, stage + Space::kMatrixBytes, Barrier(n), work_.head, token,
                    work_.batch);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    hopper::LoadBox(params_.maps.features, stage + 2 * Space::kMatrixBytes + i * kTileBytes,
                    Barrier(n), 128 * half_ + 64 * i, work_.head, token, work_.batch);
  }
}

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Space::kStages; ++i) hopper::InitBarrier(Barrier(i), 1);
    hopper::PublishBarriers();
    for (int n = 0; n < Space::kStages; ++n) Load(n);
  }
  factors_.Fetch(work_.TokenOf(0));
  state_.Load(args_.states == nullptr ? nullptr : args_.states + work_.state, 2 * half_ + part_,
              at_);
  state_.StoreTiles(shared_ + Space::kState, part_);
  state_.StoreSums(sums(), part_, at_);
  fading_ = work_.FadingOf(0);
  __syncthreads();
}

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::WeighPairs(int n, float (&a)[32],
                                                               uint32_t (&weights)[4][4]) const {
  const float* const inverse = factors_.Of(n, kInverse);
  const float* const slopes = factors_.Of(n, kSlope);
  const float of_rows[2] = {inverse[at_.row], inverse[at_.row + 8]};
  const float slope_of_rows[2] = {slopes[at_.row], slopes[at_.row + 8]};
  ForPairs<kBackwards>(factors_, n, at_, [&](int i, int column, float factor) {
    const float of_query = kBackwards ? inverse[column] : of_rows[i % 4 / 2];
    const float slope = kBackwards ? slopes[column] : slope_of_rows[i % 4 / 2];
    a[i] = factor * (of_query * a[i] + slope);
  });
  hopper::ToOperand(weights, a);
}

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::WeighState(int n, float (&d)[32]) const {
  const float* const rows = factors_.Of(n, kRow);
  const float* const row_sums = factors_.Of(n, kRowSum);
  const float of_rows[2] = {rows[at_.row], rows[at_.row + 8]};
  const float of_sums[2] = {row_sums[at_.row], row_sums[at_.row + 8]};
  const float* const z = sums() + 64 * part_;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    d[i] = of_rows[i % 4 / 2] * d[i] + of_sums[i % 4 / 2] * z[i / 4 * 8 + at_.column + i % 2];
  }
}

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::WriteRows(int n, const float (&d)[32]) const {
  uint8_t* const out = shared_ + Space::kOut + part_ * kTileBytes;
  WriteTile(out, d);
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + part_, 128);
  if (threadIdx.x % 128 == 0) {
    hopper::StoreBox(params_.maps.gradients, out, 128 * half_ + 64 * part_, work_.head,
                     work_.TokenOf(n), work_.batch);
    hopper::CommitStores();
  }
}

template <int kWidth, bool kBackwards>
__device__ void GradientsBlock<kWidth, kBackwards>::Chunk(int n) {
  const hopper::Tiles x = tiles_ + n % Space::kStages * Space::kStageBytes;
  const hopper::Tiles y = x + Space::kMatrixBytes;
  const int features = 2 * Space::kMatrixBytes + part_ * kTileBytes;  // from the stage's begin
  state_.Scale(fading_);  // while no products run: the compiler would wait for them
  hopper::Settle(state_.r);
  if (n + 1 < work_.chunks) fading_ = work_.FadingOf(n + 1);
  factors_.Publish(n);
  hopper::AwaitPhase(Barrier(n), n / Space::kStages % 2);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
  hopper::FenceForEngines();
  __syncthreads();  // factors and the state are there; the stage before is free
  if (threadIdx.x == 0 && n > 0) Load(n - 1 + Space::kStages);
  factors_.Fetch(work_.TokenOf(n + 1));
  float a[32];
  float d[32];
  hopper::StartProducts();
  ProductOfRows<kWidth>(a, x, y);
  hopper::CommitProducts();
  ProductWithTransposedState<kWidth>(d, x, tiles_ + Space::kState, part_);
  hopper::CommitProducts();
  uint32_t tokens[4][4];
  LoadTokens(tokens, Stage(n) + features);
  WeighTokens(tokens, state_.z, factors_.Of(n, kToken), factors_.Of(n, kTokenSum), at_);
  hopper::AwaitProducts<1>();
  hopper::Settle(a);
  uint32_t weights[4][4];
  WeighPairs(n, a, weights);
  hopper::AwaitProducts<0>();
  hopper::Settle(d);
  WeighState(n, d);
  __syncthreads();  // nobody reads the state any more
  hopper::StartProducts();
  AddProduct(d, weights, x + features);
  hopper::CommitProducts();
  AddProduct(state_.r, tokens, y);
  hopper::CommitProducts();
  state_.StoreSums(sums(), part_, at_);
  hopper::AwaitProducts<1>();
  hopper::Settle(d);
  WriteRows(n, d);
  hopper::AwaitProducts<0>();
  hopper::Settle(state_.r);
  state_.StoreTiles(shared_ + Space::kState, part_);
}

template <int kWidth, bool kBackwards>
__global__ void __launch_bounds__(Layout<kWidth>::kThreads, 1)
    Gradients(const __grid_constant__ GradientsParams params) {
  extern __shared__ uint8_t raw[];
  GradientsBlock<kWidth, kBackwards> block(params, AlignedShared(raw));
  block.Start();
  for (int n = 0; n < block.chunks(); ++n) block.Chunk(n);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
cudaError_t Launch(const GradientsParams& params, cudaStream_t stream) {
  const ProjectedPass& pass = params.args.pass;
  return LaunchSegments<Layout<kWidth>>(
      pass.backwards ? Gradients<kWidth, true> : Gradients<kWidth, false>, pass.shape,
      2 * pass.shape.segments, params, stream);
}

}  // namespace

cudaError_t ProjectedDifferentiate(const ProjectedGradients& args, cudaStream_t stream) {
  const LinearSm90Shape& shape = args.pass.shape;
  LinearMaps make(shape);
  const GradientsParams params{{make.Of(args.x), make.Of(args.y), make.OfFeatures(args.features),
                                make.OfFeatures(args.gradients)},
                               args};
  if (make.error() != cudaSuccess) return make.error();
  return shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

}  // namespace weft::kernels::sm90

// What segments add to a state of given features, or to its gradient: a block for each half of the
// features.
#include "kernels/attention/linear_attention/cuda/projected_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct SumsMaps {
  CUtensorMap f, y;
};
struct SumsParams {
  SumsMaps maps;
  ProjectedSums args;
};

template <int kWidth>
struct Layout {
  static constexpr int kThreads = 256;
  static constexpr int kStages = 4;
  static constexpr int kHalfBytes = kProjectedFeatures / 128 * kTileBytes;  // of the features
  static constexpr int kStageBytes = kHalfBytes + kWidth / 64 * kTileBytes;
  static constexpr int kFactorTable = kStages * kStageBytes;
  static constexpr int kBarriers = kFactorTable + FactorTable::kBytes;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};

template <int kWidth>
__device__ void LoadChunk(const SumsParams& params, const ProjectedWork& work, int n, int half,
                          uint8_t* shared) {
  using Space = Layout<kWidth>;
  if (n >= work.chunks) return;
  uint8_t* const stage = shared + n % Space::kStages * Space::kStageBytes;
  auto* const barrier = reinterpret_cast<uint64_t*>(shared + Space::kBarriers) + n % Space::kStages;
  const int token = work.TokenOf(n);
  hopper::ArriveExpecting(barrier, Space::kStageBytes);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    hopper::LoadBox(params.maps.f, stage + i * kTileBytes, barrier, 128 * half + 64 * i, work.head,
                    token, work.batch);
  }
  LoadTiles<kWidth>(params.maps.y, stage + Space::kHalfBytes, barrier, work.head, token,
                    work.batch);
}

template <int kWidth>
__global__ void __launch_bounds__(Layout<kWidth>::kThreads, 1)
    SegmentSums(const __grid_constant__ SumsParams params) {
  using Space = Layout<kWidth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  const ProjectedSums& args = params.args;
  const ProjectedWork work(args.pass, args.first, args.count, 2);
  const int half = static_cast<int>(blockIdx.x) % 2;
  const int part = static_cast<int>(threadIdx.x) / 128;
  const Place at;
  FactorTable factors(args.pass, work.row, reinterpret_cast<float*>(shared + Space::kFactorTable));
  auto* const barriers = reinterpret_cast<uint64_t*>(shared + Space::kBarriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Space::kStages; ++i) hopper::InitBarrier(barriers + i, 1);
    hopper::PublishBarriers();
    for (int n = 0; n < Space::kStages; ++n) LoadChunk<kWidth>(params, work, n, half, shared);
  }
  factors.Fetch(work.TokenOf(0));
  LinearState<kWidth, kProjectedFeatures> state;
  state.Clear();
  for (int n = 0; n < work.chunks; ++n) {
    const uint8_t* const stage = shared + n % Space::kStages * Space::kStageBytes;
    const float fading = work.FadingOf(n);
    factors.Publish(n);
    __syncthreads();  // factors and, at first, barriers are there; the stage before is free
    if (threadIdx.x == 0 && n > 0) {
      LoadChunk<kWidth>(params, work, n - 1 + Space::kStages, half, shared);
    }
    factors.Fetch(work.TokenOf(n + 1));
    hopper::AwaitPhase(barriers + n % Space::kStages, n / Space::kStages % 2);
    uint32_t tokens[4][4];
    LoadTokens(tokens, stage + part * kTileBytes);
    state.Scale(fading);
    WeighTokens(tokens, state.z, factors.Of(n, kToken), factors.Of(n, kTokenSum), at);
    hopper::StartProducts();
    AddProduct(state.r, tokens,
               tiles + n % Space::kStages * Space::kStageBytes + Space::kHalfBytes);
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(state.r);
  }
  state.Store(args.parts + work.state, 2 * half + part, at);
}

template <int kWidth>
cudaError_t Launch(const SumsParams& params, cudaStream_t stream) {
  const ProjectedSums& args = params.args;
  return LaunchSegments<Layout<kWidth>>(SegmentSums<kWidth>, args.pass.shape, 2 * args.count,
                                        params, stream);
}

}  // namespace

cudaError_t ProjectedSegmentSums(const ProjectedSums& args, cudaStream_t stream) {
  if (args.count == 0) return cudaSuccess;
  LinearMaps make(args.pass.shape);
  const SumsParams params{{make.OfFeatures(args.f), make.Of(args.y)}, args};
  if (make.error() != cudaSuccess) return make.error();
  return args.pass.shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

}  // namespace weft::kernels::sm90

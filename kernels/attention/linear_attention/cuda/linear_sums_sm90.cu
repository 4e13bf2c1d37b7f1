// What segments add to a state or to its gradient, and the slopes of rows.
#include "kernels/attention/linear_attention/cuda/linear_sm90.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sm90 {
namespace {

struct SumsMaps {
  CUtensorMap x, y;
};
struct SumsParams {
  SumsMaps maps;
  LinearSm90Sums args;
};

template <int kWidth>
struct SumsLayout : LinearGeometry<kWidth> {
  using Geometry = LinearGeometry<kWidth>;
  static constexpr int kStages = 4;
  static constexpr int kStageBytes = 2 * Geometry::kMatrixBytes;
  static constexpr int kFactors = kStages * kStageBytes;  // float [2][64]: of the features in R
  static constexpr int kSlopes = kFactors + 512;          // the same in z
  static constexpr int kBarriers = kSlopes + 512;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};

template <int kWidth>
__device__ void LoadChunk(const SumsParams& params, const LinearWork& work, int n,
                          uint8_t* shared) {
  using Layout = SumsLayout<kWidth>;
  uint8_t* const stage = shared + n % Layout::kStages * Layout::kStageBytes;
  auto* const barrier =
      reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + n % Layout::kStages;
  const int token = (work.first_chunk + n) * kLinearChunk;
  hopper::ArriveExpecting(barrier, Layout::kStageBytes);
  LoadTiles<kWidth>(params.maps.x, stage, barrier, work.head, token, work.batch);
  LoadTiles<kWidth>(params.maps.y, stage + Layout::kMatrixBytes, barrier, work.head, token,
                    work.batch);
}

// What token `token` of the sequence counts in R and in z.
__device__ float2 FactorsOf(const LinearSm90Sums& args, const LinearWork& work,
                            const SeenKeys& seen, int token) {
  if (args.inverse == nullptr) {
    const float one = seen(token) ? 1.0F : 0.0F;
    return {one, one};
  }
  if (token >= args.shape.tokens) return {0, 0};
  return {args.inverse[work.row + token], args.slopes[work.row + token]};
}

// Rows of x, transposed, to features times factors; adds features times slopes to z.
__device__ void MakeWeighted(const CudaFeatureMap& map, uint32_t (&x)[4][4], float (&z)[2],
                             const float* factors, const float* slopes, const Place& at) {
  float sums[2] = {};
  ForFeature(map.feature, [&]<CudaFeature kFeature>() {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int token = i / 4 * 16 + i % 4 / 2 * 8 + at.column;
      const float2 factor = *reinterpret_cast<const float2*>(factors + token);
      const float2 slope = *reinterpret_cast<const float2*>(slopes + token);
      const uint32_t pair = FeaturePair<kFeature>(map, x[i / 4][i % 4]);
      const float low = hopper::LowOf(pair);
      const float high = hopper::HighOf(pair);
      sums[i % 2] += slope.x * low + slope.y * high;
      x[i / 4][i % 4] = hopper::PackPair(factor.x * low, factor.y * high);
    }
  });
  z[0] += GroupReduce<4>(sums[0], AddOf());
  z[1] += GroupReduce<4>(sums[1], AddOf());
}

template <int kWidth>
__global__ void __launch_bounds__(LinearGeometry<kWidth>::kThreads, LinearGeometry<kWidth>::kBlocks)
    SegmentSums(const __grid_constant__ SumsParams params) {
  using Layout = SumsLayout<kWidth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  const LinearSm90Sums& args = params.args;
  const LinearWork work(args.shape, args.first, args.count);
  const SeenKeys seen = SeenOf(args.shape, args.valid, work.batch);
  const Place at;
  const int slice = static_cast<int>(threadIdx.x) / 128;
  const int thread = static_cast<int>(threadIdx.x);
  auto* const barriers = reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  auto* const factors = reinterpret_cast<float*>(shared + Layout::kFactors);
  auto* const slopes = reinterpret_cast<float*>(shared + Layout::kSlopes);
  const auto keep = [&](int n, float2 of_token) {
    factors[n % 2 * 64 + thread] = of_token.x;
    slopes[n % 2 * 64 + thread] = of_token.y;
  };
  const auto fetch = [&](int n) {
    return FactorsOf(args, work, seen, (work.first_chunk + n) * kLinearChunk + thread);
  };
  if (thread == 0) {
    for (int i = 0; i < Layout::kStages; ++i) hopper::InitBarrier(barriers + i, 1);
    hopper::PublishBarriers();
    for (int n = 0; n < min(Layout::kStages, work.chunks); ++n) {
      LoadChunk<kWidth>(params, work, n, shared);
    }
  }
  if (thread < 64) keep(0, fetch(0));
  LinearState<kWidth> state;
  state.Clear();
  __syncthreads();
  for (int n = 0; n < work.chunks; ++n) {
    const uint8_t* const stage = shared + n % Layout::kStages * Layout::kStageBytes;
    float2 next = {};
    if (thread < 64) next = fetch(n + 1);
    hopper::AwaitPhase(barriers + n % Layout::kStages, n / Layout::kStages % 2);
    uint32_t x[4][4];
    LoadTokens(x, stage + slice * kTileBytes);
    MakeWeighted(args.map, x, state.z, factors + n % 2 * 64, slopes + n % 2 * 64, at);
    hopper::StartProducts();
    AddProduct(state.r, x,
               tiles + n % Layout::kStages * Layout::kStageBytes + Layout::kMatrixBytes);
    hopper::CommitProducts();
    if (thread < 64) keep(n + 1, next);
    hopper::AwaitProducts<0>();
    hopper::Settle(state.r);
    __syncthreads();
    if (thread == 0 && n + Layout::kStages < work.chunks) {
      LoadChunk<kWidth>(params, work, n + Layout::kStages, shared);
    }
  }
  state.Store(args.parts + work.state, slice, at);
}

template <int kWidth>
cudaError_t Launch(const SumsParams& params, cudaStream_t stream) {
  const LinearSm90Sums& args = params.args;
  return LaunchSegments<SumsLayout<kWidth>>(SegmentSums<kWidth>, args.shape, args.count, params,
                                            stream);
}

// ---- Slopes

constexpr int kSlopeThreads = 256;

// kWidth / 8 neighbouring threads for each row.
template <int kWidth>
__global__ void __launch_bounds__(kSlopeThreads) RowSlopes(LinearSm90Slopes args) {
  const LinearSm90Shape& shape = args.shape;
  const int64_t element = (int64_t{blockIdx.x} * kSlopeThreads + threadIdx.x) * 8;
  const int64_t row = element / kWidth;
  const bool there = row < int64_t{shape.batch} * shape.tokens * shape.heads;
  float x[8] = {};
  float y[8] = {};
  if (there) {
    Load<8>(args.o + element, x);
    Load<8>(args.d_o + element, y);
  }
  float dot = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) dot += x[i] * y[i];
  dot = GroupReduce<kWidth / 8>(dot, AddOf());
  if (!there || element % kWidth > 0) return;
  const int64_t token = row / shape.heads;
  const int64_t to = (token / shape.tokens * shape.heads + row % shape.heads) * shape.tokens +
                     token % shape.tokens;
  const float denominator = args.denominators[to];
  const float inverse = denominator == 0 ? 0.0F : 1.0F / denominator;
  const float slope = denominator == 0 ? 0.0F : -dot / denominator;
  args.inverse[to] = inverse;
  args.slopes[to] = slope;
  if (args.fading == nullptr) return;
  args.faded_inverse[to] = args.fading[to] * inverse;
  args.faded_slopes[to] = args.fading[to] * slope;
}

}  // namespace

LinearSm90Shape LinearSm90ShapeOf(int batch, int tokens, int heads, int width) {
  const int at_a_time =
      kMultiprocessors * (width == 64 ? LinearGeometry<64>::kBlocks : LinearGeometry<128>::kBlocks);
  return InSegments(
      {.batch = batch, .tokens = tokens, .heads = heads, .width = width, .features = width},
      at_a_time / (batch * heads));
}

LinearSm90Shape InSegments(LinearSm90Shape shape, int wanted) {
  constexpr int kFewestChunks = 8;  // of a segment
  const int chunks = max(shape.Chunks(), 1);
  wanted = max(wanted, 1);
  shape.segment_chunks = max((chunks + wanted - 1) / wanted, min(kFewestChunks, chunks));
  shape.segments = (chunks + shape.segment_chunks - 1) / shape.segment_chunks;
  return shape;
}

cudaError_t LinearSums(const LinearSm90Sums& args, cudaStream_t stream) {
  if (args.count == 0) return cudaSuccess;
  LinearMaps make(args.shape);
  const SumsParams params{{make.Of(args.x), make.Of(args.y)}, args};
  if (make.error() != cudaSuccess) return make.error();
  return args.shape.width == 64 ? Launch<64>(params, stream) : Launch<128>(params, stream);
}

cudaError_t LinearRowSlopes(const LinearSm90Slopes& args, cudaStream_t stream) {
  const LinearSm90Shape& shape = args.shape;
  const int64_t threads = int64_t{shape.batch} * shape.tokens * shape.heads * (shape.width / 8);
  const auto blocks = static_cast<unsigned>(CeilDiv(threads, kSlopeThreads));
  const auto kernel = shape.width == 64 ? RowSlopes<64> : RowSlopes<128>;
  kernel<<<blocks, kSlopeThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace weft::kernels::sm90

// Results of linear attention with given features, and the gradients of values. One warpgroup
// weighs the pairs of a chunk and reads the state of 64 values, the other keeps that state.
#include "kernels/attention/linear_attention/cuda/projected_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct ResultsMaps {
  CUtensorMap rows, columns, y, results;
};
struct ResultsParams {
  ResultsMaps maps;
  ProjectedResults args;
};

struct Layout {
  static constexpr int kThreads = 256;
  static constexpr int kStages = 2;
  static constexpr int kMatrixBytes = kFeatureTiles * kTileBytes;
  static constexpr int kStageBytes = 2 * kMatrixBytes + kTileBytes;  // rows, columns, y
  static constexpr int kState = kStages * kStageBytes;
  static constexpr int kWeighted = kState + kMatrixBytes;  // y times what tokens count in the state
  static constexpr int kOut = kWeighted + kTileBytes;
  // z: for each 64 features a tile of 8 rows, the rounded numbers, what was lost, and zeros.
  static constexpr int kSumTileBytes = hopper::TileBytes(8);
  static constexpr int kSums = kOut + kTileBytes;
  static constexpr int kTokens = kSums + kFeatureTiles * kSumTileBytes;  // their factors, likewise
  static constexpr int kFactorTable = kTokens + kSumTileBytes;
  static constexpr int kBarriers = kFactorTable + FactorTable::kBytes;
  static constexpr int kSharedBytes = kBarriers + kStages * 8 + kSharedSlack;
};
static_assert(Layout::kSharedBytes <= 227 * 1024);

// Places where all threads of the block meet, or those that weigh pairs.
enum Meeting : int { kChunkIsThere = 1, kStateWasRead, kAllIsWritten };

// Elements `column` of the first two rows of a tile: x in two parts.
__device__ void StoreParts(uint8_t* tile, int column, float x) {
  const __nv_bfloat16 high = __float2bfloat16_rn(x);
  const __nv_bfloat16 low = __float2bfloat16_rn(x - __bfloat162float(high));
  const auto at = [&](int row) {
    return tile + hopper::SwizzledOffset(row * hopper::kTileRowBytes + column * 2);
  };
  *reinterpret_cast<__nv_bfloat16*>(at(0)) = high;
  *reinterpret_cast<__nv_bfloat16*>(at(1)) = low;
}

// What both warpgroups have.
template <bool kBackwards>
class ResultsBlock {
 public:
  __device__ ResultsBlock(const ResultsParams& params, uint8_t* shared)
      : params_(params),
        args_(params.args),
        shared_(shared),
        tiles_(hopper::TilesAt(shared)),
        slices_(args_.pass.shape.width / 64),
        work_(args_.pass, 0, args_.pass.shape.segments, slices_),
        slice_(static_cast<int>(blockIdx.x) % slices_),
        factors_(args_.pass, work_.row, reinterpret_cast<float*>(shared + Layout::kFactorTable)) {}

  __device__ void Start();
  __device__ void RunPairs();
  __device__ void RunState();

 private:
  static constexpr bool kSums = !kBackwards;  // z, for denominators

  __device__ void Load(int n);
  // The chunk, its factors and the state are there, the stage before is free.
  __device__ void Begin(int n);
  // Rows times columns, weighed, as an operand; in o what the state gives, and the sums of both.
  __device__ void WeighPairs(int n, uint32_t (&weights)[4][4], float (&o)[32], float (&sums)[2]);
  // Divides, and leaves the tile for SendResults.
  __device__ void Finish(int n, float (&o)[32], const float (&sums)[2]);
  __device__ void SendResults(int n) const;
  [[nodiscard]] __device__ float Guarded(float sum) const;
  // What tokens of the n-th chunk count, on the way; then y times that, as an operand.
  __device__ void FetchTokens(int n, float (&counts)[4]) const;
  __device__ void WeighTokens(int n, const float (&counts)[4]);
  __device__ void LoadState(float (&r)[kFeatureTiles][32], float (&z)[kFeatureTiles][4]) const;
  __device__ static void Scale(float (&r)[kFeatureTiles][32], float (&z)[kFeatureTiles][4],
                               float fading);
  __device__ void PublishState(const float (&r)[kFeatureTiles][32],
                               const float (&z)[kFeatureTiles][4]) const;

  [[nodiscard]] __device__ uint8_t* Stage(int n) const {
    return shared_ + n % Layout::kStages * Layout::kStageBytes;
  }
  [[nodiscard]] __device__ hopper::Tiles RowFeatures(int n) const {
    return tiles_ + n % Layout::kStages * Layout::kStageBytes;
  }
  [[nodiscard]] __device__ hopper::Tiles ColumnFeatures(int n) const {
    return RowFeatures(n) + Layout::kMatrixBytes;
  }
  [[nodiscard]] __device__ hopper::Tiles Y(int n) const {
    return RowFeatures(n) + 2 * Layout::kMatrixBytes;
  }
  [[nodiscard]] __device__ uint64_t* Barrier(int n) const {
    return reinterpret_cast<uint64_t*>(shared_ + Layout::kBarriers) + n % Layout::kStages;
  }

  const ResultsParams& params_;
  const ProjectedResults& args_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same
  const int slices_;
  const ProjectedWork work_;
  const int slice_;  // of the values
  const Place at_;
  FactorTable factors_;
};

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::Load(int n) {
  if (n >= work_.chunks) return;
  const int token = work_.TokenOf(n);
  uint8_t* const stage = Stage(n);
  hopper::ArriveExpecting(Barrier(n), Layout::kStageBytes);
  LoadTiles<kProjectedFeatures>(params_.maps.rows, stage, Barrier(n), work_.head, token,
                                work_.batch);
  LoadTiles<kProjectedFeatures>(params_.maps.columns, stage + Layout::kMatrixBytes, Barrier(n),
                                work_.head, token, work_.batch);
  hopper::LoadBox(params_.maps.y, stage + 2 * Layout::kMatrixBytes, Barrier(n), 64 * slice_,
                  work_.head, token, work_.batch);
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) hopper::InitBarrier(Barrier(i), 1);
    hopper::PublishBarriers();
    for (int n = 0; n < Layout::kStages; ++n) Load(n);
  }
  factors_.Fetch(work_.TokenOf(0));
  if constexpr (kSums) {
    constexpr int kWords = (Layout::kFactorTable - Layout::kSums) / 4;
    auto* const words = reinterpret_cast<uint32_t*>(shared_ + Layout::kSums);
    for (int i = static_cast<int>(threadIdx.x); i < kWords; i += Layout::kThreads) words[i] = 0;
  }
  __syncthreads();
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::Begin(int n) {
  factors_.Publish(n);
  hopper::AwaitPhase(Barrier(n), n / Layout::kStages % 2);
  hopper::FenceForEngines();
  hopper::MeetThreads(kChunkIsThere, Layout::kThreads);
  if (threadIdx.x == 0 && n > 0) Load(n + 1);
  factors_.Fetch(work_.TokenOf(n + 1));
}

// ---- Pairs

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::WeighPairs(int n, uint32_t (&weights)[4][4],
                                                     float (&o)[32], float (&sums)[2]) {
  float a[32];
  [[maybe_unused]] float dots[4];
  const hopper::Tiles rows = RowFeatures(n);
  hopper::StartProducts();
  ProductOfRows<kProjectedFeatures>(a, rows, ColumnFeatures(n));
  hopper::CommitProducts();
#pragma unroll
  for (int s = 0; s < kProjectedFeatures / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(
        o, RowsTiles(rows, s),
        hopper::ColumnsTile(tiles_ + Layout::kState + s / 4 * kTileBytes, s % 4), s > 0);
    if constexpr (kSums) {
      hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(
          dots, RowsTiles(rows, s),
          hopper::RowsTile(tiles_ + Layout::kSums + s / 4 * Layout::kSumTileBytes, s % 4), s > 0);
    }
  }
  hopper::CommitProducts();
  hopper::AwaitProducts<1>();
  hopper::Settle(a);
  sums[0] = sums[1] = 0;
  const float* const inverse = factors_.Of(n, kInverse);
  ForPairs<kBackwards>(factors_, n, at_, [&](int i, int column, float factor) {
    a[i] *= kBackwards ? factor * inverse[column] : factor;
    sums[i % 4 / 2] += a[i];
  });
  hopper::ToOperand(weights, a);
  const float* const of_rows = factors_.Of(n, kRow);
  const float row[2] = {of_rows[at_.row], of_rows[at_.row + 8]};
  hopper::AwaitProducts<0>();
  hopper::Settle(o);
#pragma unroll
  for (int i = 0; i < 32; ++i) o[i] *= row[i % 4 / 2];
  if constexpr (kSums) {
    hopper::Settle(dots);
    sums[0] += row[0] * (dots[0] + dots[1]);
    sums[1] += row[1] * (dots[2] + dots[3]);
    for (float& sum : sums) sum = GroupReduce<4>(sum, AddOf());
  }
}

template <bool kBackwards>
__device__ float ResultsBlock<kBackwards>::Guarded(float sum) const {
  if (!args_.lift_small) return sum + args_.guard_epsilon;
  return fabsf(sum) <= args_.guard_epsilon ? sum + 2.0F * args_.guard_epsilon : sum;
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::Finish(int n, float (&o)[32], const float (&sums)[2]) {
  if constexpr (kSums) {
    const int token = work_.TokenOf(n);
    float scale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = token + at_.row + 8 * i;
      const float denominator = Guarded(sums[i]);
      if (slice_ == 0 && at_.column == 0 && t < args_.pass.shape.tokens &&
          args_.denominators != nullptr) {
        args_.denominators[work_.row + t] = denominator;
      }
      scale[i] = denominator == 0 ? 0.0F : 1.0F / denominator;
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) o[i] *= scale[i % 4 / 2];
  }
  WriteTile(shared_ + Layout::kOut, o);
  hopper::FenceForEngines();
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::SendResults(int n) const {
  if (threadIdx.x > 0 || n < 0) return;
  hopper::StoreBox(params_.maps.results, shared_ + Layout::kOut, 64 * slice_, work_.head,
                   work_.TokenOf(n), work_.batch);
  hopper::CommitStores();
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::RunPairs() {
  for (int n = 0; n < work_.chunks; ++n) {
    Begin(n);
    SendResults(n - 1);
    uint32_t weights[4][4];
    float o[32];
    float sums[2];
    WeighPairs(n, weights, o, sums);
    if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
    hopper::MeetThreads(kStateWasRead, Layout::kThreads);
    hopper::StartProducts();
    AddProduct(o, weights, Y(n));
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(o);
    Finish(n, o, sums);
  }
  hopper::MeetThreads(kAllIsWritten, 128);
  SendResults(work_.chunks - 1);
  if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
}

// ---- State

// A thread has 16 bytes of each of four tokens.
template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::FetchTokens(int n, float (&counts)[4]) const {
  if (n >= work_.chunks) return;
  const float* const of_tokens = args_.pass.factors[kToken] + work_.row;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = work_.TokenOf(n) + static_cast<int>(threadIdx.x) % 128 / 8 + 16 * i;
    counts[i] = token < args_.pass.shape.tokens ? of_tokens[token] : 0.0F;
  }
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::WeighTokens(int n, const float (&counts)[4]) {
  if (n >= work_.chunks) return;
  hopper::AwaitPhase(Barrier(n), n / Layout::kStages % 2);
  const uint8_t* const y = Stage(n) + 2 * Layout::kMatrixBytes;
  const int thread = static_cast<int>(threadIdx.x) % 128;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = thread / 8 + 16 * i;
    const uint32_t offset = hopper::SwizzledOffset(row * hopper::kTileRowBytes + thread % 8 * 16);
    const uint4 of = *reinterpret_cast<const uint4*>(y + offset);
    uint32_t pairs[4] = {of.x, of.y, of.z, of.w};
#pragma unroll
    for (uint32_t& pair : pairs) {
      pair = hopper::PackPair(counts[i] * hopper::LowOf(pair), counts[i] * hopper::HighOf(pair));
    }
    *reinterpret_cast<uint4*>(shared_ + Layout::kWeighted + offset) =
        make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    if (kSums && thread % 8 == 0) StoreParts(shared_ + Layout::kTokens, row, counts[i]);
  }
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::LoadState(float (&r)[kFeatureTiles][32],
                                                    float (&z)[kFeatureTiles][4]) const {
  const int width = args_.pass.shape.width;
  const float* const state = args_.states == nullptr ? nullptr : args_.states + work_.state;
#pragma unroll
  for (int s = 0; s < kFeatureTiles; ++s) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int feature = 64 * s + at_.row + i % 4 / 2 * 8;
      const int value = 64 * slice_ + i / 4 * 8 + at_.column + i % 2;
      r[s][i] = state == nullptr ? 0.0F : state[feature * width + value];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int feature = 64 * s + at_.row + i / 2 * 8;
      const bool here = kSums && state != nullptr && at_.column == 0 && i % 2 == 0;
      z[s][i] = here ? state[kProjectedFeatures * width + feature] : 0.0F;
    }
  }
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::PublishState(const float (&r)[kFeatureTiles][32],
                                                       const float (&z)[kFeatureTiles][4]) const {
#pragma unroll
  for (int s = 0; s < kFeatureTiles; ++s) {
    WriteTile(shared_ + Layout::kState + s * kTileBytes, r[s]);
    if (!kSums || at_.column > 0) continue;
    uint8_t* const tile = shared_ + Layout::kSums + s * Layout::kSumTileBytes;
    StoreParts(tile, at_.row, z[s][0] + z[s][1]);
    StoreParts(tile, at_.row + 8, z[s][2] + z[s][3]);
  }
}

// What the state counts after the next chunk. Not while products run: the compiler would wait for
// them before it touches registers of others.
template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::Scale(float (&r)[kFeatureTiles][32],
                                                float (&z)[kFeatureTiles][4], float fading) {
#pragma unroll
  for (int s = 0; s < kFeatureTiles; ++s) {
#pragma unroll
    for (float& value : r[s]) value *= fading;
    hopper::Settle(r[s]);
    if constexpr (kSums) {
#pragma unroll
      for (float& value : z[s]) value *= fading;
      hopper::Settle(z[s]);
    }
  }
}

template <bool kBackwards>
__device__ void ResultsBlock<kBackwards>::RunState() {
  float r[kFeatureTiles][32];
  float z[kFeatureTiles][4];
  LoadState(r, z);
  PublishState(r, z);
  float counts[4];
  FetchTokens(0, counts);
  WeighTokens(0, counts);
  float fading = work_.FadingOf(0);
  for (int n = 0; n < work_.chunks; ++n) {
    Scale(r, z, fading);
    if (n + 1 < work_.chunks) fading = work_.FadingOf(n + 1);
    Begin(n);
    FetchTokens(n + 1, counts);
    hopper::StartProducts();
#pragma unroll
    for (int s = 0; s < kFeatureTiles; ++s) {
      const hopper::Tiles f = ColumnFeatures(n) + s * kTileBytes;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        hopper::Multiply<Rows::kAreK, Rows::kAreK>(
            r[s], hopper::ColumnsTile(f, k), hopper::ColumnsTile(tiles_ + Layout::kWeighted, k), 1);
        if constexpr (kSums) {
          hopper::Multiply<Rows::kAreK, Rows::kAreMN>(
              z[s], hopper::ColumnsTile(f, k), hopper::RowsTile(tiles_ + Layout::kTokens, k), 1);
        }
      }
    }
    hopper::CommitProducts();
    hopper::MeetThreads(kStateWasRead, Layout::kThreads);
    hopper::AwaitProducts<0>();
#pragma unroll
    for (int s = 0; s < kFeatureTiles; ++s) {
      hopper::Settle(r[s]);
      if constexpr (kSums) hopper::Settle(z[s]);
    }
    PublishState(r, z);
    WeighTokens(n + 1, counts);
  }
}

template <bool kBackwards>
__global__ void __launch_bounds__(Layout::kThreads, 1)
    Results(const __grid_constant__ ResultsParams params) {
  extern __shared__ uint8_t raw[];
  ResultsBlock<kBackwards> block(params, AlignedShared(raw));
  block.Start();
  if (threadIdx.x < 128) {
    block.RunPairs();
  } else {
    block.RunState();
  }
}

}  // namespace

LinearSm90Shape ProjectedShapeOf(int batch, int tokens, int heads, int width) {
  return InSegments({.batch = batch,
                     .tokens = tokens,
                     .heads = heads,
                     .width = width,
                     .features = kProjectedFeatures},
                    kMultiprocessors / (batch * heads * (width / 64)));
}

cudaError_t ProjectedAttend(const ProjectedResults& args, cudaStream_t stream) {
  const LinearSm90Shape& shape = args.pass.shape;
  LinearMaps make(shape);
  const ResultsParams params{{make.OfFeatures(args.rows), make.OfFeatures(args.columns),
                              make.Of(args.y), make.Of(args.results)},
                             args};
  if (make.error() != cudaSuccess) return make.error();
  return LaunchSegments<Layout>(args.pass.backwards ? Results<true> : Results<false>, shape,
                                shape.segments * (shape.width / 64), params, stream);
}

}  // namespace weft::kernels::sm90

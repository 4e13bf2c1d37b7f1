// What blocks of tokens add to a state: F(phi)^T V, a product over the tokens of a block whose left
// operand is formed in registers; and the running sums of what they add.
#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/polysketch/cuda/polysketch_passes_sm90.h"
#include "kernels/attention/polysketch/cuda/polysketch_sm90.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kTile = 64;  // tokens

// ---- Features, turned

constexpr int kTurnThreads = 256;

__global__ void __launch_bounds__(kTurnThreads)
    TurnFeatures(PolysketchCudaShape s, const __nv_bfloat16* phi, uint8_t* turned) {
  __shared__ alignas(4) __nv_bfloat16 rows[kTile][66];
  const int tile = blockIdx.x;
  const int batch = blockIdx.y / s.heads;
  const int head = blockIdx.y % s.heads;
  const int pieces = s.sketch / 8;  // of 16 bytes
  for (int i = threadIdx.x; i < kTile * pieces; i += kTurnThreads) {
    const int token = tile * kTile + i / pieces;
    const int64_t row = (int64_t{batch} * s.tokens + token) * s.heads + head;
    uint4 piece = make_uint4(0, 0, 0, 0);
    if (token < s.tokens) {
      piece = reinterpret_cast<const uint4*>(phi + row * s.sketch)[i % pieces];
    }
    auto* const to = reinterpret_cast<uint32_t*>(&rows[i / pieces][i % pieces * 8]);
    to[0] = piece.x, to[1] = piece.y, to[2] = piece.z, to[3] = piece.w;
  }
  __syncthreads();
  uint8_t* const out =
      turned + (int64_t{blockIdx.y} * (PaddedTokens(s) / kTile) + tile) * s.sketch * 128;
  for (int i = threadIdx.x; i < s.sketch * 16; i += kTurnThreads) {
    const int feature = i / 16;
    const int chunk = i % 16;
    const int first = chunk / 4 * 16 + chunk % 4 * 2;
    alignas(8) __nv_bfloat16 four[4] = {rows[first][feature], rows[first + 1][feature],
                                        rows[first + 8][feature], rows[first + 9][feature]};
    *reinterpret_cast<uint2*>(out + TurnedOffset(feature, chunk)) =
        *reinterpret_cast<const uint2*>(four);
  }
}

// ---- Folding

struct FoldParams {
  CUtensorMap values;
  const uint8_t* turned;
  const float* weights;
  PolysketchStates states;
  PolysketchCudaShape shape;
  int first_block;
};

constexpr int kFoldThreads = 384;  // two warpgroups that multiply and one that loads

template <int kWidth>
struct FoldLayout {
  // Pairs of a warpgroup: as many as its registers hold.
  static constexpr int kPairs = kWidth == 128 ? 2 : 5;
  static constexpr int kStages = kWidth == 128 ? 5 : 6;
  static constexpr int kFeatures = SquareBytes(kWidth);
  static constexpr int kWeights = kFeatures + 64 * 128;
  static constexpr int kStageBytes = kWeights + 1024;
  static constexpr int kStored = kStages * kStageBytes;
  static constexpr int kBarriers = kStored + 2 * SquareBytes(kWidth);
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSharedSlack;
};

template <int kWidth>
__device__ void LoadTokens(const FoldParams& params, uint8_t* shared, uint64_t* full,
                           uint64_t* empty) {
  using Layout = FoldLayout<kWidth>;
  const PolysketchCudaShape& s = params.shape;
  const int first = (static_cast<int>(blockIdx.y) + params.first_block) * s.block;
  const uint32_t turned_bytes = s.sketch * 128;
  const uint32_t bytes =
      SquareBytes(kWidth) + turned_bytes + (params.weights == nullptr ? 0 : kTile * 4);
  const int64_t padded = PaddedTokens(s);
  hopper::RingPlace<Layout::kStages> place;
  for (int token = first; token < min(first + s.block, s.tokens); token += kTile) {
    uint8_t* const stage = shared + place.stage * Layout::kStageBytes;
    uint64_t* const barrier = full + place.stage;
    hopper::AwaitPhase(empty + place.stage, place.parity ^ 1);
    hopper::ArriveExpecting(barrier, bytes);
    LoadTiles<kWidth>(params.values, stage, barrier, blockIdx.z % s.heads, token,
                      blockIdx.z / s.heads);
    const uint8_t* const turned =
        params.turned + (blockIdx.z * (padded / kTile) + token / kTile) * turned_bytes;
    hopper::LoadBytes(stage + Layout::kFeatures, turned, turned_bytes, barrier);
    if (params.weights != nullptr) {
      hopper::LoadBytes(stage + Layout::kWeights, params.weights + blockIdx.z * padded + token,
                        kTile * 4, barrier);
    }
    place.Advance();
  }
}

// The products of 16 tokens as an operand: rows (a, b), a = 2 warp and 2 warp + 1. Adds them to
// their masses, with the weights of the tokens.
__device__ inline void FoldOperand(uint32_t (&a)[4], float (&mass)[2], const uint8_t* features,
                                   int b_row, int a_row, int chunk, const float (&weights)[4]) {
  const uint2 x = *reinterpret_cast<const uint2*>(features + TurnedOffset(b_row, chunk));
  const uint2 y = *reinterpret_cast<const uint2*>(features + TurnedOffset(a_row, chunk));
  const uint2 z = *reinterpret_cast<const uint2*>(features + TurnedOffset(a_row + 1, chunk));
  a[0] = TimesPair(x.x, y.x);
  a[1] = TimesPair(x.x, z.x);
  a[2] = TimesPair(x.y, y.y);
  a[3] = TimesPair(x.y, z.y);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    mass[i % 2] += hopper::LowOf(a[i]) * weights[i / 2 * 2];
    mass[i % 2] += hopper::HighOf(a[i]) * weights[i / 2 * 2 + 1];
  }
}

template <int kWidth>
struct FoldSums {
  float squares[FoldLayout<kWidth>::kPairs][kWidth / 2];
  float masses[FoldLayout<kWidth>::kPairs][2];
};

template <int kWidth>
__device__ void FoldTokens(const FoldParams& params, uint8_t* shared, uint64_t* full,
                           uint64_t* empty, const GroupPair (&pairs)[FoldLayout<kWidth>::kPairs],
                           FoldSums<kWidth>& sums) {
  using Layout = FoldLayout<kWidth>;
  const PolysketchCudaShape& s = params.shape;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32 % 4;
  const int first = (static_cast<int>(blockIdx.y) + params.first_block) * s.block;
  const int tiles = (min(s.block, s.tokens - first) + kTile - 1) / kTile;
  hopper::RingPlace<Layout::kStages> place;
  for (int tile = 0; tile < tiles; ++tile) {
    const uint8_t* const stage = shared + place.stage * Layout::kStageBytes;
    hopper::AwaitPhase(full + place.stage, place.parity);
    uint32_t a[2][Layout::kPairs][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float weights[4] = {1, 1, 1, 1};
      if (params.weights != nullptr) {
        const auto* const w =
            reinterpret_cast<const float*>(stage + Layout::kWeights) + 16 * k + lane % 4 * 2;
        const float2 low = *reinterpret_cast<const float2*>(w);
        const float2 high = *reinterpret_cast<const float2*>(w + 8);
        weights[0] = low.x, weights[1] = low.y, weights[2] = high.x, weights[3] = high.y;
      }
#pragma unroll
      for (int p = 0; p < Layout::kPairs; ++p) {
        FoldOperand(a[k % 2][p], sums.masses[p], stage + Layout::kFeatures,
                    8 * pairs[p].b + lane / 4, 8 * pairs[p].a + 2 * warp, 4 * k + lane % 4,
                    weights);
      }
      hopper::StartProducts();
#pragma unroll
      for (int p = 0; p < Layout::kPairs; ++p) {
        hopper::Multiply<Rows::kAreK>(sums.squares[p], a[k % 2][p], hopper::ColumnsTile(stage, k));
      }
      hopper::CommitProducts();
      if (k < 3) hopper::AwaitProducts<1>();
    }
    hopper::AwaitProducts<0>();
#pragma unroll
    for (int p = 0; p < Layout::kPairs; ++p) hopper::Settle(sums.squares[p]);
    __syncwarp();
    if (lane == 0) hopper::Arrive(empty + place.stage);
    place.Advance();
  }
}

template <int kWidth>
__device__ void StoreSums(const FoldParams& params, uint8_t* stored, int first_pair,
                          FoldSums<kWidth>& sums) {
  using Layout = FoldLayout<kWidth>;
  const int all = PairsOf(params.shape.sketch);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32 % 4;
  const int group = threadIdx.x / 128;
  const int64_t slot = int64_t{blockIdx.z} * gridDim.y + blockIdx.y;
#pragma unroll
  for (int p = 0; p < Layout::kPairs; ++p) {
    const int64_t pair = slot * all + first_pair + p;
    if (first_pair + p >= all) break;  // the same for the whole warpgroup
    if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
    hopper::MeetThreads(1 + group, 128);
    uint32_t a[kWidth / 16][4];
    hopper::ToOperand(a, sums.squares[p]);
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) hopper::StoreTransposed(stored, 16 * i, a[i]);
    hopper::FenceForEngines();
    hopper::MeetThreads(1 + group, 128);
    if (threadIdx.x % 128 == 0) {
      hopper::StoreBytes(params.states.squares + pair * SquareBytes(kWidth), stored,
                         SquareBytes(kWidth));
      hopper::CommitStores();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float mass = QuadSum(sums.masses[p][i]);
      if (lane % 4 == 0) {
        params.states.masses[pair * 64 + (2 * warp + i) * 8 + lane / 4] = mass;
      }
    }
  }
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
__global__ void __launch_bounds__(kFoldThreads, 1) Fold(const __grid_constant__ FoldParams params) {
  using Layout = FoldLayout<kWidth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  auto* const full = reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  uint64_t* const empty = full + Layout::kStages;
  InitRing<Layout::kStages>(full, empty);
  const int group = threadIdx.x / 128;
  if (group == 2) {
    hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 128 == 0) LoadTokens<kWidth>(params, shared, full, empty);
  } else {
    hopper::GrowRegisters<240>();
    const int first_pair = (static_cast<int>(blockIdx.x) * 2 + group) * Layout::kPairs;
    GroupPair pairs[Layout::kPairs];
#pragma unroll
    for (int p = 0; p < Layout::kPairs; ++p) {
      pairs[p] = PairAt(first_pair + p, params.shape.sketch / 8);
    }
    FoldSums<kWidth> sums = {};
    FoldTokens<kWidth>(params, shared, full, empty, pairs, sums);
    StoreSums<kWidth>(params, shared + Layout::kStored + group * SquareBytes(kWidth), first_pair,
                      sums);
  }
}

// ---- Running sums

constexpr int kSumThreads = 256;
constexpr int kSlotsAhead = 8;  // that are read before they are needed

// 16 bytes of all slots; `pair` decides the factor.
template <bool kIsBf16>
__device__ void SumSlots(uint8_t* first, int64_t step, int slots, bool backwards, float factor) {
  constexpr int kCount = kIsBf16 ? 8 : 4;
  float sums[kCount] = {};
  for (int begin = 0; begin < slots; begin += kSlotsAhead) {
    uint4 read[kSlotsAhead];
#pragma unroll
    for (int i = 0; i < kSlotsAhead; ++i) {
      const int slot = backwards ? slots - 1 - begin - i : begin + i;
      if (begin + i < slots) read[i] = *reinterpret_cast<const uint4*>(first + slot * step);
    }
#pragma unroll
    for (int i = 0; i < kSlotsAhead; ++i) {
      if (begin + i >= slots) break;
      const int slot = backwards ? slots - 1 - begin - i : begin + i;
      uint32_t words[4] = {read[i].x, read[i].y, read[i].z, read[i].w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        if constexpr (kIsBf16) {
          sums[2 * w] += hopper::LowOf(words[w]);
          sums[2 * w + 1] += hopper::HighOf(words[w]);
          words[w] = hopper::PackPair(sums[2 * w] * factor, sums[2 * w + 1] * factor);
        } else {
          sums[w] += __uint_as_float(words[w]);
          words[w] = __float_as_uint(sums[w] * factor);
        }
      }
      *reinterpret_cast<uint4*>(first + slot * step) =
          make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
}

__global__ void __launch_bounds__(kSumThreads)
    Sum(PolysketchCudaShape s, bool backwards, float factor, PolysketchStates states) {
  const int pairs = PairsOf(s.sketch);
  const GroupPair pair = PairAt(blockIdx.x, s.sketch / 8);
  const float scale = pair.a == pair.b ? factor : 2 * factor;
  const int slots = SlotsOf(s);
  const int64_t first = int64_t{blockIdx.y} * slots * pairs + blockIdx.x;
  const int square = SquareBytes(s.width);
  for (int at = threadIdx.x * 16; at < square; at += kSumThreads * 16) {
    SumSlots<true>(states.squares + first * square + at, int64_t{pairs} * square, slots, backwards,
                   scale);
  }
  if (threadIdx.x < 16) {
    auto* const masses = reinterpret_cast<uint8_t*>(states.masses);
    SumSlots<false>(masses + first * 256 + threadIdx.x * 16, int64_t{pairs} * 256, slots, backwards,
                    scale);
  }
}

// ---- Slopes of queries

constexpr int kSlopeThreads = 256;

// Rows of [B, padded tokens, H], 16 bytes a lane.
template <int kWidth>
__global__ void __launch_bounds__(kSlopeThreads) Slopes(PolysketchCudaShape s, SlopesArgs args) {
  constexpr int kLanes = kWidth / 8;
  const auto heads = static_cast<uint32_t>(s.heads);
  const auto padded = static_cast<uint32_t>(PaddedTokens(s));
  const uint32_t row = blockIdx.x * (kSlopeThreads / kLanes) + threadIdx.x / kLanes;
  const uint32_t lane = threadIdx.x % kLanes;
  const uint32_t head = row % heads;
  const int token = static_cast<int>(row / heads % padded);
  const int batch = static_cast<int>(row / heads / padded);
  const int64_t z = int64_t{batch} * s.heads + head;  // of [B H]
  const bool exists = token < s.tokens;
  float dot = 0, inverse = 0, far = 0;
  if (exists) {
    const int64_t at = ((int64_t{batch} * s.tokens + token) * s.heads + head) * kLanes + lane;
    const uint4 slopes = reinterpret_cast<const uint4*>(args.d_o)[at];
    const uint4 values = reinterpret_cast<const uint4*>(args.o)[at];
    const float total = args.total[z * s.tokens + token];
    far = args.far[z * s.tokens + token];
    inverse = total > 0 ? 1.0F / total : 0.0F;
    const auto part = [&](uint32_t slope, uint32_t value) {
      dot += hopper::LowOf(slope) * hopper::LowOf(value) +
             hopper::HighOf(slope) * hopper::HighOf(value);
      return hopper::PackPair(hopper::LowOf(slope) * inverse, hopper::HighOf(slope) * inverse);
    };
    reinterpret_cast<uint4*>(args.d_num)[at] =
        make_uint4(part(slopes.x, values.x), part(slopes.y, values.y), part(slopes.z, values.z),
                   part(slopes.w, values.w));
  }
  const float shift = -inverse * GroupReduce<kLanes>(dot, AddOf());
  if (lane != 0) return;
  args.shift[z * padded + token] = shift;
  args.far_shift[z * padded + token] = far > 0 ? shift : 0.0F;
}

template <int kWidth>
cudaError_t LaunchFoldOf(const FoldParams& params, cudaStream_t stream) {
  using Layout = FoldLayout<kWidth>;
  static_assert(Layout::kSharedBytes <= 227 * 1024);
  const PolysketchCudaShape& s = params.shape;
  const int of_block = 2 * Layout::kPairs;
  const dim3 grid((PairsOf(s.sketch) + of_block - 1) / of_block, SlotsOf(s), s.batch * s.heads);
  return LaunchShared(Fold<kWidth>, grid, kFoldThreads, Layout::kSharedBytes, stream, params);
}

}  // namespace

cudaError_t LaunchTurnFeatures(const PolysketchCudaShape& s, const __nv_bfloat16* phi,
                               uint8_t* turned, cudaStream_t stream) {
  const dim3 grid(PaddedTokens(s) / kTile, s.batch * s.heads);
  TurnFeatures<<<grid, kTurnThreads, 0, stream>>>(s, phi, turned);
  return cudaGetLastError();
}

cudaError_t LaunchFold(const PolysketchCudaShape& s, const CUtensorMap& values,
                       const uint8_t* turned, const float* weights, int first_block,
                       const PolysketchStates& states, cudaStream_t stream) {
  if (SlotsOf(s) == 0) return cudaSuccess;
  const FoldParams params{values, turned, weights, states, s, first_block};
  return s.width == 128 ? LaunchFoldOf<128>(params, stream) : LaunchFoldOf<64>(params, stream);
}

cudaError_t LaunchSum(const PolysketchCudaShape& s, bool backwards, float factor,
                      const PolysketchStates& states, cudaStream_t stream) {
  if (SlotsOf(s) == 0) return cudaSuccess;
  const dim3 grid(PairsOf(s.sketch), s.batch * s.heads);
  Sum<<<grid, kSumThreads, 0, stream>>>(s, backwards, factor, states);
  return cudaGetLastError();
}

cudaError_t LaunchSlopes(const PolysketchCudaShape& s, const SlopesArgs& args,
                         cudaStream_t stream) {
  const int64_t threads = int64_t{s.batch} * PaddedTokens(s) * s.heads * (s.width / 8);
  const auto blocks = static_cast<unsigned>(threads / kSlopeThreads);  // 128 | padded tokens
  const auto kernel = s.width == 128 ? Slopes<128> : Slopes<64>;
  kernel<<<blocks, kSlopeThreads, 0, stream>>>(s, args);
  return cudaGetLastError();
}

}  // namespace weft::kernels::sm90

// What the kernels of polynomial attention on Hopper share: products of features as operands, a
// ring of buffers, and the reading of a state.
#pragma once

#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/polysketch/cuda/polysketch_passes_sm90.h"

namespace weft::kernels::sm90 {

// ---- Pairs of groups of features

struct GroupPair {
  int a = 0;
  int b = 0;
};
// Pair number `index`, A by A; the last one for numbers beyond.
__device__ inline GroupPair PairAt(int index, int groups) {
  GroupPair pair;
  while (pair.a + 1 < groups && index >= groups - pair.a) index -= groups - pair.a++;
  pair.b = min(pair.a + index, groups - 1);
  return pair;
}

// Where 8 bytes of a turned row lie: swizzled, so that rows in a column do not share banks.
__host__ __device__ inline int TurnedOffset(int feature, int chunk) {
  return feature * 128 + ((chunk ^ ((feature & 3) << 2)) << 3);
}

// ---- Numbers

__device__ inline uint32_t TimesPair(uint32_t x, uint32_t y) {
  const __nv_bfloat162 product = __hmul2(reinterpret_cast<const __nv_bfloat162&>(x),
                                         reinterpret_cast<const __nv_bfloat162&>(y));
  return reinterpret_cast<const uint32_t&>(product);
}
__device__ inline uint32_t LowTwice(uint32_t x) { return __byte_perm(x, x, 0x1010); }
__device__ inline uint32_t HighTwice(uint32_t x) { return __byte_perm(x, x, 0x3232); }
// Over the four lanes that share rows of accumulators.
__device__ inline float QuadSum(float x) {
  x += __shfl_xor_sync(0xFFFFFFFF, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFF, x, 2);
}

// ---- The ring

// All threads of the block. Eight warps drain a stage.
template <int kStages>
__device__ inline void InitRing(uint64_t* full, uint64_t* empty) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(full + i, 1);
      hopper::InitBarrier(empty + i, 8);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
}

// ---- Blocks of 128 rows, queries or keys

constexpr int kRowThreads = 384;  // two warpgroups with 64 rows each, and one that loads

// Shared memory of such a block, for r up to 64.
template <int kWidth>
struct RowLayout {
  static constexpr int kUnit = SquareBytes(kWidth);  // a square, or 64 rows of a tensor
  static constexpr int kStages = kWidth == 128 ? 4 : 8;
  static constexpr int kOwn = kStages * kUnit;     // 64 rows of each warpgroup
  static constexpr int kOther = kOwn + 2 * kUnit;  // the same of another tensor
  static constexpr int kFeatures = kOther + 2 * kUnit;
  static constexpr int kMasses = kFeatures + kRowsOfBlock * (64 * 2 + 16);
  static constexpr int kSlopes = kMasses + 36 * 64 * 4;
  static constexpr int kBarriers = kSlopes + kRowsOfBlock * (64 + 8) * 4;
  static constexpr int kSharedBytes = kBarriers + (2 * kStages + 1) * 8 + kSharedSlack;
};
static_assert(RowLayout<128>::kSharedBytes <= 227 * 1024);

__host__ __device__ inline int FeaturePitch(int sketch) { return sketch * 2 + 16; }  // bytes
__host__ __device__ inline int SlopePitch(int sketch) { return sketch + 8; }         // floats

// Where a block works.
struct RowBlock {
  int first;  // row
  int head;
  int batch;
  int64_t z;  // head of all sequences
  int block;  // of tokens that meet one by one
  __device__ explicit RowBlock(const PolysketchCudaShape& s)
      : first(static_cast<int>(blockIdx.x) * kRowsOfBlock),
        head(static_cast<int>(blockIdx.y) % s.heads),
        batch(static_cast<int>(blockIdx.y) / s.heads),
        z(blockIdx.y),
        block(first / s.block) {}
};

template <int kWidth>
struct RowShared {
  using Layout = RowLayout<kWidth>;
  uint8_t* memory;
  __device__ uint64_t* full() const {
    return reinterpret_cast<uint64_t*>(memory + Layout::kBarriers);
  }
  __device__ uint64_t* empty() const { return full() + Layout::kStages; }
  __device__ uint64_t* own() const { return full() + 2 * Layout::kStages; }
  __device__ float* masses() const { return reinterpret_cast<float*>(memory + Layout::kMasses); }
  __device__ float* slopes() const { return reinterpret_cast<float*>(memory + Layout::kSlopes); }
};

// All threads: features of the rows, masses of a slot (none: slot < 0), slopes of zero; barriers.
template <int kWidth>
__device__ inline void PrepareRows(const RowShared<kWidth>& shared, const PolysketchCudaShape& s,
                                   const RowBlock& at, const __nv_bfloat16* phi,
                                   const PolysketchStates& states, int slot) {
  using Layout = RowLayout<kWidth>;
  const int pieces = s.sketch / 8;  // of 16 bytes
  for (int i = threadIdx.x; i < kRowsOfBlock * pieces; i += kRowThreads) {
    const int row = i / pieces;
    const int token = at.first + row;
    const int64_t from = (int64_t{at.batch} * s.tokens + token) * s.heads + at.head;
    uint4 piece = make_uint4(0, 0, 0, 0);
    if (token < s.tokens) {
      piece = reinterpret_cast<const uint4*>(phi + from * s.sketch)[i % pieces];
    }
    *reinterpret_cast<uint4*>(shared.memory + Layout::kFeatures + row * FeaturePitch(s.sketch) +
                              i % pieces * 16) = piece;
  }
  if (slot >= 0) {
    const int count = PairsOf(s.sketch) * 16;
    const auto* const from =
        reinterpret_cast<const float4*>(states.masses) + (at.z * SlotsOf(s) + slot) * count;
    for (int i = threadIdx.x; i < count; i += kRowThreads) {
      reinterpret_cast<float4*>(shared.masses())[i] = from[i];
    }
  }
  for (int i = threadIdx.x; i < kRowsOfBlock * SlopePitch(s.sketch); i += kRowThreads) {
    shared.slopes()[i] = 0;
  }
  if (threadIdx.x == 0) hopper::InitBarrier(shared.own(), 1);
  InitRing<Layout::kStages>(shared.full(), shared.empty());
}

// The loading thread's side of the ring.
template <int kWidth>
struct Loader {
  using Layout = RowLayout<kWidth>;
  const RowShared<kWidth>& shared;
  const RowBlock& at;
  hopper::RingPlace<Layout::kStages> place = {};

  template <typename Load>
  __device__ void Unit(const Load& load) {
    hopper::AwaitPhase(shared.empty() + place.stage, place.parity ^ 1);
    uint64_t* const barrier = shared.full() + place.stage;
    hopper::ArriveExpecting(barrier, Layout::kUnit);
    load(shared.memory + place.stage * Layout::kUnit, barrier);
    place.Advance();
  }
  // Both warpgroups' rows of two tensors, at once and outside of the ring; `second` may be null.
  __device__ void Own(const CUtensorMap& first, const CUtensorMap* second) {
    hopper::ArriveExpecting(shared.own(), (second == nullptr ? 2 : 4) * Layout::kUnit);
    for (int group = 0; group < 2; ++group) {
      const int token = at.first + 64 * group;
      LoadTiles<kWidth>(first, shared.memory + Layout::kOwn + group * Layout::kUnit, shared.own(),
                        at.head, token, at.batch);
      if (second == nullptr) continue;
      LoadTiles<kWidth>(*second, shared.memory + Layout::kOther + group * Layout::kUnit,
                        shared.own(), at.head, token, at.batch);
    }
  }
  __device__ void States(const PolysketchCudaShape& s, const PolysketchStates& states, int slot) {
    const int pairs = PairsOf(s.sketch);
    const uint8_t* from =
        states.squares + (at.z * SlotsOf(s) + slot) * pairs * int64_t{Layout::kUnit};
    for (int i = 0; i < pairs; ++i, from += Layout::kUnit) {
      Unit([&](uint8_t* to, uint64_t* barrier) {
        hopper::LoadBytes(to, from, Layout::kUnit, barrier);
      });
    }
  }
  // 64 rows of each of two tensors, tile after tile.
  __device__ void Tiles(const CUtensorMap& first, const CUtensorMap& second, int begin, int end) {
    for (int token = begin; token < end; token += 64) {
      Unit([&](uint8_t* to, uint64_t* barrier) {
        LoadTiles<kWidth>(first, to, barrier, at.head, token, at.batch);
      });
      Unit([&](uint8_t* to, uint64_t* barrier) {
        LoadTiles<kWidth>(second, to, barrier, at.head, token, at.batch);
      });
    }
  }
};

// A multiplying warp's side of it.
template <int kWidth>
struct Drain {
  using Layout = RowLayout<kWidth>;
  const RowShared<kWidth>& shared;
  hopper::RingPlace<Layout::kStages> place = {};

  __device__ const uint8_t* Await() const {
    hopper::AwaitPhase(shared.full() + place.stage, place.parity);
    return shared.memory + place.stage * Layout::kUnit;
  }
  // The place of the unit that was awaited; then the next one's turn.
  __device__ int Advance() {
    const int stage = place.stage;
    place.Advance();
    return stage;
  }
  __device__ void Free(int stage) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::Arrive(shared.empty() + stage);
  }
  __device__ void Skip() {
    Await();
    Free(Advance());
  }
};

// ---- Features of this thread's two rows

struct FeatureRows {
  const uint8_t* row[2];
  __device__ FeatureRows(const uint8_t* features, int sketch) {
    const Place at;
    const int first = static_cast<int>(threadIdx.x) / 128 * 64 + at.row;
    row[0] = features + first * FeaturePitch(sketch);
    row[1] = row[0] + 8 * FeaturePitch(sketch);
  }
  // Entries 2 (lane % 4) and the next of a group, of both rows.
  __device__ void Pair(int group, uint32_t (&x)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      x[i] = *reinterpret_cast<const uint32_t*>(row[i] + group * 16 + threadIdx.x % 4 * 4);
    }
  }
  // All entries of a group.
  __device__ void Whole(int group, uint32_t (&x)[2][4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 all = *reinterpret_cast<const uint4*>(row[i] + group * 16);
      x[i][0] = all.x, x[i][1] = all.y, x[i][2] = all.z, x[i][3] = all.w;
    }
  }
};

// Products of entries a = 2 k and 2 k + 1 with this thread's b: 16 columns of an operand.
__device__ inline void ProductOperand(uint32_t (&to)[4], const uint32_t (&b)[2],
                                      const uint32_t (&a)[2][4], int k) {
  to[0] = TimesPair(b[0], LowTwice(a[0][k]));
  to[1] = TimesPair(b[1], LowTwice(a[1][k]));
  to[2] = TimesPair(b[0], HighTwice(a[0][k]));
  to[3] = TimesPair(b[1], HighTwice(a[1][k]));
}

// The gradient of features through a state, collected pair by pair.
class FeatureSlopes {
 public:
  __device__ FeatureSlopes(float* slopes, int sketch) {
    const Place at;
    const int first = static_cast<int>(threadIdx.x) / 128 * 64 + at.row;
    row_[0] = slopes + first * SlopePitch(sketch) + at.column;
    row_[1] = row_[0] + 8 * SlopePitch(sketch);
  }

  // x: the slopes of the products of one pair, 64 columns, without the masses' part, which is
  // shift times the masses.
  __device__ void Add(const GroupPair& pair, const float (&x)[32], const float (&shift)[2],
                      const float* masses, const uint32_t (&b)[2], const uint32_t (&a)[2][4]) {
    float of_b[2][2] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 mass = *reinterpret_cast<const float2*>(masses + 8 * j + threadIdx.x % 4 * 2);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float low = x[4 * j + 2 * i] + shift[i] * mass.x;
        const float high = x[4 * j + 2 * i + 1] + shift[i] * mass.y;
        const uint32_t word = a[i][j / 2];
        const float phi = j % 2 == 0 ? hopper::LowOf(word) : hopper::HighOf(word);
        of_b[i][0] += low * phi;
        of_b[i][1] += high * phi;
        of_a_[j][i] += low * hopper::LowOf(b[i]) + high * hopper::HighOf(b[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) AddTo(i, pair.b, of_b[i][0], of_b[i][1]);
  }

  // After the last pair with this A.
  __device__ void Finish(int group) {
    const int mine = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float low = 0, high = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float sum = QuadSum(of_a_[j][i]);
        if (j / 2 == mine && j % 2 == 0) low = sum;
        if (j / 2 == mine && j % 2 == 1) high = sum;
        of_a_[j][i] = 0;
      }
      AddTo(i, group, low, high);
    }
  }

  // Writes the rows that exist, times `factor`.
  __device__ void Store(const PolysketchCudaShape& s, const RowBlock& at, float factor,
                        __nv_bfloat16* d_phi) const {
    const Place place;
    const int first = at.first + static_cast<int>(threadIdx.x) / 128 * 64 + place.row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = first + 8 * i;
      if (token >= s.tokens) continue;
      const int64_t row = (int64_t{at.batch} * s.tokens + token) * s.heads + at.head;
      for (int group = 0; group < s.sketch / 8; ++group) {
        const float2 sum = *reinterpret_cast<const float2*>(row_[i] + 8 * group);
        *reinterpret_cast<uint32_t*>(d_phi + row * s.sketch + 8 * group + place.column) =
            hopper::PackPair(sum.x * factor, sum.y * factor);
      }
    }
  }

 private:
  // Every thread has entries of its own.
  __device__ void AddTo(int i, int group, float low, float high) {
    auto* const at = reinterpret_cast<float2*>(row_[i] + 8 * group);
    const float2 old = *at;
    *at = make_float2(old.x + low, old.y + high);
  }

  float* row_[2];
  float of_a_[8][2] = {};
};

// ---- Pairs of tokens

// x^(2^squarings) and its derivative.
__device__ inline float Power(float x, int squarings) {
  x *= x;
  if (squarings > 1) x *= x;
  if (squarings > 2) x *= x;
  return x;
}
__device__ inline float PowerWithSlope(float x, int squarings, float& slope) {
  slope = 2 * x;
  x *= x;
  if (squarings > 1) {
    slope *= 2 * x;
    x *= x;
  }
  if (squarings > 2) {
    slope *= 2 * x;
    x *= x;
  }
  return x;
}

// d = A B^T of 64 rows each, both in tiles side by side.
template <int kWidth>
__device__ inline void MultiplyTiles(float (&d)[32], const uint8_t* a, const uint8_t* b) {
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(d, RowsTiles(a, k), RowsTiles(b, k), k > 0);
  }
}

// 64 rows of accumulators into tiles side by side, rounded.
template <int kWidth>
__device__ inline void StoreTiles(uint8_t* tiles, const float (&d)[kWidth / 2]) {
  uint32_t a[kWidth / 16][4];
  hopper::ToOperand(a, d);
#pragma unroll
  for (int i = 0; i < kWidth / 16; ++i) {
    hopper::StorePlain(tiles + i / 4 * kTileBytes, 16 * (i % 4), a[i]);
  }
}
// And from there to memory, by the copy engine. All threads of a warpgroup.
template <int kWidth>
__device__ inline void SendTiles(const CUtensorMap& map, uint8_t* tiles, const RowBlock& at) {
  const int group = threadIdx.x / 128;
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + group, 128);
  if (threadIdx.x % 128 != 0) return;
#pragma unroll
  for (int i = 0; i < kWidth / 64; ++i) {
    hopper::StoreBox(map, tiles + i * kTileBytes, 64 * i, at.head, at.first + 64 * group, at.batch);
  }
  hopper::CommitStores();
}

// Starts a pass over rows, a block for each kRowsOfBlock of them.
template <int kWidth, typename Params>
cudaError_t LaunchRows(void (*kernel)(Params), const Params& params, cudaStream_t stream) {
  const PolysketchCudaShape& s = params.shape;
  return LaunchShared(kernel, dim3(PaddedTokens(s) / kRowsOfBlock, s.batch * s.heads), kRowThreads,
                      RowLayout<kWidth>::kSharedBytes, stream, params);
}

}  // namespace weft::kernels::sm90

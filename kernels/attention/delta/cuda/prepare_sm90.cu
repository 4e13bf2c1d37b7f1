// The pass `prepare` of chunk_record.h: for a chunk of a head, R, P and beta.
//
// R = (I + A)^-1 G, A = G Bd, is solved by blocks: those of 16 tokens on the diagonal by forward
// substitution, a thread for each column; then two blocks become one of twice the size:
//
//   C = G21 - G21 Bd1 R11        R21 = (I + A22)^-1 C = C - R22 Bd2 C
//
// Substitution is in fp32, the products are in three parts of tf32, which is fp32 but for the last
// bits: nearly parallel keys with beta near 2 lose several digits here, and 16 bits leave none.
#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/delta_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kThreads = 128;
constexpr int kBlock = 16;
constexpr int kHalf = 32;
// Floats of a row: 16-byte aligned, spread over the banks.
constexpr int kHalfStride = kHalf + 4;
constexpr int kFullStride = 2 * kHalf + 4;

// Shared memory: the tiles of K and Q; over them, when they have been multiplied, the rest. Five
// blocks share a multiprocessor.
constexpr int kBlocks = 5;
constexpr int kHalfBytes = kHalf * kHalfStride * 4;
constexpr int kBetaOffset = kSquareBytes;  // P is first
constexpr int kHalvesOffset = kBetaOffset + kDeltaCudaChunk * 4;
constexpr int kGramOffset = (kHalvesOffset + 3 * kHalfBytes + 1023) / 1024 * 1024;
constexpr int kBarrierOffset = kGramOffset + kHalfBytes + kHalf * kFullStride * 4;
constexpr int kSharedBytes = kBarrierOffset + 16;
static_assert(4 * kTileBytes <= kBarrierOffset && kSquareBytes <= kBarrierOffset - kGramOffset);
static_assert(kBlocks * (kSharedBytes + 1024) <= 228 * 1024);

// A matrix in shared memory.
struct Rectangle {
  const float* data;
  int stride;
  [[nodiscard]] __device__ Rectangle From(int row, int column) const {
    return {data + row * stride + column, stride};
  }
};

struct Space {
  explicit __device__ Space(uint8_t* shared)
      : p(shared),
        beta(reinterpret_cast<float*>(shared + kBetaOffset)),
        halves(reinterpret_cast<float*>(shared + kHalvesOffset)),
        corner(halves + 2 * kHalf * kHalfStride),
        gram(reinterpret_cast<float*>(shared + kGramOffset)),
        r(shared + kGramOffset) {}
  // K K^T from row 32 half and column 0: of the upper half only 32 columns are kept.
  [[nodiscard]] __device__ Rectangle Gram(int half) const {
    return half == 0 ? Rectangle{gram, kHalfStride}
                     : Rectangle{gram + kHalf * kHalfStride, kFullStride};
  }
  uint8_t* p;
  float* beta;    // right after P, as in a record
  float* halves;  // R11, then R22, of 32 tokens each
  float* corner;  // C, then R21
  float* gram;
  uint8_t* r;  // R as a tile, over K K^T
};

// x = high + low, both tf32.
__device__ void SplitTf32(float x, uint32_t* high, uint32_t* low) {
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(*high) : "f"(x));
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(*low) : "f"(x - __uint_as_float(*high)));
}
__device__ void MultiplyTf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 x 16 of a warp: c[n][...] of columns 8 n ... 8 n + 7, element i of row lane/4 + 8 (i/2),
// column 2 (lane%4) + i%2.
using WarpSquare = float[2][4];

__device__ int SquareRow(int i) { return threadIdx.x % 32 / 4 + i / 2 * 8; }
__device__ int SquareColumn(int n, int i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }

__device__ void LoadSquare(WarpSquare& c, const Rectangle& from) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      c[n][i] = from.data[SquareRow(i) * from.stride + SquareColumn(n, i)];
    }
  }
}
__device__ void StoreSquare(const WarpSquare& c, float* to) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[SquareRow(i) * kHalfStride + SquareColumn(n, i)] = c[n][i];
  }
}

// c -= A diag(scale) B: A [16, kInner], B [kInner, 16] with rows of kHalfStride.
template <int kInner>
__device__ void SubtractProduct(WarpSquare& c, const Rectangle& a, const float* scale,
                                const float* b) {
  const int group = threadIdx.x % 32 / 4;
  const int member = threadIdx.x % 4;
#pragma unroll
  for (int k = member; k < kInner; k += 8) {
    uint32_t a_high[4];
    uint32_t a_low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      SplitTf32(-a.data[(group + i % 2 * 8) * a.stride + k + i / 2 * 4], &a_high[i], &a_low[i]);
    }
    const float scales[2] = {scale[k], scale[k + 4]};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      uint32_t b_high[2];
      uint32_t b_low[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        SplitTf32(scales[i] * b[(k + 4 * i) * kHalfStride + 8 * n + group], &b_high[i], &b_low[i]);
      }
      MultiplyTf32(c[n], a_low, b_high);
      MultiplyTf32(c[n], a_high, b_low);
      MultiplyTf32(c[n], a_high, b_high);
    }
  }
}

// The block of R of tokens 16 warp ... + 15, and zeros beside it in the upper part of its half.
__device__ void SolveBlock(const Space& space, int warp, int lane) {
  const int base = warp * kBlock;
  float* const to = space.halves + base * kHalfStride;
  if (lane >= kBlock) {
    if (warp % 2 == 0) {
      for (int m = 0; m < kBlock; ++m) to[m * kHalfStride + lane] = 0.0F;
    }
    return;
  }
  const Rectangle gram = space.Gram(warp / 2).From(base % kHalf, base);
  float r[kBlock];
#pragma unroll
  for (int m = 0; m < kBlock; ++m) r[m] = m > lane ? gram.data[m * gram.stride + lane] : 0.0F;
#pragma unroll
  for (int i = 0; i < kBlock - 1; ++i) {
    const float x = space.beta[base + i] * r[i];
#pragma unroll
    for (int m4 = (i + 1) / 4 * 4; m4 < kBlock; m4 += 4) {
      const float4 g =
          *reinterpret_cast<const float4*>(gram.data + i * gram.stride + m4);  // symmetric
      if (m4 > i) r[m4] -= g.x * x;
      if (m4 + 1 > i) r[m4 + 1] -= g.y * x;
      if (m4 + 2 > i) r[m4 + 2] -= g.z * x;
      if (m4 + 3 > i) r[m4 + 3] -= g.w * x;
    }
  }
#pragma unroll
  for (int m = 0; m < kBlock; ++m) to[m * kHalfStride + base % kHalf + lane] = r[m];
}

// The lower left block of a half of R, by one warp.
__device__ void MergeBlocks(const Space& space, int half) {
  const int base = half * kHalf;
  float* const r = space.halves + base * kHalfStride;
  float* const lower = r + kBlock * kHalfStride;
  const Rectangle gram = space.Gram(half).From(kBlock, base);
  WarpSquare c;
  LoadSquare(c, gram);
  SubtractProduct<kBlock>(c, gram, space.beta + base, r);
  StoreSquare(c, lower);
  __syncwarp();
  SubtractProduct<kBlock>(c, {lower + kBlock, kHalfStride}, space.beta + base + kBlock, lower);
  __syncwarp();
  StoreSquare(c, lower);
}

// R21, 16 x 16 by each of four warps.
__device__ void MergeHalves(const Space& space, int warp) {
  const int row = warp / 2 * kBlock;
  const int column = warp % 2 * kBlock;
  const Rectangle gram = space.Gram(1).From(row, 0);
  float* const corner = space.corner + row * kHalfStride + column;
  WarpSquare c;
  LoadSquare(c, gram.From(0, column));
  SubtractProduct<kHalf>(c, gram, space.beta, space.halves + column);
  StoreSquare(c, corner);
  __syncthreads();
  SubtractProduct<kHalf>(c, {space.halves + (kHalf + row) * kHalfStride, kHalfStride},
                         space.beta + kHalf, space.corner + column);
  __syncthreads();
  StoreSquare(c, corner);
}

// R as a tile: half a row a thread.
__device__ void WriteR(const Space& space, int thread) {
  const int row = thread / 2;
  const int half = thread % 2;
  const bool above = row < kHalf && half == 1;
  const float* const from = row >= kHalf && half == 0 ? space.corner + (row - kHalf) * kHalfStride
                                                      : space.halves + row * kHalfStride;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto* const four = reinterpret_cast<const float4*>(from + 8 * i);
    const float4 x = four[0];
    const float4 y = four[1];
    uint4 pairs = {hopper::PackPair(x.x, x.y), hopper::PackPair(x.z, x.w),
                   hopper::PackPair(y.x, y.y), hopper::PackPair(y.z, y.w)};
    if (above) pairs = make_uint4(0, 0, 0, 0);
    *reinterpret_cast<uint4*>(space.r + hopper::SwizzledOffset(row * 128 + half * 64 + i * 16)) =
        pairs;
  }
}

__device__ void WriteGram(const Space& space, const float (&g)[32], const Place& at) {
  const int half = at.row / kHalf;
  const int stride = half == 0 ? kHalfStride : kFullStride;
  float* const gram = space.gram + half * kHalf * kHalfStride + at.row % kHalf * stride;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    if (half == 0 && j >= 4) break;
    float* const to = gram + 8 * j + at.column;
    *reinterpret_cast<float2*>(to) = make_float2(g[4 * j], g[4 * j + 1]);
    *reinterpret_cast<float2*>(to + 8 * stride) = make_float2(g[4 * j + 2], g[4 * j + 3]);
  }
}

// Rows of A B^T, both [64, kKey] in tiles.
template <int kKey>
__device__ void Products(float (&d)[32], hopper::Tiles a, hopper::Tiles b) {
  hopper::StartProducts();
  MultiplyTiles<kKey / 16>(d, a, b);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(d);
}

// P = tril(Q K^T), rounded.
template <int kKey>
__device__ void MakeP(uint32_t (&pairs)[4][4], hopper::Tiles q, hopper::Tiles k, const Place& at) {
  float p[32];
  Products<kKey>(p, q, k);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int column = i / 4 * 8 + at.column + i % 2;
    if (column > at.row + i % 4 / 2 * 8) p[i] = 0.0F;
  }
  hopper::ToOperand(pairs, p);
}

struct PrepareArgs {
  CUtensorMap q;
  CUtensorMap k;
  const float* beta;
  uint8_t* records;
  int tokens;
  int heads;
  int chunks;
};

template <int kKey>
__global__ void __launch_bounds__(kThreads, kBlocks)
    Prepare(const __grid_constant__ PrepareArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  auto* const loaded = reinterpret_cast<uint64_t*>(shared + kBarrierOffset);
  const int thread = threadIdx.x;
  const int head = blockIdx.x % args.heads;
  // The first chunks of all heads come last: `forward` begins with them, and L2 still has some.
  const int chunk = args.chunks - 1 - blockIdx.x / (gridDim.x / args.chunks);
  const int batch = blockIdx.x / args.heads % (gridDim.x / args.chunks / args.heads);
  const int token = chunk * kDeltaCudaChunk;
  uint8_t* const k_tiles = shared;
  uint8_t* const q_tiles = shared + kKey / 64 * kTileBytes;
  if (thread == 0) {
    hopper::InitBarrier(loaded, 1);
    hopper::PublishBarriers();
    hopper::ArriveExpecting(loaded, 2 * kKey / 64 * kTileBytes);
    LoadTiles<kKey>(args.k, k_tiles, loaded, head, token, batch);
    LoadTiles<kKey>(args.q, q_tiles, loaded, head, token, batch);
  }
  float beta = 0.0F;
  if (thread < kDeltaCudaChunk && token + thread < args.tokens) {
    const int64_t place = (int64_t{batch} * args.tokens + token + thread) * args.heads + head;
    beta = args.beta[place];
  }
  __syncthreads();
  hopper::AwaitPhase(loaded, 0);

  const Place at;
  const Space space(shared);
  uint32_t p[4][4];
  float g[32];
  const hopper::Tiles tiles = hopper::TilesAt(shared);  // of K
  MakeP<kKey>(p, tiles + kKey / 64 * kTileBytes, tiles, at);
  Products<kKey>(g, tiles, tiles);
  __syncthreads();  // nobody reads the tiles any more
  if (thread < kDeltaCudaChunk) space.beta[thread] = beta;
  WriteGram(space, g, at);
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::StorePlain(space.p, 16 * s, p[s]);
  __syncthreads();
  SolveBlock(space, thread / 32, thread % 32);
  __syncthreads();
  if (thread < 64) MergeBlocks(space, thread / 32);
  __syncthreads();
  MergeHalves(space, thread / 32);
  __syncthreads();
  WriteR(space, thread);
  hopper::FenceForEngines();
  __syncthreads();
  if (thread == 0) {
    const int64_t record = (int64_t{batch} * args.heads + head) * args.chunks + chunk;
    uint8_t* const to = args.records + record * kRecordBytes;
    hopper::StoreBytes(to, space.r, kSquareBytes);
    hopper::StoreBytes(to + kSquareBytes, space.p, kRecordBytes - kSquareBytes);
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
  }
}

}  // namespace

cudaError_t LaunchPrepare(const DeltaCudaShape& shape, const CUtensorMap& q, const CUtensorMap& k,
                          const float* beta, uint8_t* records, cudaStream_t stream) {
  const PrepareArgs args{q, k, beta, records, shape.tokens, shape.heads, ChunksOf(shape)};
  auto* const kernel = shape.key_dim == 64 ? Prepare<64> : Prepare<128>;
  return LaunchShared(kernel, shape.batch * shape.heads * args.chunks, kThreads, kSharedBytes,
                      stream, args);
}

}  // namespace weft::kernels::sm90

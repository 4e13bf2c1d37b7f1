// softmax_sm90.h: a piece of work is 128 keys of a head; tiles of queries pass by. With E = exp(S -
// lse), rows keys and columns queries, so that E and its slopes are operands where they were made:
//
//   S^T = K Q^T   dP^T = V dO^T   dX^T = E^T (dP^T - mean)   dV += E^T dO   dK += dX^T Q   dQ = dX
//   K
//
// (Dao et al. 2024, "FlashAttention-3", section 3; the transposed products as in its code's words
// "swap AB".) Blocks stay and take one piece after the other. One warpgroup loads and stores; two
// have 64 keys each, and half of dQ each.
//
// dQ is added up in memory, in turns: the blocks of keys that see a tile of queries add to it in
// falling order. The last block that sees a tile, which begins with it, comes first, and each block
// is then as many tiles behind the next one as there are between their diagonals: with all at one
// pace nobody waits. The first block that sees it comes last: it takes the sums back from memory,
// adds its own and writes d_q. Who has the first turn also makes the tile's shifts and means, which
// the others wait for.
//
// Pieces are handed out in falling order of keys, so that whoever is waited for runs already; and
// no sooner than a piece's last loads are under way, so that nobody holds one back for long.
#include "kernels/attention/softmax/cuda/backward_copies_sm90.cuh"
#include "kernels/attention/softmax/cuda/backward_pieces_sm90.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sm90 {
namespace softmax_backward {
namespace {

using softmax_tiles::Band;
using softmax_tiles::kFarAhead;
using softmax_tiles::kLog2E;
using softmax_tiles::PowerOfTwo;
using softmax_tiles::VisibleBand;

// Names of barriers: of both warpgroups that compute, and of one, or the next.
constexpr int kAllMeet = 1;
constexpr int kHalfMeets = 2;

// ---- Products

// d = A B^T over kWidth: A 64 rows of tiles kRowsA high, B kQueries rows of tiles as high.
template <int kWidth, int kCount>
__device__ inline void MultiplyRows(float (&d)[kCount], hopper::Tiles a, hopper::Tiles b) {
  constexpr int kQueries = Layout<kWidth>::kQueries;
#pragma unroll
  for (int s = 0; s < kWidth / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(
        d, hopper::RowsTile(a + s / 4 * TileBytes(kBlockKeys), s % 4),
        hopper::RowsTile(b + s / 4 * TileBytes(kQueries), s % 4), s > 0);
  }
}

// d += A B over the queries of a tile: A in registers, B [kQueries, kWidth].
template <int kWidth, int kCount, int kSteps>
__device__ inline void AddOverQueries(float (&d)[kCount], const uint32_t (&a)[kSteps][4],
                                      hopper::Tiles b) {
  constexpr int kQueries = Layout<kWidth>::kQueries;
  static_assert(kSteps == kQueries / 16);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    hopper::Multiply<Rows::kAreK>(d, a[s], hopper::ColumnsTile(b, s, TileBytes(kQueries)));
  }
}

// Half of dQ over the block's keys: 64 columns of 64 queries, or 64 of 128 queries.
template <int kWidth>
__device__ inline void MultiplySlopes(float (&d)[32], hopper::Tiles slopes, hopper::Tiles keys,
                                      int half) {
  const hopper::Tiles a = slopes + (kWidth == 64 ? half : 0) * TileBytes(kBlockKeys);
  const hopper::Tiles b = keys + (kWidth == 64 ? 0 : half) * TileBytes(kBlockKeys);
#pragma unroll
  for (int s = 0; s < kBlockKeys / 16; ++s) {
    hopper::Multiply<Rows::kAreK, Rows::kAreK>(d, hopper::ColumnsTile(a, s),
                                               hopper::ColumnsTile(b, s), s > 0);
  }
}

// ---- Weights

// Products of keys (rows, from `key` on) with queries become weights.
template <int kCount>
__device__ inline void ToWeights(float (&x)[kCount], float scale, const float* shifts) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
    const float2 shift = *reinterpret_cast<const float2*>(shifts + 8 * j);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[4 * j + e] = PowerOfTwo(fmaf(x[4 * j + e], scale, e % 2 == 0 ? -shift.x : -shift.y));
    }
  }
}

// Keys `key` ... + 63 are rows, queries from `query` on are columns.
template <int kCount>
__device__ inline void ClearUnseen(float (&x)[kCount], const SoftmaxCudaProblem& p,
                                   const Band& band, int key, int query, const Place& at) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = key + at.row + 8 * r;
    const int ahead = row < p.keys ? row - query - at.column : kFarAhead;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (ahead - band.most > i / 2 * 8 + i % 2) x[i / 2 * 4 + 2 * r + i % 2] = 0.0F;
    }
    if (p.window == 0) continue;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (ahead - band.least < i / 2 * 8 + i % 2) x[i / 2 * 4 + 2 * r + i % 2] = 0.0F;
    }
  }
}

// Gradients of weights become those of logits. The weights are taken as they were rounded: there
// are no registers to keep them in fp32 as well.
template <int kCount>
__device__ inline void ToSlopes(float (&d)[kCount], const uint32_t (&weights)[kCount / 8][4],
                                const float* means) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
    const float2 mean = *reinterpret_cast<const float2*>(means + 8 * j);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint32_t pair = weights[j / 2][j % 2 * 2 + r];
      float& low = d[4 * j + 2 * r];
      float& high = d[4 * j + 2 * r + 1];
      low = hopper::LowOf(pair) * (low - mean.x);
      high = hopper::HighOf(pair) * (high - mean.y);
    }
  }
}

// 64 rows of tiles of 128 rows: the operand's columns 16 s ... of tile s / 4.
template <int kSteps>
__device__ inline void StoreRows(uint8_t* tiles, const uint32_t (&a)[kSteps][4]) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    hopper::StorePlain(tiles + s / 4 * TileBytes(kBlockKeys), s % 4 * 16, a[s]);
  }
}

// ---- What a step adds to dQ

// This warpgroup's half of what a step adds to dQ, as it lies in memory.
__device__ inline float4* ThreadsPart(uint8_t* half) {
  return reinterpret_cast<float4*>(half) + threadIdx.x % kGroup;
}
__device__ inline void StoreHalf(uint8_t* half, const float (&d)[32]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    ThreadsPart(half)[i * kGroup] = make_float4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  }
}
__device__ inline void AddHalf(float (&d)[32], uint8_t* half) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 sum = ThreadsPart(half)[i * kGroup];
    d[4 * i] += sum.x;
    d[4 * i + 1] += sum.y;
    d[4 * i + 2] += sum.z;
    d[4 * i + 3] += sum.w;
  }
}

// ---- Shifts and means

// The row of a tile that a thread makes a part of.
template <int kWidth>
__device__ inline int RowOfThread() {
  return (static_cast<int>(threadIdx.x) - kGroup) / (kComputing / Layout<kWidth>::kQueries);
}

// Makes both of a tile's queries, for this step and for all other blocks. o, d_o: the tile. lse: of
// the thread's row. number: of the tile among all.
template <int kWidth>
__device__ inline void MakeRows(const SoftmaxBackwardScratch& scratch, const uint8_t* o,
                                const uint8_t* d_o, float lse, int number, float* shifts,
                                float* means) {
  constexpr int kQueries = Layout<kWidth>::kQueries;
  constexpr int kLanes = kComputing / kQueries;  // of a row, 32 columns each
  const int row = RowOfThread<kWidth>();
  const auto lane = static_cast<int>(threadIdx.x) % kLanes;
  const int first = lane / 2 * TileBytes(kQueries) + row * hopper::kTileRowBytes;
  float mean = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Lanes that read at the same time meet all banks.
    const int piece = lane % 2 * 4 + (i ^ (lane & 2));
    const int at = first + (piece ^ (row & 7)) * 16;
    const uint4 a = *reinterpret_cast<const uint4*>(o + at);
    const uint4 b = *reinterpret_cast<const uint4*>(d_o + at);
    const uint32_t as[4] = {a.x, a.y, a.z, a.w};
    const uint32_t bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      mean = fmaf(hopper::LowOf(as[j]), hopper::LowOf(bs[j]), mean);
      mean = fmaf(hopper::HighOf(as[j]), hopper::HighOf(bs[j]), mean);
    }
  }
  mean = GroupReduce<kLanes>(mean, AddOf());
  if (lane == 0) {
    const float shift = lse == -INFINITY ? INFINITY : lse * kLog2E;
    shifts[row] = shift;
    means[row] = mean;
    scratch.shifts[int64_t{number} * kQueries + row] = shift;
    scratch.means[int64_t{number} * kQueries + row] = mean;
  }
  // Everybody may read them, and write slopes where o was.
  hopper::MeetThreads(kAllMeet, kComputing);
  if (threadIdx.x == kGroup) PassTurn(scratch.known + number);
}

// ---- The two sides

// What a warpgroup has at hand for a piece.
template <int kWidth>
struct Side {
  __device__ Side(const Params& params, const Piece<kWidth>& piece, uint8_t* shared,
                  Barriers* barriers, int half, int place)
      : params(params),
        piece(piece),
        shared(shared),
        barriers(barriers),
        half(half),
        place(place),
        keys(place * Layout<kWidth>::kPlaceBytes),
        key(piece.Key() + 64 * half),
        band(VisibleBand(params.p)),
        head(piece.batch * params.p.heads + piece.kv_head * piece.group),
        tile(piece.first_tile),
        before(piece.first_tile) {}
  __device__ void Advance() {
    before = tile;
    if (++tile < piece.end_tile) return;
    tile = piece.first_tile;
    ++head;
  }
  const Params& params;
  const Piece<kWidth>& piece;
  uint8_t* shared;
  Barriers* barriers;
  int half;
  int place;
  int keys;  // where they lie
  int key;
  Band band;
  int head;  // of [B, H], of the step
  int tile;
  int before;  // of the step before
};

// Begins this warpgroup's half of what the last step adds to dQ.
template <int kWidth>
__device__ inline void StartHalf(float (&d_q)[32], const Side<kWidth>& side, hopper::Tiles tiles,
                                 int step, bool there) {
  using L = Layout<kWidth>;
  if (there) hopper::AwaitPhase(&side.barriers->slopes[step & 1], step >> 1 & 1);
  hopper::StartProducts();
  MultiplySlopes<kWidth>(d_q, tiles + (L::kSlopes + (step & 1) * L::kSlopeBytes),
                         tiles + (L::kKeys + side.keys), side.half);
  hopper::CommitProducts();
}

// Hands it to those who keep the turns; as d_q, if all else is there.
template <int kWidth>
__device__ inline void SendHalf(float (&d_q)[32], const Side<kWidth>& side, int step, int tile) {
  const SoftmaxCudaProblem& p = side.params.p;
  uint8_t* const place = side.shared + Layout<kWidth>::kSums + side.half * kHalfBytes;
  if (step > 0) hopper::AwaitPhase(&side.barriers->sent[side.half], (step - 1) & 1);
  if (side.piece.IsLast(tile)) {
    if (!side.piece.IsFirst(tile)) {
      hopper::AwaitPhase(&side.barriers->sums[side.half], step & 1);
      AddHalf(d_q, place);
    }
#pragma unroll
    for (float& d : d_q) d *= p.scale;
    uint32_t operand[4][4];
    hopper::ToOperand(operand, d_q);
    hopper::MeetThreads(kHalfMeets + side.half, kGroup);  // all have read their sums
#pragma unroll
    for (int s = 0; s < 4; ++s) hopper::StorePlain(place, 16 * s, operand[s]);
  } else {
    StoreHalf(place, d_q);
  }
  hopper::FenceForEngines();
  hopper::ArriveTogether(&side.barriers->filled[side.half]);
}

// dK (without its scale) and dV of this warpgroup's 64 keys. What a step adds to dQ is made in the
// next one, beneath its exponentials: so the tensor cores have something to do then, and neither
// warpgroup waits long for the slopes of the other.
template <int kWidth>
__device__ inline void Step(Side<kWidth>& side, Progress& progress, bool first,
                            float (&d_k)[kWidth / 2], float (&d_v)[kWidth / 2]) {
  using L = Layout<kWidth>;
  const Place at;
  const SoftmaxCudaProblem& p = side.params.p;
  const int stage = progress.ring.stage;
  const int step = progress.steps;
  const hopper::Tiles tiles = hopper::TilesAt(side.shared);
  const hopper::Tiles queries = tiles + (L::kQuery + stage * L::kQueryBytes);
  const hopper::Tiles output = tiles + (L::kOutput + stage * L::kQueryBytes);
  const hopper::Tiles keys = tiles + (L::kKeys + side.keys + side.half * TileBytes(64));
  const hopper::Tiles values = tiles + (L::kValues + side.keys + side.half * TileBytes(64));
  auto* const shifts = reinterpret_cast<float*>(side.shared + L::kShifts) + stage * L::kQueries;
  auto* const means = reinterpret_cast<float*>(side.shared + L::kMeans) + stage * L::kQueries;

  float d_q[32];
  const int query = side.tile * L::kQueries;
  const bool makes_rows = side.piece.IsFirst(side.tile);
  float lse = -INFINITY;
  if (makes_rows && query + RowOfThread<kWidth>() < p.queries) {
    lse = side.params.lse[int64_t{side.head} * p.queries + query + RowOfThread<kWidth>()];
  }
  float x[L::kQueries / 2];
  hopper::AwaitPhase(&side.barriers->full[stage], progress.ring.parity);
  hopper::StartProducts();
  MultiplyRows<kWidth>(x, keys, queries);
  hopper::CommitProducts();
  // Before the first step there is nothing to add; made of anything, and dropped: a step without it
  // would not leave the compiler the registers to let products run on.
  StartHalf(d_q, side, tiles, step - 1, !first);
  hopper::AwaitPhase(&side.barriers->rest[stage], progress.ring.parity);
  if (makes_rows) {
    const int number = side.head * side.params.scratch.tiles + side.tile;
    MakeRows<kWidth>(side.params.scratch, side.shared + L::kSlopes + (step & 1) * L::kSlopeBytes,
                     side.shared + L::kOutput + stage * L::kQueryBytes, lse, number, shifts, means);
  }
  hopper::AwaitProducts<1>();
  hopper::Settle(x);
  // The products of the step before are done too, but those of dQ.
  if (!first) hopper::ArriveTogether(&side.barriers->empty[stage ^ 1]);
  ToWeights(x, p.scale * kLog2E, shifts + at.column);
  if (side.key + 63 - query > side.band.most ||
      side.key - (query + L::kQueries - 1) < side.band.least || side.key + 64 > p.keys) {
    ClearUnseen(x, p, side.band, side.key, query, at);
  }
  uint32_t weights[L::kQueries / 16][4];
  hopper::ToOperand(weights, x);
  float d[L::kQueries / 2];
  hopper::StartProducts();
  MultiplyRows<kWidth>(d, values, output);
  hopper::CommitProducts();
  AddOverQueries<kWidth>(d_v, weights, output);
  hopper::CommitProducts();
  hopper::AwaitProducts<2>();
  hopper::Settle(d_q);
  if (!first) SendHalf(d_q, side, step - 1, side.before);
  hopper::AwaitProducts<1>();
  hopper::Settle(d);
  ToSlopes(d, weights, means + at.column);
  // Those of dV, done by now: the registers of the weights are needed.
  hopper::AwaitProducts<0>();
  hopper::Settle(d_v);
  uint32_t slopes[L::kQueries / 16][4];
  hopper::ToOperand(slopes, d);
  StoreRows(side.shared + (L::kSlopes + (step & 1) * L::kSlopeBytes) + side.half * TileBytes(64),
            slopes);
  hopper::FenceForEngines();
  hopper::ArriveTogether(&side.barriers->slopes[step & 1]);
  hopper::StartProducts();
  AddOverQueries<kWidth>(d_k, slopes, queries);
  hopper::CommitProducts();
  side.Advance();
  progress.Advance();
}

// Gradients of this warpgroup's 64 keys, in the place of the keys or of their values.
template <int kWidth>
__device__ inline void StoreGradients(const Side<kWidth>& side, int place,
                                      const float (&d)[kWidth / 2]) {
  uint32_t operand[kWidth / 16][4];
  hopper::ToOperand(operand, d);
  StoreRows(side.shared + place + side.keys + side.half * TileBytes(64), operand);
}

// dK and dV of a piece, handed to who stores them; there is a tile that sees its keys.
template <int kWidth>
__device__ inline void Compute(Side<kWidth>& side, Progress& progress) {
  using L = Layout<kWidth>;
  float d_k[kWidth / 2] = {};
  float d_v[kWidth / 2] = {};
  hopper::Settle(d_k);
  hopper::Settle(d_v);
  const int steps = side.piece.Steps();
  for (int i = 0; i < steps; ++i) Step(side, progress, i == 0, d_k, d_v);
  float d_q[32];
  StartHalf(d_q, side, hopper::TilesAt(side.shared), progress.steps - 1, true);
  StoreGradients(side, L::kValues, d_v);  // only this warpgroup has read these values
  hopper::AwaitProducts<0>();
  hopper::Settle(d_k);
  hopper::Settle(d_q);
  hopper::ArriveTogether(&side.barriers->empty[progress.ring.stage ^ 1]);
  SendHalf(d_q, side, progress.steps - 1, side.before);
#pragma unroll
  for (float& d : d_k) d *= side.params.p.scale;
  hopper::MeetThreads(kAllMeet, kComputing);  // nobody reads keys any more
  StoreGradients(side, L::kKeys, d_k);
  hopper::FenceForEngines();
  hopper::ArriveTogether(&side.barriers->gradients[side.place]);
}

template <int kWidth>
__device__ void ComputePieces(const Params& params, uint8_t* shared, Barriers* barriers, int half) {
  Progress progress;
  ForEachPiece<kWidth>(shared, barriers,
                       [&](const Piece<kWidth>& loaded, const KeysPlace<kWidth>& place) {
                         const Piece<kWidth> piece = loaded.Uniform();
                         Side<kWidth> side(params, piece, shared, barriers, half, place.stage);
                         Compute(side, progress);
                       });
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    BackwardKernel(const __grid_constant__ Params params) {
  using L = Layout<kWidth>;
  // Nothing else is in shared memory, and there is no room to align it by hand.
  extern __shared__ __align__(1024) uint8_t shared[];
  auto* const barriers = reinterpret_cast<Barriers*>(shared + L::kBarriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(&barriers->full[i], 1);
      hopper::InitBarrier(&barriers->rest[i], 1);
      hopper::InitBarrier(&barriers->empty[i], kComputing / 32);
    }
    for (int i = 0; i < 2; ++i) {
      hopper::InitBarrier(&barriers->keys_full[i], 1);
      hopper::InitBarrier(&barriers->keys_empty[i], 1);
      hopper::InitBarrier(&barriers->slopes[i], kComputing / 32);
      hopper::InitBarrier(&barriers->filled[i], kGroup / 32);
      hopper::InitBarrier(&barriers->sent[i], 1);
      hopper::InitBarrier(&barriers->sums[i], 1);
      hopper::InitBarrier(&barriers->gradients[i], kComputing / 32);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    hopper::ShrinkRegisters<L::kLoadRegisters>();
    const auto thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
      LoadPieces<kWidth>(params, shared, barriers);
    } else if (thread == 32 || thread == 64) {
      AddInTurns<kWidth>(params, shared, barriers, thread / 32 - 1);
    } else if (thread == 96) {
      StorePieces<kWidth>(params, shared, barriers);
    }
  } else {
    hopper::GrowRegisters<L::kRegisters>();
    const int half = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / kGroup - 1, 0);
    ComputePieces<kWidth>(params, shared, barriers, half);
  }
}

template <int kWidth>
cudaError_t Launch(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                   const SoftmaxBackwardMaps& maps, const float* lse,
                   const SoftmaxBackwardScratch& scratch) {
  const auto pieces = static_cast<int>(CeilDiv(p.keys, kBlockKeys) * p.batch * p.kv_heads);
  const int grid = pieces < on.multiprocessors ? pieces : on.multiprocessors;
  return LaunchShared(BackwardKernel<kWidth>, static_cast<unsigned>(grid), kThreads,
                      Layout<kWidth>::kBytes, on.stream, {maps, scratch, p, lse, pieces});
}

}  // namespace
}  // namespace softmax_backward

cudaError_t LaunchSoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                  const SoftmaxBackwardMaps& maps, const float* lse,
                                  const SoftmaxBackwardScratch& scratch) {
  return p.head_dim == 64 ? softmax_backward::Launch<64>(on, p, maps, lse, scratch)
                          : softmax_backward::Launch<128>(on, p, maps, lse, scratch);
}

}  // namespace weft::kernels::sm90

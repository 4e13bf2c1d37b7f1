// softmax_sm90.h: a block has 128 keys of a head, tiles of queries pass by. With E = exp(S - lse),
// rows keys and columns queries, so that E and its slopes are operands where they were made:
//
//   S^T = K Q^T   dP^T = V dO^T   dX^T = E^T (dP^T - mean)   dV += E^T dO   dK += dX^T Q   dQ = dX
//   K
//
// (Dao et al. 2024, "FlashAttention-3", section 3; the transposed products as in its code's words
// "swap AB".) One warpgroup loads; two have 64 keys each, and half of dQ each.
//
// dQ is added up in memory, in turns: the blocks of keys that see a tile of queries add to it in
// falling order. The last block that sees a tile, which begins with it, comes first, and each block
// is then as many tiles behind the next one as there are between their diagonals: with all at one
// pace nobody waits. Blocks of keys are handed out in falling order, so that whoever is waited for
// runs already.
#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sm90 {
namespace {

using hopper::TileBytes;
using softmax_tiles::Band;
using softmax_tiles::kFarAhead;
using softmax_tiles::kLog2E;
using softmax_tiles::PowerOfTwo;
using softmax_tiles::QueriesOfKeys;
using softmax_tiles::Range;
using softmax_tiles::VisibleBand;
using softmax_tiles::VisibleKeys;

constexpr int kStages = 2;
constexpr int kGroup = 128;           // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;  // one loads, two compute
constexpr int kComputing = 2 * kGroup;
constexpr int kAllMeet = 1;        // the name of a barrier
constexpr int kHalf = 8 * kGroup;  // float4 of half a tile of dQ
constexpr int kHalfBytes = kHalf * 16;

template <int kWidth>
struct Layout {
  static constexpr int kQueries = kWidth == 64 ? 128 : 64;
  static constexpr int kLoadRegisters = 24;
  static constexpr int kRegisters = 240;
  static constexpr int kKeyBytes = kWidth / 64 * TileBytes(kBlockKeys);
  static constexpr int kQueryBytes = kWidth / 64 * TileBytes(kQueries);
  static constexpr int kSlopeBytes = kQueries / 64 * TileBytes(kBlockKeys);
  static constexpr int kKeys = 0;
  static constexpr int kValues = kKeyBytes;
  static constexpr int kSlopes = 2 * kKeyBytes;  // two of them, by turns
  static constexpr int kQuery = kSlopes + 2 * kSlopeBytes;
  static constexpr int kOutput = kQuery + kStages * kQueryBytes;  // dO
  static constexpr int kShifts = kOutput + kStages * kQueryBytes;
  static constexpr int kMeans = kShifts + kStages * kQueries * 4;
  static constexpr int kSums =
      kMeans + kStages * kQueries * 4;  // what a step adds to dQ: two halves
  static constexpr int kBarriers = kSums + 2 * kHalfBytes;
  static constexpr int kTicket = kBarriers + (2 * kStages + 7) * 8;
  static constexpr int kBytes = kTicket + 8 + kSharedSlack;
};

struct Barriers {
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t keys;
  uint64_t slopes[2];  // of both warpgroups are there
  uint64_t filled[2];  // a half of what is added to dQ is there
  uint64_t sent[2];    // and its place is free again
};

struct Params {
  SoftmaxBackwardMaps maps;
  SoftmaxBackwardScratch scratch;
  SoftmaxCudaProblem p;
};

// The keys of a block and the tiles that it meets: those of one query head after the other.
template <int kWidth>
struct Work {
  __device__ Work(const Params& params, int ticket) {
    const SoftmaxCudaProblem& p = params.p;
    const int blocks = (p.keys + kBlockKeys - 1) / kBlockKeys;
    block = blocks - 1 - ticket % blocks;
    kv_head = ticket / blocks % p.kv_heads;
    batch = ticket / blocks / p.kv_heads;
    key = block * kBlockKeys;
    const Range queries = QueriesOfKeys(p, key, min(key + kBlockKeys, p.keys));
    constexpr int kQueries = Layout<kWidth>::kQueries;
    first_tile = queries.begin / kQueries;
    tiles = (queries.end + kQueries - 1) / kQueries - first_tile;
    group = p.heads / p.kv_heads;
  }
  __device__ int Steps() const { return tiles * group; }
  __device__ int HeadAt(int step) const { return kv_head * group + step / tiles; }
  __device__ int TileAt(int step) const { return first_tile + step % tiles; }
  // Among the halves of tiles of dQ.
  __device__ int64_t HalfAt(const Params& params, int step, int half) const {
    const int64_t head = int64_t{batch} * params.p.heads + HeadAt(step);
    return (head * params.scratch.tiles + TileAt(step)) * 2 + half;
  }
  // How many blocks of keys add to the step's tile before this one.
  __device__ int BlocksBefore(const SoftmaxCudaProblem& p, int step) const {
    const int last = min((TileAt(step) + 1) * Layout<kWidth>::kQueries, p.queries) - 1;
    return (VisibleKeys(p, last).end - 1) / kBlockKeys - block;
  }

  int block;
  int kv_head;
  int batch;
  int key;
  int first_tile;
  int tiles;
  int group;
};

// ---- Loading

template <int kWidth>
__device__ void LoadKeys(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                         Barriers* barriers) {
  using L = Layout<kWidth>;
  hopper::ArriveExpecting(&barriers->keys, 2 * L::kKeyBytes);
#pragma unroll
  for (int c = 0; c < kWidth / 64; ++c) {
    hopper::LoadBox(params.maps.k, shared + L::kKeys + c * TileBytes(kBlockKeys), &barriers->keys,
                    64 * c, work.kv_head, work.key, work.batch);
    hopper::LoadBox(params.maps.v, shared + L::kValues + c * TileBytes(kBlockKeys), &barriers->keys,
                    64 * c, work.kv_head, work.key, work.batch);
  }
}

template <int kWidth>
__device__ void LoadQueries(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                            Barriers* barriers) {
  using L = Layout<kWidth>;
  hopper::RingPlace<kStages> at;
  for (int step = 0; step < work.Steps(); ++step) {
    const int head = work.HeadAt(step);
    const int tile = work.TileAt(step);
    if (step >= kStages) hopper::AwaitPhase(&barriers->empty[at.stage], at.parity ^ 1);
    uint64_t* const full = &barriers->full[at.stage];
    hopper::ArriveExpecting(full, 2 * L::kQueryBytes + 2 * L::kQueries * 4);
#pragma unroll
    for (int c = 0; c < kWidth / 64; ++c) {
      const int to = at.stage * L::kQueryBytes + c * TileBytes(L::kQueries);
      hopper::LoadBox(params.maps.q, shared + L::kQuery + to, full, 64 * c, head,
                      tile * L::kQueries, work.batch);
      hopper::LoadBox(params.maps.d_o, shared + L::kOutput + to, full, 64 * c, head,
                      tile * L::kQueries, work.batch);
    }
    const int64_t row =
        ((int64_t{work.batch} * params.p.heads + head) * params.scratch.tiles + tile) * L::kQueries;
    const int to = at.stage * L::kQueries * 4;
    hopper::LoadBytes(shared + L::kShifts + to, params.scratch.shifts + row, L::kQueries * 4, full);
    hopper::LoadBytes(shared + L::kMeans + to, params.scratch.means + row, L::kQueries * 4, full);
    at.Advance();
  }
}

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

// ---- Turns

__device__ inline void AwaitTurn(const int32_t* turn, int expected) {
  int32_t now;
  do {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(turn) : "memory");
  } while (now < expected);
}
// Everything that this thread knows to be done comes before.
__device__ inline void PassTurn(int32_t* turn) {
  asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(turn) : "memory");
}

// This warpgroup's half of what a step adds to dQ, where the copy engine takes it.
__device__ inline void StoreHalf(uint8_t* half, const float (&d)[32]) {
  auto* const to = reinterpret_cast<float4*>(half) + threadIdx.x % kGroup;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    to[i * kGroup] = make_float4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  }
}

// Adds half a tile at a time to dQ, in turns: a thread of the loading warpgroup for each half, so
// that those who compute wait neither for other blocks nor for memory.
template <int kWidth>
__device__ void AddInTurns(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                           Barriers* barriers, int half) {
  const SoftmaxCudaProblem& p = params.p;
  const uint8_t* const from = shared + Layout<kWidth>::kSums + half * kHalfBytes;
  for (int step = 0; step < work.Steps(); ++step) {
    const int64_t place = work.HalfAt(params, step, half);
    int32_t* const turn = params.scratch.turns + place;
    float4* const to = params.scratch.d_q + place * kHalf;
    const int before = work.BlocksBefore(p, step);
    if (before > 0) {
      AwaitTurn(turn, before);
      hopper::FenceForEnginesEverywhere();
    }
    hopper::AwaitPhase(&barriers->filled[half], step % 2);
    if (before > 0) {
      hopper::AddFloats(to, from, kHalfBytes);
    } else {
      hopper::StoreBytes(to, from, kHalfBytes);
    }
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
    hopper::Arrive(&barriers->sent[half]);
    hopper::AwaitStores<0>();
    PassTurn(turn);
  }
}

// ---- The two sides

// Begins this warpgroup's half of what a step adds to dQ.
template <int kWidth>
__device__ inline void StartHalf(float (&d_q)[32], hopper::Tiles tiles, Barriers* barriers,
                                 int step, int half) {
  using L = Layout<kWidth>;
  if (step >= 0) hopper::AwaitPhase(&barriers->slopes[step % 2], step / 2 % 2);
  hopper::StartProducts();
  MultiplySlopes<kWidth>(d_q, tiles + (L::kSlopes + (step & 1) * L::kSlopeBytes), tiles + L::kKeys,
                         half);
  hopper::CommitProducts();
}

// Hands it to those who keep the turns.
template <int kWidth>
__device__ inline void SendHalf(float (&d_q)[32], uint8_t* shared, Barriers* barriers, int step,
                                int half) {
  hopper::Settle(d_q);
  if (step < 0) return;
  if (step > 0) hopper::AwaitPhase(&barriers->sent[half], (step - 1) % 2);
  StoreHalf(shared + Layout<kWidth>::kSums + half * kHalfBytes, d_q);
  hopper::FenceForEngines();
  hopper::ArriveTogether(&barriers->filled[half]);
}

// What a warpgroup has at hand.
template <int kWidth>
struct Side {
  __device__ Side(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                  Barriers* barriers, int half)
      : params(params),
        work(work),
        shared(shared),
        barriers(barriers),
        half(half),
        key(work.key + 64 * half),
        band(VisibleBand(params.p)) {}
  const Params& params;
  const Work<kWidth>& work;
  uint8_t* shared;
  Barriers* barriers;
  int half;
  int key;
  Band band;
  hopper::RingPlace<kStages> ring;
  int tile = 0;  // of the step, after the first that the keys meet
};

// dK (without its scale) and dV of this warpgroup's 64 keys. What a step adds to dQ is made in the
// next one, beneath its exponentials: so the tensor cores have something to do then, and neither
// warpgroup waits long for the slopes of the other.
template <int kWidth>
__device__ inline void Step(Side<kWidth>& side, int step, float (&d_k)[kWidth / 2],
                            float (&d_v)[kWidth / 2]) {
  using L = Layout<kWidth>;
  const Place at;
  const SoftmaxCudaProblem& p = side.params.p;
  const int stage = side.ring.stage;
  const hopper::Tiles tiles = hopper::TilesAt(side.shared);
  const hopper::Tiles queries = tiles + (L::kQuery + stage * L::kQueryBytes);
  const hopper::Tiles output = tiles + (L::kOutput + stage * L::kQueryBytes);
  const hopper::Tiles keys = tiles + (L::kKeys + side.half * TileBytes(64));
  const hopper::Tiles values = tiles + (L::kValues + side.half * TileBytes(64));
  const auto* const shifts =
      reinterpret_cast<const float*>(side.shared + L::kShifts) + stage * L::kQueries + at.column;
  const auto* const means =
      reinterpret_cast<const float*>(side.shared + L::kMeans) + stage * L::kQueries + at.column;

  float d_q[32];
  float x[L::kQueries / 2];
  hopper::AwaitPhase(&side.barriers->full[stage], side.ring.parity);
  hopper::StartProducts();
  MultiplyRows<kWidth>(x, keys, queries);
  hopper::CommitProducts();
  // Before the first step there is nothing to add; made of anything, and dropped: a step without it
  // would not leave the compiler the registers to let products run on.
  StartHalf<kWidth>(d_q, tiles, side.barriers, step - 1, side.half);
  hopper::AwaitProducts<1>();
  hopper::Settle(x);
  // The products of the step before are done too, but those of dQ.
  if (step > 0) hopper::ArriveTogether(&side.barriers->empty[stage ^ 1]);
  ToWeights(x, p.scale * kLog2E, shifts);
  const int query = (side.work.first_tile + side.tile) * L::kQueries;
  if (++side.tile == side.work.tiles) side.tile = 0;
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
  SendHalf<kWidth>(d_q, side.shared, side.barriers, step - 1, side.half);
  hopper::AwaitProducts<1>();
  hopper::Settle(d);
  ToSlopes(d, weights, means);
  // Those of dV, done by now: the registers of the weights are needed.
  hopper::AwaitProducts<0>();
  hopper::Settle(d_v);
  uint32_t operand[L::kQueries / 16][4];
  hopper::ToOperand(operand, d);
  StoreRows(side.shared + (L::kSlopes + step % 2 * L::kSlopeBytes) + side.half * TileBytes(64),
            operand);
  hopper::FenceForEngines();
  hopper::ArriveTogether(&side.barriers->slopes[step % 2]);
  hopper::StartProducts();
  AddOverQueries<kWidth>(d_k, operand, queries);
  hopper::CommitProducts();
  side.ring.Advance();
}

template <int kWidth>
__device__ void Compute(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                        Barriers* barriers, int half, float (&d_k)[kWidth / 2],
                        float (&d_v)[kWidth / 2]) {
  const int steps = work.Steps();
  if (steps == 0) return;
  Side<kWidth> side(params, work, shared, barriers, half);
  hopper::AwaitPhase(&barriers->keys, 0);
  hopper::Settle(d_k);
  hopper::Settle(d_v);
  for (int step = 0; step < steps; ++step) Step(side, step, d_k, d_v);
  float d_q[32];
  StartHalf<kWidth>(d_q, hopper::TilesAt(shared), barriers, steps - 1, half);
  hopper::AwaitProducts<0>();
  hopper::Settle(d_k);
  hopper::Settle(d_v);
  SendHalf<kWidth>(d_q, shared, barriers, steps - 1, half);
}

template <int kWidth>
__device__ void StoreGradients(const Params& params, const Work<kWidth>& work, uint8_t* shared,
                               int half, float (&d_k)[kWidth / 2], float (&d_v)[kWidth / 2]) {
  using L = Layout<kWidth>;
#pragma unroll
  for (int i = 0; i < kWidth / 2; ++i) d_k[i] *= params.p.scale;
  hopper::MeetThreads(kAllMeet, kComputing);  // nobody reads keys any more
  uint32_t operand[kWidth / 16][4];
  hopper::ToOperand(operand, d_k);
  StoreRows(shared + L::kKeys + half * TileBytes(64), operand);
  hopper::ToOperand(operand, d_v);
  StoreRows(shared + L::kValues + half * TileBytes(64), operand);
  hopper::FenceForEngines();
  hopper::MeetThreads(kAllMeet, kComputing);
  if (threadIdx.x != kGroup) return;
#pragma unroll
  for (int c = 0; c < kWidth / 64; ++c) {
    hopper::StoreBox(params.maps.d_k, shared + L::kKeys + c * TileBytes(kBlockKeys), 64 * c,
                     work.kv_head, work.key, work.batch);
    hopper::StoreBox(params.maps.d_v, shared + L::kValues + c * TileBytes(kBlockKeys), 64 * c,
                     work.kv_head, work.key, work.batch);
  }
  hopper::CommitStores();
  hopper::AwaitStoresRead<0>();
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    BackwardKernel(const __grid_constant__ Params params) {
  using L = Layout<kWidth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  auto* const barriers = reinterpret_cast<Barriers*>(shared + L::kBarriers);
  auto* const ticket = reinterpret_cast<int32_t*>(shared + L::kTicket);
  if (threadIdx.x == 0) {
    const int32_t taken = atomicAdd(params.scratch.ticket, 1);
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(&barriers->full[i], 1);
      hopper::InitBarrier(&barriers->empty[i], kComputing / 32);
    }
    hopper::InitBarrier(&barriers->keys, 1);
    for (int half = 0; half < 2; ++half) {
      hopper::InitBarrier(&barriers->slopes[half], kComputing / 32);
      hopper::InitBarrier(&barriers->filled[half], kGroup / 32);
      hopper::InitBarrier(&barriers->sent[half], 1);
    }
    hopper::PublishBarriers();
    *ticket = taken;
  }
  __syncthreads();
  const Work<kWidth> work(params, __shfl_sync(0xFFFFFFFF, *ticket, 0));
  if (threadIdx.x < kGroup) {
    hopper::ShrinkRegisters<L::kLoadRegisters>();
    if (threadIdx.x == 0) {
      LoadKeys(params, work, shared, barriers);
      LoadQueries(params, work, shared, barriers);
    } else if (threadIdx.x == 32 || threadIdx.x == 64) {
      AddInTurns(params, work, shared, barriers, static_cast<int>(threadIdx.x) / 32 - 1);
    }
  } else {
    hopper::GrowRegisters<L::kRegisters>();
    const int half = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / kGroup - 1, 0);
    float d_k[kWidth / 2] = {};
    float d_v[kWidth / 2] = {};
    Compute(params, work, shared, barriers, half, d_k, d_v);
    StoreGradients(params, work, shared, half, d_k, d_v);
  }
}

template <int kWidth>
cudaError_t Launch(const SoftmaxCudaProblem& p, const SoftmaxBackwardMaps& maps,
                   const SoftmaxBackwardScratch& scratch, cudaStream_t stream) {
  const int64_t blocks = CeilDiv(p.keys, kBlockKeys) * p.batch * p.kv_heads;
  return LaunchShared(BackwardKernel<kWidth>, static_cast<unsigned>(blocks), kThreads,
                      Layout<kWidth>::kBytes, stream, {maps, scratch, p});
}

}  // namespace

cudaError_t LaunchSoftmaxBackward(const SoftmaxCudaProblem& p, const SoftmaxBackwardMaps& maps,
                                  const SoftmaxBackwardScratch& scratch, cudaStream_t stream) {
  return p.head_dim == 64 ? Launch<64>(p, maps, scratch, stream)
                          : Launch<128>(p, maps, scratch, stream);
}

}  // namespace weft::kernels::sm90

// softmax_sm90.h, forward (Dao et al. 2024, "FlashAttention-3", section 3): a block has 64 queries
// of a head for each of its computing warpgroups; tiles of 128 keys pass by, loaded by a warpgroup
// of its own. A warpgroup makes the logits of the next tile while it takes the exponentials of this
// one, so that the tensor cores have something to do.
//
// A block stays and takes one piece of work after the other, whichever is next: the longest first
// among heads whose keys and values fit into the L2 cache together.
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/launch_shared.cuh"

namespace weft::kernels::sm90 {
namespace {

using hopper::Rows;
using hopper::TileBytes;
using softmax_tiles::AllVisible;
using softmax_tiles::KeysOfQueries;
using softmax_tiles::kLn2;
using softmax_tiles::kLog2E;
using softmax_tiles::Range;
using softmax_tiles::VisibleKeys;

constexpr int kStages = 2;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr float kNothing = -INFINITY;

template <int kWidth>
struct Layout {
  static constexpr int kGroups = kWidth == 64 ? 3 : 2;  // that compute
  static constexpr int kQueries = 64 * kGroups;
  static constexpr int kThreads = (kGroups + 1) * kGroup;
  static constexpr int kLoadRegisters = kGroups == 3 ? 32 : 40;
  static constexpr int kRegisters = kGroups == 3 ? 160 : 232;
  static constexpr int kGroupBytes = kWidth / 64 * TileBytes(64);  // of a group's queries
  static constexpr int kQueryBytes = kGroups * kGroupBytes;
  static constexpr int kKeyBytes = kWidth / 64 * TileBytes(kBlockKeys);
  static constexpr int kQuery = 0;  // two of them; a group's results take its queries' place
  static constexpr int kKeys = 2 * kQueryBytes;
  static constexpr int kValues = kKeys + kStages * kKeyBytes;
  static constexpr int kBarriers = kValues + kStages * kKeyBytes;
  static constexpr int kNumbers = kBarriers + (4 * kStages + 4) * 8;  // of the pieces in kQuery
  static constexpr int kBytes = kNumbers + 2 * 4 + 1024;
};

struct Barriers {
  uint64_t keys_full[kStages];
  uint64_t keys_empty[kStages];
  uint64_t values_full[kStages];
  uint64_t values_empty[kStages];
  uint64_t query_full[2];
  uint64_t query_empty[2];
};

struct Params {
  SoftmaxForwardMaps maps;
  SoftmaxCudaProblem p;
  float* lse;
  int32_t* taken;  // pieces, beside the first of each block
  int pieces;
  int together;  // heads whose pieces are mixed
};

// A piece of work: some queries of a head.
template <int kWidth>
struct Piece {
  __device__ Piece(const Params& params, int number) {
    const SoftmaxCudaProblem& p = params.p;
    constexpr int kQueries = Layout<kWidth>::kQueries;
    const int blocks = (p.queries + kQueries - 1) / kQueries;
    const int first_head = number / (blocks * params.together) * params.together;
    const int heads = min(params.together, p.batch * p.heads - first_head);
    const int rest = number - first_head * blocks;
    head = (first_head + rest % heads) % p.heads;
    batch = (first_head + rest % heads) / p.heads;
    query = (blocks - 1 - rest / heads) * kQueries;
    keys = KeysOfQueries(p, query, min(query + kQueries, p.queries), kBlockKeys);
    tiles = (keys.end - keys.begin + kBlockKeys - 1) / kBlockKeys;
  }
  int head;
  int batch;
  int query;
  Range keys;
  int tiles;
};

// ---- Loading

template <int kWidth>
__device__ void LoadTile(const CUtensorMap& map, uint8_t* to, uint64_t* full, int head, int token,
                         int batch) {
  hopper::ArriveExpecting(full, Layout<kWidth>::kKeyBytes);
#pragma unroll
  for (int c = 0; c < kWidth / 64; ++c) {
    hopper::LoadBox(map, to + c * TileBytes(kBlockKeys), full, 64 * c, head, token, batch);
  }
}

template <int kWidth>
__device__ void LoadPieces(const Params& params, uint8_t* shared, Barriers* barriers) {
  using L = Layout<kWidth>;
  auto* const numbers = reinterpret_cast<int*>(shared + L::kNumbers);
  hopper::RingPlace<2> query;
  hopper::RingPlace<kStages> ring;
  for (auto number = static_cast<int>(blockIdx.x);;
       number = static_cast<int>(gridDim.x) + atomicAdd(params.taken, 1)) {
    hopper::AwaitPhase(&barriers->query_empty[query.stage], query.parity ^ 1);
    uint64_t* const full = &barriers->query_full[query.stage];
    numbers[query.stage] = number;
    if (number >= params.pieces) {
      hopper::Arrive(full);
      return;
    }
    const Piece<kWidth> piece(params, number);
    const int kv_head = piece.head / (params.p.heads / params.p.kv_heads);
    hopper::ArriveExpecting(full, L::kQueryBytes);
    for (int i = 0; i < L::kGroups * (kWidth / 64); ++i) {
      hopper::LoadBox(params.maps.q,
                      shared + L::kQuery + query.stage * L::kQueryBytes + i * TileBytes(64), full,
                      i % (kWidth / 64) * 64, piece.head, piece.query + i / (kWidth / 64) * 64,
                      piece.batch);
    }
    query.Advance();
    for (int tile = 0; tile < piece.tiles; ++tile) {
      const int key = piece.keys.begin + tile * kBlockKeys;
      const int to = ring.stage * L::kKeyBytes;
      hopper::AwaitPhase(&barriers->keys_empty[ring.stage], ring.parity ^ 1);
      LoadTile<kWidth>(params.maps.k, shared + L::kKeys + to, &barriers->keys_full[ring.stage],
                       kv_head, key, piece.batch);
      hopper::AwaitPhase(&barriers->values_empty[ring.stage], ring.parity ^ 1);
      LoadTile<kWidth>(params.maps.v, shared + L::kValues + to, &barriers->values_full[ring.stage],
                       kv_head, key, piece.batch);
      ring.Advance();
    }
  }
}

// ---- Computing

template <int kWidth>
__device__ inline void MultiplyKeys(float (&x)[64], const uint8_t* queries, const uint8_t* keys) {
  queries = hopper::Anew(queries);
  keys = hopper::Anew(keys);
#pragma unroll
  for (int s = 0; s < kWidth / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(
        x, hopper::RowsTile(queries + s / 4 * TileBytes(64), s % 4),
        hopper::RowsTile(keys + s / 4 * TileBytes(kBlockKeys), s % 4), s > 0);
  }
}

template <int kWidth>
__device__ inline void AddValues(float (&o)[kWidth / 2], const uint32_t (&weights)[8][4],
                                 const uint8_t* values, bool keep) {
  values = hopper::Anew(values);
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    hopper::Multiply<Rows::kAreK>(
        o, weights[s], hopper::ColumnsTile(values, s, TileBytes(kBlockKeys)), keep || s > 0);
  }
}

__device__ inline float PowerOfTwo(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Where a thread's accumulators lie: rows `row` and row + 8, columns 8 j + column and the next.
struct Place {
  int row;
  int column;
  __device__ Place()
      : row(static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4),
        column(static_cast<int>(threadIdx.x) % 4 * 2) {}
};

__device__ inline void ClearUnseen(float (&x)[64], const SoftmaxCudaProblem& p, int query, int key,
                                   const Place& at) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Range seen = VisibleKeys(p, query + at.row + 8 * r);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int column = key + i / 2 * 8 + at.column + i % 2;
      if (column < seen.begin || column >= seen.end) x[i / 2 * 4 + 2 * r + i % 2] = kNothing;
    }
  }
}

// Of the two rows of a thread.
struct RowState {
  float largest[2] = {kNothing, kNothing};  // of logits times log2(e)
  float sum[2] = {0, 0};                    // of this thread's exponentials
};

// x becomes exponentials over the largest logit so far; `fade`: what earlier ones are now.
__device__ inline void Exponentiate(float (&x)[64], float scale, RowState& state,
                                    float (&fade)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = kNothing;
#pragma unroll
    for (int i = 0; i < 32; ++i) largest = fmaxf(largest, x[i / 2 * 4 + 2 * r + i % 2]);
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 2));
    largest = fmaxf(state.largest[r], largest * scale);
    const float shift = largest == kNothing ? 0.0F : largest;
    fade[r] = PowerOfTwo(state.largest[r] - shift);
    state.largest[r] = largest;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float& e = x[i / 2 * 4 + 2 * r + i % 2];
      e = PowerOfTwo(fmaf(e, scale, -shift));
      sum += e;
    }
    state.sum[r] = state.sum[r] * fade[r] + sum;
  }
}

template <int kCount>
__device__ inline void ScaleRows(float (&o)[kCount], const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= factors[i % 4 / 2];
}

// o of 64 queries, not yet divided by its sums.
template <int kWidth>
__device__ void AttendPiece(const Params& params, const Piece<kWidth>& piece, int query,
                            const uint8_t* queries, const uint8_t* shared, Barriers* barriers,
                            hopper::RingPlace<kStages>& ring, RowState& state,
                            float (&o)[kWidth / 2]) {
  using L = Layout<kWidth>;
  const Place at;
  const SoftmaxCudaProblem& p = params.p;
  const float scale = p.scale * kLog2E;
  uint32_t weights[8][4];
  hopper::RingPlace<kStages> values = ring;
  // Those that any of these queries sees; at least one, and the first of them are never beyond.
  const int end = VisibleKeys(p, query + 63).end;
  const int tiles =
      max(1, min(piece.tiles, (end - piece.keys.begin + kBlockKeys - 1) / kBlockKeys));
  for (int tile = 0; tile < tiles; ++tile) {
    float x[64];
    hopper::AwaitPhase(&barriers->keys_full[ring.stage], ring.parity);
    hopper::StartProducts();
    MultiplyKeys<kWidth>(x, queries, shared + L::kKeys + ring.stage * L::kKeyBytes);
    hopper::CommitProducts();
    if (tile > 0) {
      hopper::AwaitPhase(&barriers->values_full[values.stage], values.parity);
      hopper::StartProducts();
      AddValues<kWidth>(o, weights, shared + L::kValues + values.stage * L::kKeyBytes, tile > 1);
      hopper::CommitProducts();
      hopper::AwaitProducts<1>();
    } else {
      hopper::AwaitProducts<0>();
    }
    hopper::Settle(x);
    hopper::ArriveTogether(&barriers->keys_empty[ring.stage]);
    ring.Advance();
    const int key = piece.keys.begin + tile * kBlockKeys;
    if (!AllVisible(p, query, query + 64, key, key + kBlockKeys)) {
      ClearUnseen(x, p, query, key, at);
    }
    float fade[2];
    Exponentiate(x, scale, state, fade);
    if (tile > 0) {
      hopper::AwaitProducts<0>();
      hopper::Settle(o);
      hopper::ArriveTogether(&barriers->values_empty[values.stage]);
      values.Advance();
      ScaleRows(o, fade);
    }
    hopper::ToOperand(weights, x);
  }
  hopper::AwaitPhase(&barriers->values_full[values.stage], values.parity);
  hopper::StartProducts();
  AddValues<kWidth>(o, weights, shared + L::kValues + values.stage * L::kKeyBytes, tiles > 1);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(o);
  hopper::ArriveTogether(&barriers->values_empty[values.stage]);
  // What only others see is given back unread, but not before it is there: a barrier counts one use
  // at a time.
  for (int tile = tiles; tile < piece.tiles; ++tile) {
    hopper::AwaitPhase(&barriers->keys_full[ring.stage], ring.parity);
    hopper::ArriveTogether(&barriers->keys_empty[ring.stage]);
    ring.Advance();
    values.Advance();
    hopper::AwaitPhase(&barriers->values_full[values.stage], values.parity);
    hopper::ArriveTogether(&barriers->values_empty[values.stage]);
  }
}

// Divides o by its sums and sends it on its way from `place`, the group's 64 rows.
template <int kWidth>
__device__ void StorePiece(const Params& params, const Piece<kWidth>& piece, int query, int group,
                           uint8_t* place, RowState& state, float (&o)[kWidth / 2]) {
  const Place at;
  const SoftmaxCudaProblem& p = params.p;
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, 2);
    inverse[r] = sum > 0 ? 1 / sum : 0.0F;
    const int row = query + at.row + 8 * r;
    if (threadIdx.x % 4 == 0 && row < p.queries) {
      params.lse[(int64_t{piece.batch} * p.heads + piece.head) * p.queries + row] =
          sum > 0 ? (state.largest[r] + log2f(sum)) * kLn2 : kNothing;
    }
  }
  ScaleRows(o, inverse);
  uint32_t operand[kWidth / 16][4];
  hopper::ToOperand(operand, o);
#pragma unroll
  for (int s = 0; s < kWidth / 16; ++s) {
    hopper::StorePlain(place + s / 4 * TileBytes(64), s % 4 * 16, operand[s]);
  }
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + group, kGroup);
  if (threadIdx.x % kGroup == 0) {
#pragma unroll
    for (int c = 0; c < kWidth / 64; ++c) {
      hopper::StoreBox(params.maps.o, place + c * TileBytes(64), 64 * c, piece.head, query,
                       piece.batch);
    }
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
  }
}

template <int kWidth>
__device__ void ComputePieces(const Params& params, uint8_t* shared, Barriers* barriers,
                              int group) {
  using L = Layout<kWidth>;
  const auto* const numbers = reinterpret_cast<const int*>(shared + L::kNumbers);
  hopper::RingPlace<2> place;
  hopper::RingPlace<kStages> ring;
  for (;;) {
    hopper::AwaitPhase(&barriers->query_full[place.stage], place.parity);
    const int number = numbers[place.stage];
    if (number >= params.pieces) return;
    const Piece<kWidth> piece(params, number);
    const int query = piece.query + 64 * group;
    uint8_t* const queries =
        shared + L::kQuery + place.stage * L::kQueryBytes + group * L::kGroupBytes;
    RowState state;
    float o[kWidth / 2];
    AttendPiece<kWidth>(params, piece, query, queries, shared, barriers, ring, state, o);
    StorePiece<kWidth>(params, piece, query, group, queries, state, o);
    if (threadIdx.x % kGroup == 0) hopper::Arrive(&barriers->query_empty[place.stage]);
    place.Advance();
  }
}

template <int kWidth>
__global__ void __launch_bounds__(Layout<kWidth>::kThreads, 1)
    ForwardKernel(const __grid_constant__ Params params) {
  using L = Layout<kWidth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = raw + (1024 - hopper::SharedAddress(raw) % 1024) % 1024;
  auto* const barriers = reinterpret_cast<Barriers*>(shared + L::kBarriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(&barriers->keys_full[i], 1);
      hopper::InitBarrier(&barriers->values_full[i], 1);
      hopper::InitBarrier(&barriers->keys_empty[i], L::kGroups * 4);
      hopper::InitBarrier(&barriers->values_empty[i], L::kGroups * 4);
    }
    for (int i = 0; i < 2; ++i) {
      hopper::InitBarrier(&barriers->query_full[i], 1);
      hopper::InitBarrier(&barriers->query_empty[i], L::kGroups);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    hopper::ShrinkRegisters<L::kLoadRegisters>();
    if (threadIdx.x == 0) LoadPieces<kWidth>(params, shared, barriers);
  } else {
    hopper::GrowRegisters<L::kRegisters>();
    ComputePieces<kWidth>(params, shared, barriers, static_cast<int>(threadIdx.x) / kGroup - 1);
  }
}

template <int kWidth>
cudaError_t Launch(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                   const SoftmaxForwardMaps& maps, int32_t* taken, float* lse) {
  using L = Layout<kWidth>;
  // Half of the L2 cache for keys and values; which order pieces come in changes no bit.
  constexpr int64_t kCached = 24 << 20;
  const int64_t heads = int64_t{p.batch} * p.heads;
  const int64_t fitting = kCached / (int64_t{p.keys} * kWidth * 4);
  const int64_t blocks = (p.queries + L::kQueries - 1) / L::kQueries;
  const Params params{maps,
                      p,
                      lse,
                      taken,
                      static_cast<int>(blocks * heads),
                      static_cast<int>(fitting < 1       ? 1
                                       : fitting < heads ? fitting
                                                         : heads)};
  const int grid = params.pieces < on.multiprocessors ? params.pieces : on.multiprocessors;
  return LaunchShared(ForwardKernel<kWidth>, static_cast<unsigned>(grid), L::kThreads, L::kBytes,
                      on.stream, params);
}

}  // namespace

cudaError_t LaunchSoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                 const SoftmaxForwardMaps& maps, int32_t* taken, float* lse) {
  return p.head_dim == 64 ? Launch<64>(on, p, maps, taken, lse)
                          : Launch<128>(on, p, maps, taken, lse);
}

}  // namespace weft::kernels::sm90

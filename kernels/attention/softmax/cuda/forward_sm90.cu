// softmax_sm90.h, forward (Dao et al. 2024, "FlashAttention-3", section 3): a block has 64 queries
// of a head for each of its computing warpgroups; tiles of 128 keys pass by, loaded by a warpgroup
// of its own. A warpgroup makes the logits of the next tile while it takes the exponentials of this
// one, so that the tensor cores have something to do.
//
// A block stays and takes one piece of work after the other, whichever is next: the longest first
// among heads whose keys and values fit into the L2 cache together.
#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/hopper.cuh"

namespace weft::kernels::sm90 {
namespace {

using hopper::TileBytes;
using softmax_tiles::KeysOfQueries;
using softmax_tiles::kLn2;
using softmax_tiles::kLog2E;
using softmax_tiles::PowerOfTwo;
using softmax_tiles::Range;
using softmax_tiles::VisibleKeys;

constexpr int kMostStages = 3;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr float kNothing = -INFINITY;

// kComputing warpgroups with 64 queries each.
template <int kHeadWidth, int kComputing>
struct Layout {
  static constexpr int kWidth = kHeadWidth;
  static constexpr int kStages = kWidth == 64 ? 3 : 2;
  static constexpr int kGroups = kComputing;
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
  static constexpr int kNumbers = kBarriers + (4 * kMostStages + 4) * 8;  // of the pieces in kQuery
  static constexpr int kBytes = kNumbers + 2 * 4 + kSharedSlack;
};

struct Barriers {
  uint64_t keys_full[kMostStages];
  uint64_t keys_empty[kMostStages];
  uint64_t values_full[kMostStages];
  uint64_t values_empty[kMostStages];
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
template <typename L>
struct Piece {
  __device__ Piece(const Params& params, int number) {
    const SoftmaxCudaProblem& p = params.p;
    constexpr int kQueries = L::kQueries;
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

template <typename L>
__device__ void LoadTile(const CUtensorMap& map, uint8_t* to, uint64_t* full, int head, int token,
                         int batch) {
  hopper::ArriveExpecting(full, L::kKeyBytes);
#pragma unroll
  for (int c = 0; c < L::kWidth / 64; ++c) {
    hopper::LoadBox(map, to + c * TileBytes(kBlockKeys), full, 64 * c, head, token, batch);
  }
}

template <typename L>
__device__ void LoadPieces(const Params& params, uint8_t* shared, Barriers* barriers) {
  auto* const numbers = reinterpret_cast<int*>(shared + L::kNumbers);
  hopper::RingPlace<2> query;
  hopper::RingPlace<L::kStages> ring;
  for (auto number = static_cast<int>(blockIdx.x);;
       number = static_cast<int>(gridDim.x) + atomicAdd(params.taken, 1)) {
    hopper::AwaitPhase(&barriers->query_empty[query.stage], query.parity ^ 1);
    uint64_t* const full = &barriers->query_full[query.stage];
    numbers[query.stage] = number;
    if (number >= params.pieces) {
      hopper::Arrive(full);
      return;
    }
    const Piece<L> piece(params, number);
    const int kv_head = piece.head / (params.p.heads / params.p.kv_heads);
    hopper::ArriveExpecting(full, L::kQueryBytes);
    for (int i = 0; i < L::kGroups * (L::kWidth / 64); ++i) {
      hopper::LoadBox(params.maps.q,
                      shared + L::kQuery + query.stage * L::kQueryBytes + i * TileBytes(64), full,
                      i % (L::kWidth / 64) * 64, piece.head,
                      piece.query + i / (L::kWidth / 64) * 64, piece.batch);
    }
    query.Advance();
    for (int tile = 0; tile < piece.tiles; ++tile) {
      const int key = piece.keys.begin + tile * kBlockKeys;
      const int to = ring.stage * L::kKeyBytes;
      hopper::AwaitPhase(&barriers->keys_empty[ring.stage], ring.parity ^ 1);
      LoadTile<L>(params.maps.k, shared + L::kKeys + to, &barriers->keys_full[ring.stage], kv_head,
                  key, piece.batch);
      hopper::AwaitPhase(&barriers->values_empty[ring.stage], ring.parity ^ 1);
      LoadTile<L>(params.maps.v, shared + L::kValues + to, &barriers->values_full[ring.stage],
                  kv_head, key, piece.batch);
      ring.Advance();
    }
  }
}

// ---- Computing

template <typename L>
__device__ inline void MultiplyKeys(float (&x)[64], hopper::Tiles queries, hopper::Tiles keys) {
#pragma unroll
  for (int s = 0; s < L::kWidth / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(
        x, hopper::RowsTile(queries + s / 4 * TileBytes(64), s % 4),
        hopper::RowsTile(keys + s / 4 * TileBytes(kBlockKeys), s % 4), s > 0);
  }
}

template <typename L>
__device__ inline void AddValues(float (&o)[L::kWidth / 2], const uint32_t (&weights)[8][4],
                                 hopper::Tiles values, bool keep) {
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    hopper::Multiply<Rows::kAreK>(
        o, weights[s], hopper::ColumnsTile(values, s, TileBytes(kBlockKeys)), keep || s > 0);
  }
}

__device__ inline void ClearUnseen(float (&x)[64], const SoftmaxCudaProblem& p, int query, int key,
                                   const Place& at) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Range seen = VisibleKeys(p, query + at.row + 8 * r);
    const int begin = seen.begin - key - at.column;
    const int end = seen.end - key - at.column;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (i / 2 * 8 + i % 2 >= end) x[i / 2 * 4 + 2 * r + i % 2] = kNothing;
    }
    if (p.window == 0) continue;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (i / 2 * 8 + i % 2 < begin) x[i / 2 * 4 + 2 * r + i % 2] = kNothing;
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
  float largest[2][2];  // of even and of odd columns, so that not every step waits for the last
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    float& of = largest[i % 4 / 2][i % 2];
    of = i < 4 ? x[i] : fmaxf(of, x[i]);
  }
  float shift[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float most = fmaxf(largest[r][0], largest[r][1]);
    most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFF, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFF, most, 2));
    most = fmaxf(state.largest[r], most * scale);
    shift[r] = most == kNothing ? 0.0F : most;
    fade[r] = PowerOfTwo(state.largest[r] - shift[r]);
    state.largest[r] = most;
    state.sum[r] *= fade[r];
  }
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int r = i % 4 / 2;
    x[i] = PowerOfTwo(fmaf(x[i], scale, -shift[r]));
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) sum += x[i / 2 * 4 + 2 * r + i % 2];
    state.sum[r] += sum;
  }
}

template <int kCount>
__device__ inline void ScaleRows(float (&o)[kCount], const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= factors[i % 4 / 2];
}

// Begins the logits of the tile of keys that is next.
template <typename L>
__device__ inline void StartLogits(float (&x)[64], hopper::Tiles queries, hopper::Tiles shared,
                                   Barriers* barriers, const hopper::RingPlace<L::kStages>& ring) {
  hopper::AwaitPhase(&barriers->keys_full[ring.stage], ring.parity);
  hopper::StartProducts();
  MultiplyKeys<L>(x, queries, shared + (L::kKeys + ring.stage * L::kKeyBytes));
  hopper::CommitProducts();
}

// Gives the tile of keys back; the logits are done.
template <typename L>
__device__ inline void EndLogits(float (&x)[64], Barriers* barriers,
                                 hopper::RingPlace<L::kStages>& ring) {
  hopper::Settle(x);
  hopper::ArriveTogether(&barriers->keys_empty[ring.stage]);
  ring.Advance();
}

// o of 64 queries, not yet divided by its sums.
template <typename L>
__device__ void AttendPiece(const Params& params, const Piece<L>& piece, int group,
                            hopper::Tiles queries, hopper::Tiles shared, Barriers* barriers,
                            hopper::RingPlace<L::kStages>& ring, RowState& state,
                            float (&o)[L::kWidth / 2]) {
  const Place at;
  const SoftmaxCudaProblem& p = params.p;
  const float scale = p.scale * kLog2E;
  const int query = piece.query + 64 * group;
  const int first = piece.keys.begin;
  // Those that any of these queries sees; at least one, and the first of them are never beyond.
  const int tiles = max(
      1, min(piece.tiles, (VisibleKeys(p, query + 63).end - first + kBlockKeys - 1) / kBlockKeys));
  // Those that all see whole.
  const int whole = (VisibleKeys(p, query + 63).begin - first + kBlockKeys - 1) / kBlockKeys;
  const int beyond = (VisibleKeys(p, query).end - first) / kBlockKeys;
  uint32_t weights[8][4];
  float x[64];
  float fade[2];
  hopper::RingPlace<L::kStages> values = ring;

  StartLogits<L>(x, queries, shared, barriers, ring);
  hopper::AwaitProducts<0>();
  EndLogits<L>(x, barriers, ring);
  if (whole > 0 || beyond <= 0) ClearUnseen(x, p, query, first, at);
  Exponentiate(x, scale, state, fade);
  hopper::ToOperand(weights, x);
  for (int tile = 1; tile < tiles; ++tile) {
    StartLogits<L>(x, queries, shared, barriers, ring);
    hopper::AwaitPhase(&barriers->values_full[values.stage], values.parity);
    hopper::StartProducts();
    AddValues<L>(o, weights, shared + (L::kValues + values.stage * L::kKeyBytes), tile > 1);
    hopper::CommitProducts();
    hopper::AwaitProducts<1>();
    EndLogits<L>(x, barriers, ring);
    if (tile < whole || tile >= beyond) {
      ClearUnseen(x, p, query, first + tile * kBlockKeys, at);
    }
    Exponentiate(x, scale, state, fade);
    hopper::AwaitProducts<0>();
    hopper::Settle(o);
    hopper::ArriveTogether(&barriers->values_empty[values.stage]);
    values.Advance();
    ScaleRows(o, fade);
    hopper::ToOperand(weights, x);
  }
  hopper::AwaitPhase(&barriers->values_full[values.stage], values.parity);
  hopper::StartProducts();
  AddValues<L>(o, weights, shared + (L::kValues + values.stage * L::kKeyBytes), tiles > 1);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(o);
  hopper::ArriveTogether(&barriers->values_empty[values.stage]);
  // What only others see is given back unread, but not before it is there: a barrier counts one use
  // at a time.
#pragma unroll 1
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
template <typename L>
__device__ void StorePiece(const Params& params, const Piece<L>& piece, int query, int group,
                           uint8_t* place, RowState& state, float (&o)[L::kWidth / 2]) {
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
  uint32_t operand[L::kWidth / 16][4];
  hopper::ToOperand(operand, o);
#pragma unroll
  for (int s = 0; s < L::kWidth / 16; ++s) {
    hopper::StorePlain(place + s / 4 * TileBytes(64), s % 4 * 16, operand[s]);
  }
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + group, kGroup);
  if (threadIdx.x % kGroup == 0) {
#pragma unroll
    for (int c = 0; c < L::kWidth / 64; ++c) {
      hopper::StoreBox(params.maps.o, place + c * TileBytes(64), 64 * c, piece.head, query,
                       piece.batch);
    }
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
  }
}

template <typename L>
__device__ void ComputePieces(const Params& params, uint8_t* shared, Barriers* barriers,
                              int group) {
  const auto* const numbers = reinterpret_cast<const int*>(shared + L::kNumbers);
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  hopper::RingPlace<2> place;
  hopper::RingPlace<L::kStages> ring;
  for (;;) {
    hopper::AwaitPhase(&barriers->query_full[place.stage], place.parity);
    const int number = __shfl_sync(0xFFFFFFFF, numbers[place.stage], 0);
    if (number >= params.pieces) return;
    const Piece<L> piece(params, number);
    const int query = piece.query + 64 * group;
    const int queries = L::kQuery + place.stage * L::kQueryBytes + group * L::kGroupBytes;
    RowState state;
    float o[L::kWidth / 2];
    AttendPiece<L>(params, piece, group, tiles + queries, tiles, barriers, ring, state, o);
    StorePiece<L>(params, piece, query, group, shared + queries, state, o);
    if (threadIdx.x % kGroup == 0) hopper::Arrive(&barriers->query_empty[place.stage]);
    place.Advance();
  }
}

template <typename L>
__global__ void __launch_bounds__(L::kThreads, 1)
    ForwardKernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  auto* const barriers = reinterpret_cast<Barriers*>(shared + L::kBarriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < L::kStages; ++i) {
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
    if (threadIdx.x == 0) LoadPieces<L>(params, shared, barriers);
  } else {
    hopper::GrowRegisters<L::kRegisters>();
    ComputePieces<L>(params, shared, barriers,
                     __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / kGroup - 1, 0));
  }
}

template <typename L>
cudaError_t Launch(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                   const SoftmaxForwardMaps& maps, int32_t* taken, float* lse) {
  // Half of the L2 cache for keys and values; which order pieces come in changes no bit.
  constexpr int64_t kCached = 24 << 20;
  const int64_t heads = int64_t{p.batch} * p.heads;
  const int64_t fitting = kCached / (int64_t{p.keys} * L::kWidth * 4);
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
  return LaunchShared(ForwardKernel<L>, static_cast<unsigned>(grid), L::kThreads, L::kBytes,
                      on.stream, params);
}

}  // namespace

cudaError_t LaunchSoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                 const SoftmaxForwardMaps& maps, int32_t* taken, float* lse) {
  if (p.head_dim == 128) return Launch<Layout<128, 2>>(on, p, maps, taken, lse);
  // Pieces of 192 queries, three warpgroups' to cover each other's exponentials, waste an eighth of
  // a thousand.
  return p.queries <= 1024 ? Launch<Layout<64, 2>>(on, p, maps, taken, lse)
                           : Launch<Layout<64, 3>>(on, p, maps, taken, lse);
}

}  // namespace weft::kernels::sm90

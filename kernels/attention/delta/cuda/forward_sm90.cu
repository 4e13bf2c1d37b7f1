// The pass `forward` of chunk_record.h: chunk after chunk, for 64 values of a head in a warpgroup,
//
//   X = V - K S    E = X - R (Bd X)    N = Bd E    O = Q S + P N    S <- S + K^T N
//
// all transposed (values are rows). One warp keeps a ring of chunks loaded.
#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/delta_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct ForwardParams {
  DeltaForwardMaps maps;
  const uint8_t* records;
  const float* initial_state;
  float* final_state;
  float* saved_state;
  int heads;
  int chunks;
  int value_dim;
  int ahead;
  bool keep_errors;
};

// kSlices: of 64 values, a warpgroup each. kDepth: chunks in shared memory.
template <int kKey, int kSlices, int kDepth>
struct ForwardLayout {
  static constexpr int kStages = kDepth;
  // With two slices, registers come from a warpgroup that loads and needs none.
  static constexpr bool kMoveRegisters = kSlices == 2;
  static constexpr int kThreads = kSlices * 128 + (kMoveRegisters ? 128 : 32);
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kLoadedBytes = 2 * kKeyBytes + kRecordBytes + kSlices * kTileBytes;
  // Offsets in a stage.
  static constexpr int kQ = kKeyBytes;
  static constexpr int kV = 2 * kKeyBytes;
  static constexpr int kRecord = kV + kSlices * kTileBytes;
  static constexpr int kStageBytes = kRecord + 2 * kSquareBytes + 1024;
  // Then what is stored: E and O of every slice.
  static constexpr int kStored = kStages * kStageBytes;
  static constexpr int kBarriers = kStored + kSlices * 2 * kTileBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSharedSlack;
  static constexpr int kBlocks =  // of a multiprocessor
      !kMoveRegisters && kSharedBytes * 2 <= 227 * 1024 ? 2 : 1;
};

// Where a block works.
struct Work {
  __device__ Work(int heads, int groups, int slices)
      : head(blockIdx.x / groups % heads),
        batch(blockIdx.x / groups / heads),
        first_slice(blockIdx.x % groups * slices) {}
  int head;
  int batch;
  int first_slice;
};

template <int kKey, int kSlices, int kDepth>
__device__ void LoadChunks(const ForwardParams& params, uint8_t* shared, uint64_t* full,
                           uint64_t* empty, const Work& work) {
  using Layout = ForwardLayout<kKey, kSlices, kDepth>;
  const uint8_t* record = params.records + (int64_t{work.batch} * params.heads + work.head) *
                                               params.chunks * int64_t{kRecordBytes};
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = 0; chunk < params.chunks; ++chunk) {
    uint8_t* const stage = shared + place.stage * Layout::kStageBytes;
    uint64_t* const barrier = full + place.stage;
    const int token = chunk * kDeltaCudaChunk;
    hopper::AwaitPhase(empty + place.stage, place.parity ^ 1);
    hopper::ArriveExpecting(barrier, Layout::kLoadedBytes);
    LoadTiles<kKey>(params.maps.k, stage, barrier, work.head, token, work.batch);
    for (int i = 0; i < kSlices; ++i) {
      hopper::LoadBox(params.maps.v, stage + Layout::kV + i * kTileBytes, barrier,
                      64 * (work.first_slice + i), work.head, token, work.batch);
    }
    hopper::LoadBytes(stage + Layout::kRecord, record, kRecordBytes, barrier);
    LoadTiles<kKey>(params.maps.q, stage + Layout::kQ, barrier, work.head, token, work.batch);
    if (params.ahead > 0 && chunk + params.ahead < params.chunks) {
      const int later = token + params.ahead * kDeltaCudaChunk;
      PrefetchTiles<kKey>(params.maps.k, work.head, later, work.batch);
      for (int i = 0; i < kSlices; ++i) {
        hopper::PrefetchBox(params.maps.v, 64 * (work.first_slice + i), work.head, later,
                            work.batch);
      }
      hopper::PrefetchBytes(record + int64_t{params.ahead} * kRecordBytes, kRecordBytes);
      PrefetchTiles<kKey>(params.maps.q, work.head, later, work.batch);
    }
    record += kRecordBytes;
    place.Advance();
  }
}

// V^T of a slice.
__device__ void LoadValues(float (&x)[32], const uint8_t* tile) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    uint32_t piece[4];
    hopper::LoadTransposed(piece, tile, 16 * s);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[8 * s + 2 * i] = hopper::LowOf(piece[i]);
      x[8 * s + 2 * i + 1] = hopper::HighOf(piece[i]);
    }
  }
}

// What a warpgroup keeps from chunk to chunk.
template <int kKey>
struct Carried {
  float s[kKey / 2];
  uint32_t state[kKey / 16][4];  // s as an operand
  float x[32];                   // V^T of the chunk, at its start
  uint32_t o[4][4];              // O^T of the chunk, at its end, rounded
};

// Where it leaves E and O for the copy engine.
struct Stored {
  uint8_t* errors;
  uint8_t* o;
};

// One chunk. Three products wait for each other, K S, R (Bd X) and K^T N; those of O fill the time
// in which their results are read, scaled and rounded. `store_last` sends out the chunk before
// while K S is made; `load_next` brings the next V into x while P N is made.
template <typename Layout, int kKey, typename StoreLast, typename LoadNext>
__device__ void ForwardChunk(Carried<kKey>& carried, hopper::Tiles k_tiles, const float* beta,
                             const Stored& stored, bool keep_errors, const Place& at,
                             const StoreLast& store_last, const LoadNext& load_next) {
  constexpr int kSteps = kKey / 16;
  const hopper::Tiles q_tiles = k_tiles + Layout::kQ;
  const hopper::Tiles r_tile = k_tiles + Layout::kRecord;
  const hopper::Tiles p_tile = r_tile + kSquareBytes;
  auto& [s, state, x, rounded_o] = carried;
  float o[32];
  hopper::Settle(x);
  hopper::StartProducts();
  MultiplyRows<kSteps, -1>(x, state, k_tiles);
  hopper::CommitProducts();
  store_last();
  hopper::StartProducts();
  MultiplyRows<kSteps, 1, 0, kSteps / 2>(o, state, q_tiles, false);
  hopper::CommitProducts();
  hopper::AwaitProducts<1>();
  hopper::Settle(x);

  uint32_t pairs[4][4];
  {
    float scaled[32];
#pragma unroll
    for (int i = 0; i < 32; ++i) scaled[i] = x[i];
    ScaleColumns(scaled, beta, at);
    hopper::ToOperand(pairs, scaled);
  }
  hopper::StartProducts();
  MultiplyRows<4, -1>(x, pairs, r_tile);
  hopper::CommitProducts();
  MultiplyRows<kSteps, 1, kSteps / 2, kSteps>(o, state, q_tiles);
  hopper::CommitProducts();
  hopper::AwaitProducts<1>();
  hopper::Settle(x);

  uint32_t errors[4][4];
  uint32_t news[4][4];
  hopper::ToOperand(errors, x);
  ScaledOperand(news, errors, beta, at);
  hopper::StartProducts();
  MultiplyColumns(s, news, k_tiles);
  hopper::CommitProducts();
  MultiplyRows<4>(o, news, p_tile);
  hopper::CommitProducts();
  // Meanwhile: the last chunk's stores have been read.
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
  hopper::MeetThreads(1 + threadIdx.x / 128, 128);
  if (keep_errors) {
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::StoreTransposed(stored.errors, 16 * i, errors[i]);
  }
  hopper::AwaitProducts<1>();
  hopper::Settle(s);
  hopper::ToOperand(state, s);
  load_next();
  hopper::AwaitProducts<0>();
  hopper::Settle(o);
  hopper::ToOperand(rounded_o, o);
}

template <int kKey, int kSlices, int kDepth>
__device__ void ComputeChunks(const ForwardParams& params, uint8_t* shared, uint64_t* full,
                              uint64_t* empty, const Work& work) {
  using Layout = ForwardLayout<kKey, kSlices, kDepth>;
  const Place at;
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  const int group = threadIdx.x / 128;
  const int slice = work.first_slice + group;
  const int64_t state_place =
      (int64_t{work.batch} * params.heads + work.head) * kKey * params.value_dim + 64 * slice;
  const auto state_at = [&](auto* state) {
    return state == nullptr ? nullptr : state + state_place;
  };
  uint8_t* const places = shared + Layout::kStored + group * 2 * kTileBytes;
  const Stored stored{places, places + kTileBytes};
  Carried<kKey> carried;
  const auto store = [&](int chunk) {
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::StoreTransposed(stored.o, 16 * i, carried.o[i]);
    hopper::FenceForEngines();
    hopper::MeetThreads(1 + group, 128);
    if (threadIdx.x % 128 != 0 || chunk < 0) return;
    const int token = chunk * kDeltaCudaChunk;
    if (params.keep_errors) {
      hopper::StoreBox(params.maps.errors, stored.errors, 64 * slice, work.head, token, work.batch);
    }
    hopper::StoreBox(params.maps.o, stored.o, 64 * slice, work.head, token, work.batch);
    hopper::CommitStores();
  };
  const auto load = [&](int stage, uint32_t parity, bool any) {
    if (any) hopper::AwaitPhase(full + stage, parity);
    LoadValues(carried.x, shared + stage * Layout::kStageBytes + Layout::kV + group * kTileBytes);
  };

  LoadState<kKey>(carried.s, state_at(params.initial_state), params.value_dim, at);
  hopper::ToOperand(carried.state, carried.s);
  load(0, 0, true);
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = 0; chunk < params.chunks; ++chunk) {
    const int stage = place.stage;
    place.Advance();
    ForwardChunk<Layout, kKey>(
        carried, tiles + stage * Layout::kStageBytes,
        reinterpret_cast<const float*>(shared + stage * Layout::kStageBytes + Layout::kRecord +
                                       2 * kSquareBytes),
        stored, params.keep_errors, at, [&] { store(chunk - 1); },
        [&] { load(place.stage, place.parity, chunk + 1 < params.chunks); });
    if (threadIdx.x % 32 == 0) hopper::Arrive(empty + stage);
  }
  store(params.chunks - 1);
  StoreState<kKey>(carried.s, state_at(params.final_state), params.value_dim, at);
  StoreState<kKey>(carried.s, state_at(params.saved_state), params.value_dim, at);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kKey, int kSlices, int kDepth>
__global__ void __launch_bounds__(ForwardLayout<kKey, kSlices, kDepth>::kThreads,
                                  ForwardLayout<kKey, kSlices, kDepth>::kBlocks)
    Forward(const __grid_constant__ ForwardParams params) {
  using Layout = ForwardLayout<kKey, kSlices, kDepth>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  auto* const full = reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  uint64_t* const empty = full + Layout::kStages;
  const Work work(params.heads, params.value_dim / 64 / kSlices, kSlices);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) {
      hopper::InitBarrier(full + i, 1);
      hopper::InitBarrier(empty + i, 4 * kSlices);  // warps
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  if (threadIdx.x / 128 == kSlices) {
    if constexpr (Layout::kMoveRegisters) hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 128 == 0)
      LoadChunks<kKey, kSlices, kDepth>(params, shared, full, empty, work);
  } else {
    if constexpr (Layout::kMoveRegisters) hopper::GrowRegisters<240>();
    ComputeChunks<kKey, kSlices, kDepth>(params, shared, full, empty, work);
  }
}

template <int kKey, int kSlices, int kDepth>
cudaError_t Launch(const DeltaCudaShape& shape, ForwardParams params, cudaStream_t stream) {
  using Layout = ForwardLayout<kKey, kSlices, kDepth>;
  static_assert(Layout::kSharedBytes <= 227 * 1024);
  const int blocks = shape.batch * shape.heads * (shape.value_dim / 64 / kSlices);
  params.ahead = blocks <= kFewBlocks ? kChunksAhead : 0;
  return LaunchShared(Forward<kKey, kSlices, kDepth>, blocks, Layout::kThreads,
                      Layout::kSharedBytes, stream, params);
}

}  // namespace

cudaError_t LaunchForward(const DeltaForwardArgs& args, const DeltaForwardMaps& maps,
                          cudaStream_t stream) {
  const DeltaCudaShape& shape = args.shape;
  const ForwardParams params{maps,
                             args.records,
                             args.initial_state,
                             args.final_state,
                             args.saved_state,
                             shape.heads,
                             ChunksOf(shape),
                             shape.value_dim,
                             0,
                             args.errors != nullptr};
  // 64 x 64 fits twice into a multiprocessor with two stages, which serves many heads best.
  const bool pairs = SlicesOfBlock(shape) == 2;
  const bool few = shape.batch * shape.heads <= kManyHeads;
  if (shape.key_dim == 64) {
    if (pairs) return Launch<64, 2, 2>(shape, params, stream);
    return few ? Launch<64, 1, 4>(shape, params, stream) : Launch<64, 1, 2>(shape, params, stream);
  }
  return pairs ? Launch<128, 2, 2>(shape, params, stream)
               : Launch<128, 1, 3>(shape, params, stream);
}

}  // namespace weft::kernels::sm90

// The pass `states` of chunk_record.h: from the last chunk to the first, for 64 values of a head in
// a warpgroup, with D = dL/dS after the chunk:
//
//   dN = K D + P^T dO   Y = dN - R^T (Bd dN)   dX = Bd Y   N = Bd E
//   S <- S - K^T N      D <- D + Q^T dO - K^T dX           (y_i . e_i: the gradient of beta_i)
//
// all transposed (values are rows). D of before, S of after and dX = dV are stored. One warp keeps
// a ring of chunks loaded. N is rounded as the forward pass rounded it: the states come back as
// they were, but for fp32 sums.
#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/states_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

// kSlices: of 64 values, a warpgroup each.
template <int kKey, int kSlices>
struct StatesLayout {
  static constexpr int kStages = kSlices == 1 ? 3 : 2;
  // With two slices, registers come from a warpgroup that loads and needs none.
  static constexpr bool kMoveRegisters = kSlices == 2;
  static constexpr int kThreads = kSlices * 128 + (kMoveRegisters ? 128 : 32);
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kLoadedBytes = 2 * kKeyBytes + kRecordBytes + 2 * kSlices * kTileBytes;
  // Offsets in a stage.
  static constexpr int kQ = kKeyBytes;
  static constexpr int kOutput = 2 * kKeyBytes;  // dO
  static constexpr int kErrors = kOutput + kSlices * kTileBytes;
  static constexpr int kRecord = kErrors + kSlices * kTileBytes;
  static constexpr int kStageBytes = kRecord + 2 * kSquareBytes + 1024;
  // Then what a slice stores: dX, D and S (in the place of D where room is short), and the sums of
  // its warps for the gradient of beta.
  static constexpr bool kTwoStateStores = kKey == 64;
  static constexpr int kStoredBytes = kTileBytes + (kTwoStateStores ? 2 : 1) * kKeyBytes + 1024;
  static constexpr int kStored = kStages * kStageBytes;
  static constexpr int kBarriers = kStored + kSlices * kStoredBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSharedSlack;
};

template <int kKey, int kSlices>
__device__ void LoadChunks(const StatesParams& params, uint8_t* shared, uint64_t* full,
                           uint64_t* empty, const StatesWork& work) {
  using Layout = StatesLayout<kKey, kSlices>;
  const int64_t first = (int64_t{work.batch} * params.heads + work.head) * params.chunks;
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    uint8_t* const stage = shared + place.stage * Layout::kStageBytes;
    uint64_t* const barrier = full + place.stage;
    const int token = chunk * kDeltaCudaChunk;
    hopper::AwaitPhase(empty + place.stage, place.parity ^ 1);
    hopper::ArriveExpecting(barrier, Layout::kLoadedBytes);
    LoadTiles<kKey>(params.maps.k, stage, barrier, work.head, token, work.batch);
    hopper::LoadBytes(stage + Layout::kRecord, params.records + (first + chunk) * kRecordBytes,
                      kRecordBytes, barrier);
    for (int i = 0; i < kSlices; ++i) {
      const int column = 64 * (work.first_slice + i);
      hopper::LoadBox(params.maps.d_o, stage + Layout::kOutput + i * kTileBytes, barrier, column,
                      work.head, token, work.batch);
      hopper::LoadBox(params.maps.errors, stage + Layout::kErrors + i * kTileBytes, barrier, column,
                      work.head, token, work.batch);
    }
    LoadTiles<kKey>(params.maps.q, stage + Layout::kQ, barrier, work.head, token, work.batch);
    place.Advance();
  }
}

// Where a warpgroup keeps what it stores, and where it goes.
template <int kKey, int kSlices>
struct Stores {
  using Layout = StatesLayout<kKey, kSlices>;
  __device__ Stores(const StatesParams& params, uint8_t* shared, const StatesWork& work)
      : group(threadIdx.x / 128),
        slice(work.first_slice + group),
        leader(threadIdx.x % 128 == 0),
        dx(shared + Layout::kStored + group * Layout::kStoredBytes),
        d(dx + kTileBytes),
        s(Layout::kTwoStateStores ? d + Layout::kKeyBytes : d),
        sums(reinterpret_cast<float*>(s + Layout::kKeyBytes)),
        first((int64_t{work.batch} * params.heads + work.head) * params.chunks),
        all_chunks(int64_t{gridDim.x} / (params.value_dim / 64 / kSlices) * params.chunks) {}

  [[nodiscard]] __device__ int64_t StatePlace(const StatesParams& params, int chunk) const {
    return (first + chunk) * (int64_t{kKey} * params.value_dim * 2) +
           int64_t{slice} * Layout::kKeyBytes;
  }

  int group;
  int slice;
  bool leader;
  uint8_t* dx;
  uint8_t* d;
  uint8_t* s;
  float* sums;         // [4 warps, 64 tokens]
  int64_t first;       // chunk of this head
  int64_t all_chunks;  // of all heads
};

template <int kKey, int kSlices>
__device__ void StatesChunk(const StatesParams& params, const Stores<kKey, kSlices>& stores,
                            float (&s)[kKey / 2], float (&d)[kKey / 2], const uint8_t* stage,
                            hopper::Tiles k_tiles, int chunk, const Place& at) {
  using Layout = StatesLayout<kKey, kSlices>;
  const uint8_t* const output = stage + Layout::kOutput + stores.group * kTileBytes;
  const uint8_t* const errors = stage + Layout::kErrors + stores.group * kTileBytes;
  const auto* const beta =
      reinterpret_cast<const float*>(stage + Layout::kRecord + 2 * kSquareBytes);
  const hopper::Tiles r_tile = k_tiles + Layout::kRecord;
  const hopper::Tiles p_tile = r_tile + kSquareBytes;
  float y[32];  // dN, then Y, then dX
  {
    uint32_t gradient[kKey / 16][4];
    uint32_t output_pairs[4][4];
    hopper::ToOperand(gradient, d);
    LoadOperand(output_pairs, output);
    hopper::StartProducts();
    MultiplyRows<kKey / 16>(y, gradient, k_tiles, false);
    MultiplyColumns(y, output_pairs, p_tile);
    hopper::CommitProducts();
    // Meanwhile: D's last store has been read (and that of S, in D's place).
    if (stores.leader) hopper::AwaitStoresRead<Layout::kTwoStateStores ? 1 : 0>();
    hopper::MeetThreads(1 + stores.group, 128);
    StoreTiles(stores.d, gradient);
    hopper::FenceForEngines();
    hopper::MeetThreads(1 + stores.group, 128);
    if (stores.leader) {
      hopper::StoreBytes(params.scratch.gradients + stores.StatePlace(params, chunk), stores.d,
                         Layout::kKeyBytes);
      hopper::CommitStores();
    }
    hopper::AwaitProducts<0>();
    hopper::Settle(y);
  }
  uint32_t scaled_pairs[4][4];
  uint32_t output_pairs[4][4];
  uint32_t news[4][4];
  {
    float scaled[32];
#pragma unroll
    for (int i = 0; i < 32; ++i) scaled[i] = y[i];
    ScaleColumns(scaled, beta, at);
    hopper::ToOperand(scaled_pairs, scaled);
  }
  LoadOperand(output_pairs, output);
  LoadOperand(news, errors);
  ScaledOperand(news, news, beta, at);
  hopper::StartProducts();
  MultiplyColumns<-1>(y, scaled_pairs, r_tile);
  hopper::CommitProducts();
  MultiplyColumns(d, output_pairs, k_tiles + Layout::kQ);
  hopper::CommitProducts();
  MultiplyColumns<-1>(s, news, k_tiles);
  hopper::CommitProducts();
  // Meanwhile: the last stores out of dX and S have been read (and that of D, in S's place).
  if (stores.leader) hopper::AwaitStoresRead<Layout::kTwoStateStores ? 1 : 0>();
  hopper::MeetThreads(1 + stores.group, 128);
  hopper::AwaitProducts<2>();
  hopper::Settle(y);
  {
    uint32_t error_pairs[4][4];
    LoadOperand(error_pairs, errors);
    SumOverValues(y, error_pairs, stores.sums);
  }
  ScaleColumns(y, beta, at);
  uint32_t dx_pairs[4][4];
  hopper::ToOperand(dx_pairs, y);
  hopper::StartProducts();
  MultiplyColumns<-1>(d, dx_pairs, k_tiles);
  hopper::CommitProducts();
#pragma unroll
  for (int i = 0; i < 4; ++i) hopper::StoreTransposed(stores.dx, 16 * i, dx_pairs[i]);
  hopper::AwaitProducts<1>();
  hopper::Settle(s);
  {
    uint32_t state[kKey / 16][4];
    hopper::ToOperand(state, s);
    StoreTiles(stores.s, state);
  }
  hopper::AwaitProducts<0>();
  hopper::Settle(d);
}

template <int kKey, int kSlices>
__device__ void ComputeChunks(const StatesParams& params, uint8_t* shared, uint64_t* full,
                              uint64_t* empty, const StatesWork& work) {
  using Layout = StatesLayout<kKey, kSlices>;
  const Place at;
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  const Stores<kKey, kSlices> stores(params, shared, work);
  const int64_t state_place =
      (int64_t{work.batch} * params.heads + work.head) * kKey * params.value_dim +
      64 * stores.slice;
  const auto state_at = [&](auto* state) {
    return state == nullptr ? nullptr : state + state_place;
  };
  float s[kKey / 2];
  float d[kKey / 2];
  LoadState<kKey>(s, state_at(params.saved_state), params.value_dim, at);
  LoadState<kKey>(d, state_at(params.d_final_state), params.value_dim, at);

  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    hopper::AwaitPhase(full + place.stage, place.parity);
    const int stage = place.stage * Layout::kStageBytes;
    StatesChunk<kKey, kSlices>(params, stores, s, d, shared + stage, tiles + stage, chunk, at);
    hopper::FenceForEngines();
    hopper::MeetThreads(1 + stores.group, 128);
    if (stores.leader) {
      hopper::Arrive(empty + place.stage);
      hopper::StoreBox(params.maps.d_v, stores.dx, 64 * stores.slice, work.head,
                       chunk * kDeltaCudaChunk, work.batch);
      hopper::StoreBytes(params.scratch.states + stores.StatePlace(params, chunk), stores.s,
                         Layout::kKeyBytes);
      hopper::CommitStores();
    }
    const int thread = threadIdx.x % 128;
    if (thread < kDeltaCudaChunk) {
      const int64_t row = stores.slice * stores.all_chunks + stores.first + chunk;
      params.scratch.beta_gradients[row * kDeltaCudaChunk + thread] =
          stores.sums[thread] + stores.sums[64 + thread] + stores.sums[128 + thread] +
          stores.sums[192 + thread];
    }
    place.Advance();
  }
  StoreState<kKey>(d, state_at(params.d_initial_state), params.value_dim, at);
  if (stores.leader) hopper::AwaitStoresRead<0>();
}

template <int kKey, int kSlices>
__global__ void __launch_bounds__(StatesLayout<kKey, kSlices>::kThreads, 1)
    States(const __grid_constant__ StatesParams params) {
  using Layout = StatesLayout<kKey, kSlices>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  auto* const full = reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  uint64_t* const empty = full + Layout::kStages;
  const StatesWork work(blockIdx.x, params.heads, params.value_dim / 64 / kSlices, kSlices);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) {
      hopper::InitBarrier(full + i, 1);
      hopper::InitBarrier(empty + i, kSlices);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  if (threadIdx.x / 128 == kSlices) {
    if constexpr (Layout::kMoveRegisters) hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 128 == 0) LoadChunks<kKey, kSlices>(params, shared, full, empty, work);
  } else {
    if constexpr (Layout::kMoveRegisters) hopper::GrowRegisters<240>();
    ComputeChunks<kKey, kSlices>(params, shared, full, empty, work);
  }
}

template <int kKey, int kSlices>
cudaError_t Launch(const DeltaCudaShape& shape, const StatesParams& params, cudaStream_t stream) {
  using Layout = StatesLayout<kKey, kSlices>;
  static_assert(Layout::kSharedBytes <= 227 * 1024);
  const int blocks = shape.batch * shape.heads * (shape.value_dim / 64 / kSlices);
  return LaunchShared(States<kKey, kSlices>, blocks, Layout::kThreads, Layout::kSharedBytes, stream,
                      params);
}

}  // namespace

cudaError_t LaunchStates(const DeltaBackwardArgs& args, const DeltaBackwardMaps& maps,
                         const DeltaChunkStates& scratch, cudaStream_t stream) {
  const DeltaCudaShape& shape = args.shape;
  const StatesParams params{maps,
                            scratch,
                            args.records,
                            args.saved_state,
                            args.d_final_state,
                            args.d_initial_state,
                            shape.heads,
                            ChunksOf(shape),
                            shape.value_dim};
  // Twice as many blocks, all at once.
  if (shape.batch * shape.heads * (shape.value_dim / 64) <= kFewBlocks) {
    return LaunchSplitStates(shape, params, stream);
  }
  const bool pairs = SlicesOfBlock(shape) == 2;
  if (shape.key_dim == 64) {
    return pairs ? Launch<64, 2>(shape, params, stream) : Launch<64, 1>(shape, params, stream);
  }
  return pairs ? Launch<128, 2>(shape, params, stream) : Launch<128, 1>(shape, params, stream);
}

}  // namespace weft::kernels::sm90

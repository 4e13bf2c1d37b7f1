// The pass `states` of chunk_record.h for so few heads that time is what a chunk waits for the one
// before, not what memory brings. D and S do not need each other: a block keeps D of 64 values of a
// head, another S.
//
// D: per chunk three products wait for each other, K D, then R^T (Bd dN), then K^T dX. The products
// with dO fill the time in which their results are read, scaled and rounded.
#include "kernels/attention/delta/cuda/states_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kThreads = 128 + 32;  // a warpgroup that computes, a warp that loads

template <int kKey>
struct GradientLayout {
  static constexpr int kStages = 3;
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kLoadedBytes = 2 * kKeyBytes + kRecordBytes + 2 * kTileBytes;
  // Offsets in a stage; K is first.
  static constexpr int kQ = kKeyBytes;
  static constexpr int kOutput = 2 * kKeyBytes;  // dO
  static constexpr int kErrors = kOutput + kTileBytes;
  static constexpr int kRecord = kErrors + kTileBytes;
  static constexpr int kStageBytes = kRecord + 2 * kSquareBytes + 1024;
  // Then what is stored: dX, D and the sums of the warps for the gradient of beta.
  static constexpr int kValues = kStages * kStageBytes;
  static constexpr int kGradient = kValues + kTileBytes;
  static constexpr int kSums = kGradient + kKeyBytes;
  static constexpr int kBarriers = kSums + 1024;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSharedSlack;
};

template <int kKey>
struct StateLayout {
  static constexpr int kStages = 4;
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kLoadedBytes = kKeyBytes + kTileBytes + kDeltaCudaChunk * 4;
  static constexpr int kErrors = kKeyBytes;
  static constexpr int kBeta = kErrors + kTileBytes;
  static constexpr int kStageBytes = kBeta + 1024;
  static constexpr int kStored = kStages * kStageBytes;
  static constexpr int kBarriers = kStored + kKeyBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + kSharedSlack;
};

// A block's ring of chunks.
struct Ring {
  uint8_t* shared;
  uint64_t* full;
  uint64_t* empty;
};

template <typename Layout>
__device__ Ring MakeRing(uint8_t* shared) {
  auto* const full = reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Layout::kStages; ++i) {
      hopper::InitBarrier(full + i, 1);
      hopper::InitBarrier(full + Layout::kStages + i, 4);  // the warps that compute
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  return {shared, full, full + Layout::kStages};
}

__device__ int64_t FirstChunk(const StatesParams& params, const StatesWork& work) {
  return (int64_t{work.batch} * params.heads + work.head) * params.chunks;
}
// Bytes of the tiles of a chunk's state in DeltaChunkStates.
template <int kKey>
__device__ int64_t StatePlace(const StatesParams& params, const StatesWork& work, int chunk) {
  return (FirstChunk(params, work) + chunk) * (int64_t{kKey} * params.value_dim * 2) +
         int64_t{work.first_slice} * kKey * 128;
}
// Of the slice's state among the fp32 ones.
template <int kKey>
__device__ int64_t SlicePlace(const StatesParams& params, const StatesWork& work) {
  return (int64_t{work.batch} * params.heads + work.head) * kKey * params.value_dim +
         64 * work.first_slice;
}

// ---- D

template <int kKey>
__device__ void LoadForGradient(const StatesParams& params, const Ring& ring,
                                const StatesWork& work) {
  using Layout = GradientLayout<kKey>;
  const int column = 64 * work.first_slice;
  const uint8_t* const records = params.records + FirstChunk(params, work) * kRecordBytes;
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    uint8_t* const stage = ring.shared + place.stage * Layout::kStageBytes;
    uint64_t* const barrier = ring.full + place.stage;
    const int token = chunk * kDeltaCudaChunk;
    hopper::AwaitPhase(ring.empty + place.stage, place.parity ^ 1);
    hopper::ArriveExpecting(barrier, Layout::kLoadedBytes);
    hopper::LoadBox(params.maps.d_o, stage + Layout::kOutput, barrier, column, work.head, token,
                    work.batch);
    hopper::LoadBytes(stage + Layout::kRecord, records + int64_t{chunk} * kRecordBytes,
                      kRecordBytes, barrier);
    LoadTiles<kKey>(params.maps.k, stage, barrier, work.head, token, work.batch);
    LoadTiles<kKey>(params.maps.q, stage + Layout::kQ, barrier, work.head, token, work.batch);
    hopper::LoadBox(params.maps.errors, stage + Layout::kErrors, barrier, column, work.head, token,
                    work.batch);
    if (chunk >= kChunksAhead) {
      const int later = token - kChunksAhead * kDeltaCudaChunk;
      hopper::PrefetchBox(params.maps.d_o, column, work.head, later, work.batch);
      hopper::PrefetchBytes(records + int64_t{chunk - kChunksAhead} * kRecordBytes, kRecordBytes);
      PrefetchTiles<kKey>(params.maps.k, work.head, later, work.batch);
      PrefetchTiles<kKey>(params.maps.q, work.head, later, work.batch);
      hopper::PrefetchBox(params.maps.errors, column, work.head, later, work.batch);
    }
    place.Advance();
  }
}

// Where the warpgroup leaves what the copy engine stores.
template <int kKey>
struct GradientStores {
  using Layout = GradientLayout<kKey>;
  explicit __device__ GradientStores(uint8_t* shared)
      : values(shared + Layout::kValues),
        gradient(shared + Layout::kGradient),
        sums(reinterpret_cast<float*>(shared + Layout::kSums)) {}
  uint8_t* values;
  uint8_t* gradient;
  float* sums;  // [4 warps, 64 tokens]
};

// y times the betas of its columns as an operand; y stays as it is.
__device__ inline void ScaledOperand(uint32_t (&operand)[4][4], const float (&y)[32],
                                     const float* beta, const Place& at) {
  float scaled[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) scaled[i] = y[i];
  ScaleColumns(scaled, beta, at);
  hopper::ToOperand(operand, scaled);
}

// One chunk, `output` its dO^T: D of before into `stores`, then dX and y . e. The last product into
// d is still on its way when this returns.
template <int kKey>
__device__ void GradientChunk(float (&d)[kKey / 2], const uint32_t (&output)[4][4],
                              const uint8_t* stage, hopper::Tiles k_tiles,
                              const GradientStores<kKey>& stores, const Place& at) {
  using Layout = GradientLayout<kKey>;
  const auto* const beta =
      reinterpret_cast<const float*>(stage + Layout::kRecord + 2 * kSquareBytes);
  const hopper::Tiles q_tiles = k_tiles + Layout::kQ;
  const hopper::Tiles r_tile = k_tiles + Layout::kRecord;
  const hopper::Tiles p_tile = r_tile + kSquareBytes;
  float y[32];  // dN, then Y
  hopper::StartProducts();
  MultiplyColumns(y, output, p_tile, false);
  hopper::CommitProducts();
  uint32_t gradient[kKey / 16][4];
  hopper::ToOperand(gradient, d);
  hopper::StartProducts();
  MultiplyRows<kKey / 16>(y, gradient, k_tiles);
  hopper::CommitProducts();
  MultiplyColumns<1, 0, 2>(d, output, q_tiles);
  hopper::CommitProducts();
  if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
  hopper::MeetThreads(1, 128);
  StoreTiles(stores.gradient, gradient);
  hopper::AwaitProducts<1>();
  hopper::Settle(y);

  uint32_t pairs[4][4];
  ScaledOperand(pairs, y, beta, at);
  hopper::StartProducts();
  MultiplyColumns<-1>(y, pairs, r_tile);
  hopper::CommitProducts();
  MultiplyColumns<1, 2, 4>(d, output, q_tiles);
  hopper::CommitProducts();
  hopper::AwaitProducts<1>();
  hopper::Settle(y);

  uint32_t values[4][4];
  ScaledOperand(values, y, beta, at);
  hopper::StartProducts();
  MultiplyColumns<-1>(d, values, k_tiles);
  hopper::CommitProducts();
#pragma unroll
  for (int i = 0; i < 4; ++i) hopper::StoreTransposed(stores.values, 16 * i, values[i]);
  uint32_t errors[4][4];
  LoadOperand(errors, stage + Layout::kErrors);
  SumOverValues(y, errors, stores.sums);
}

template <int kKey>
__device__ void ComputeGradient(const StatesParams& params, const Ring& ring,
                                const StatesWork& work) {
  using Layout = GradientLayout<kKey>;
  const Place at;
  const hopper::Tiles tiles = hopper::TilesAt(ring.shared);
  const GradientStores<kKey> stores(ring.shared);
  const int64_t slice = SlicePlace<kKey>(params, work);
  const auto at_slice = [&](auto* state) { return state == nullptr ? nullptr : state + slice; };
  // Row of this head's first chunk in beta_gradients.
  const int64_t all_chunks = int64_t{gridDim.x} / 2 / (params.value_dim / 64) * params.chunks;
  const int64_t row = work.first_slice * all_chunks + FirstChunk(params, work);
  float d[kKey / 2];
  LoadState<kKey>(d, at_slice(params.d_final_state), params.value_dim, at);
  hopper::RingPlace<Layout::kStages> place;
  uint32_t output[4][4];
  hopper::AwaitPhase(ring.full, 0);
  LoadOperand(output, ring.shared + Layout::kOutput);
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    uint64_t* const empty = ring.empty + place.stage;
    const int stage = place.stage * Layout::kStageBytes;
    GradientChunk<kKey>(d, output, ring.shared + stage, tiles + stage, stores, at);
    hopper::FenceForEngines();
    hopper::MeetThreads(1, 128);
    if (threadIdx.x == 0) {
      hopper::StoreBox(params.maps.d_v, stores.values, 64 * work.first_slice, work.head,
                       chunk * kDeltaCudaChunk, work.batch);
      hopper::StoreBytes(params.scratch.gradients + StatePlace<kKey>(params, work, chunk),
                         stores.gradient, Layout::kKeyBytes);
      hopper::CommitStores();
    }
    if (threadIdx.x < kDeltaCudaChunk) {
      const float* const sums = stores.sums + threadIdx.x;
      params.scratch.beta_gradients[(row + chunk) * kDeltaCudaChunk + threadIdx.x] =
          sums[0] + sums[64] + sums[128] + sums[192];
    }
    place.Advance();
    if (chunk > 0) {
      hopper::AwaitProducts<1>();  // nothing reads `output` any more
      hopper::AwaitPhase(ring.full + place.stage, place.parity);
      LoadOperand(output, ring.shared + place.stage * Layout::kStageBytes + Layout::kOutput);
    }
    hopper::AwaitProducts<0>();
    hopper::Settle(d);
    if (threadIdx.x % 32 == 0) hopper::Arrive(empty);
  }
  StoreState<kKey>(d, at_slice(params.d_initial_state), params.value_dim, at);
  if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
}

// ---- S

template <int kKey>
__device__ void LoadForState(const StatesParams& params, const Ring& ring, const StatesWork& work) {
  using Layout = StateLayout<kKey>;
  const int column = 64 * work.first_slice;
  const uint8_t* const betas =
      params.records + FirstChunk(params, work) * kRecordBytes + 2 * kSquareBytes;
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    uint8_t* const stage = ring.shared + place.stage * Layout::kStageBytes;
    uint64_t* const barrier = ring.full + place.stage;
    const int token = chunk * kDeltaCudaChunk;
    hopper::AwaitPhase(ring.empty + place.stage, place.parity ^ 1);
    hopper::ArriveExpecting(barrier, Layout::kLoadedBytes);
    hopper::LoadBox(params.maps.errors, stage + Layout::kErrors, barrier, column, work.head, token,
                    work.batch);
    hopper::LoadBytes(stage + Layout::kBeta, betas + int64_t{chunk} * kRecordBytes,
                      kDeltaCudaChunk * 4, barrier);
    LoadTiles<kKey>(params.maps.k, stage, barrier, work.head, token, work.batch);
    if (chunk >= kChunksAhead) {
      const int later = token - kChunksAhead * kDeltaCudaChunk;
      hopper::PrefetchBox(params.maps.errors, column, work.head, later, work.batch);
      hopper::PrefetchBytes(betas + int64_t{chunk - kChunksAhead} * kRecordBytes,
                            kDeltaCudaChunk * 4);
      PrefetchTiles<kKey>(params.maps.k, work.head, later, work.batch);
    }
    place.Advance();
  }
}

template <int kKey>
__device__ void ComputeState(const StatesParams& params, const Ring& ring, const StatesWork& work) {
  using Layout = StateLayout<kKey>;
  const Place at;
  const hopper::Tiles tiles = hopper::TilesAt(ring.shared);
  uint8_t* const stored = ring.shared + Layout::kStored;
  float s[kKey / 2];
  LoadState<kKey>(s, params.saved_state + SlicePlace<kKey>(params, work), params.value_dim, at);
  hopper::RingPlace<Layout::kStages> place;
  for (int chunk = params.chunks - 1; chunk >= 0; --chunk) {
    const uint8_t* const stage = ring.shared + place.stage * Layout::kStageBytes;
    hopper::AwaitPhase(ring.full + place.stage, place.parity);
    uint32_t news[4][4];
    LoadOperand(news, stage + Layout::kErrors);
    ScaledOperand(news, news, reinterpret_cast<const float*>(stage + Layout::kBeta), at);
    hopper::Settle(s);
    hopper::StartProducts();
    MultiplyColumns<-1>(s, news, tiles + place.stage * Layout::kStageBytes);
    hopper::CommitProducts();
    // Meanwhile: the last state has left its place.
    if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
    hopper::MeetThreads(1, 128);
    hopper::AwaitProducts<0>();
    hopper::Settle(s);
    if (threadIdx.x % 32 == 0) hopper::Arrive(ring.empty + place.stage);
    uint32_t state[kKey / 16][4];
    hopper::ToOperand(state, s);
    StoreTiles(stored, state);
    hopper::FenceForEngines();
    hopper::MeetThreads(1, 128);
    if (threadIdx.x == 0) {
      hopper::StoreBytes(params.scratch.states + StatePlace<kKey>(params, work, chunk), stored,
                         Layout::kKeyBytes);
      hopper::CommitStores();
    }
    place.Advance();
  }
  if (threadIdx.x == 0) hopper::AwaitStoresRead<0>();
}

// The first half of the blocks: D, the other: S.
template <int kKey>
__global__ void __launch_bounds__(kThreads, 1)
    SplitStates(const __grid_constant__ StatesParams params) {
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
  const int half = static_cast<int>(gridDim.x) / 2;
  const int block = static_cast<int>(blockIdx.x) % half;
  const StatesWork work(block, params.heads, params.value_dim / 64, 1);
  const bool loads = threadIdx.x >= 128;
  if (blockIdx.x < half) {
    const Ring ring = MakeRing<GradientLayout<kKey>>(shared);
    if (!loads) {
      ComputeGradient<kKey>(params, ring, work);
    } else if (threadIdx.x == 128) {
      LoadForGradient<kKey>(params, ring, work);
    }
  } else {
    const Ring ring = MakeRing<StateLayout<kKey>>(shared);
    if (!loads) {
      ComputeState<kKey>(params, ring, work);
    } else if (threadIdx.x == 128) {
      LoadForState<kKey>(params, ring, work);
    }
  }
}

template <int kKey>
cudaError_t Launch(const DeltaCudaShape& shape, const StatesParams& params, cudaStream_t stream) {
  constexpr int kBytes = GradientLayout<kKey>::kSharedBytes > StateLayout<kKey>::kSharedBytes
                             ? GradientLayout<kKey>::kSharedBytes
                             : StateLayout<kKey>::kSharedBytes;
  static_assert(kBytes <= 227 * 1024);
  const int blocks = 2 * shape.batch * shape.heads * (shape.value_dim / 64);
  return LaunchShared(SplitStates<kKey>, blocks, kThreads, kBytes, stream, params);
}

}  // namespace

cudaError_t LaunchSplitStates(const DeltaCudaShape& shape, const StatesParams& params,
                              cudaStream_t stream) {
  return shape.key_dim == 64 ? Launch<64>(shape, params, stream)
                             : Launch<128>(shape, params, stream);
}

}  // namespace weft::kernels::sm90

// The pass `gradients` of chunk_record.h: for a chunk of a head, with S before it, D the gradient
// of the state after it, N = Bd E and dX = dV:
//
//   dP = tril(dO N^T)     dG = -stril(dX N^T)
//   dQ = dO S^T + dP K    dK = N D^T - dX S^T + dP^T Q + (dG + dG^T) K
//
// A warpgroup computes 64 columns of dQ and dK. The weights, dP and dG, are products over values
// that all columns need: with two warpgroups each makes one, and they meet in shared memory, in the
// place of E, once every product with E is done. There an operand reads a tile as it is or
// transposed, so dP^T and dG^T cost nothing, and registers hold accumulators only. N is never
// formed: Bd scales rows or columns of products with E. Two blocks share a multiprocessor, one
// computes while the other loads.
#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/delta_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

struct GradientsParams {
  DeltaBackwardMaps maps;
  DeltaChunkStates scratch;
  const uint8_t* records;
  float* d_beta;
  int tokens;
  int heads;
  int chunks;
};

template <int kKey, int kValue>
struct GradientsLayout {
  static constexpr int kGroups = kKey / 64;
  static constexpr int kThreads = kGroups * 128;
  static constexpr int kBlocks = kKey == 64 && kValue == 64 ? 3 : 2;  // of a multiprocessor
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kValueBytes = kValue / 64 * kTileBytes;
  static constexpr int kStateBytes = kKey * kValue * 2;
  // With 128 x 128 the place of D is that of S, when dK has read it.
  static constexpr bool kOneState = kStateBytes > 16 * 1024;
  static constexpr int kQ = 0;
  static constexpr int kK = kKeyBytes;
  static constexpr int kErrors = 2 * kKeyBytes;
  static constexpr int kWeights = kErrors;  // dP and dG, when E has been read
  static constexpr int kOutput = kWeights + 2 * kTileBytes;
  static constexpr int kValues = kOutput + kValueBytes;  // dX
  static constexpr int kGradient = kValues + kValueBytes;
  static constexpr int kState = kOneState ? kGradient : kGradient + kStateBytes;
  static constexpr int kBeta = kState + kStateBytes;
  static constexpr int kBarriers = kBeta + kDeltaCudaChunk * 4;
  static constexpr int kSharedBytes = kBarriers + 4 * 8;
  // A multiprocessor has 228 KiB, and each block costs it one more.
  static_assert(kBlocks * (kSharedBytes + 1024) <= 228 * 1024);
};

struct Barriers {
  uint64_t values;    // E, dO, dX, beta
  uint64_t gradient;  // D
  uint64_t keys;      // Q, K
  uint64_t state;     // S
};

// d += sign * A B: A [64, kValue] in tiles, B 64 columns of [kValue, kKey] in tiles of 64 values x
// 64 keys.
template <int kKey, int kValue, int kSign>
__device__ void MultiplyState(float (&d)[32], hopper::Tiles a, hopper::Tiles state, bool keep) {
#pragma unroll
  for (int s = 0; s < kValue / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreK, kSign>(
        d, RowsTiles(a, s), hopper::ColumnsTile(state + s / 4 * (kKey / 64 * kTileBytes), s % 4),
        keep || s > 0);
  }
}

// Element i of an accumulator: its row and its column.
__device__ inline int RowOf(int i, const Place& at) { return at.row + i % 4 / 2 * 8; }
__device__ inline int ColumnOf(int i, const Place& at) { return i / 4 * 8 + at.column + i % 2; }

// dP = tril(dO N^T) as a tile, or dG = -stril(dX N^T): `a` is dO or dX.
template <int kValue>
__device__ void Weights(uint32_t (&pairs)[4][4], hopper::Tiles a, hopper::Tiles errors,
                        const float* beta, bool gram, const Place& at) {
  float w[32];
  hopper::Settle(w);
  hopper::StartProducts();
  MultiplyTiles<kValue / 16>(w, a, errors);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(w);
  ScaleColumns(w, beta, at);
  const float sign = gram ? -1.0F : 1.0F;
  const int last = gram ? -1 : 0;  // column of a row, from its diagonal, that is kept
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    w[i] = ColumnOf(i, at) - RowOf(i, at) <= last ? sign * w[i] : 0.0F;
  }
  hopper::ToOperand(pairs, w);
}

__device__ void WriteTile(uint8_t* tile, const uint32_t (&pairs)[4][4]) {
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::StorePlain(tile, 16 * s, pairs[s]);
}

// d += A B: A a tile, or its transpose; B 64 columns of 64 tokens in a tile.
template <Rows kA>
__device__ void MultiplyWeights(float (&d)[32], hopper::Tiles a, hopper::Tiles b,
                                bool keep = true) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    hopper::Multiply<kA, Rows::kAreK>(
        d, kA == Rows::kAreMN ? hopper::RowsTile(a, s) : hopper::ColumnsTile(a, s),
        hopper::ColumnsTile(b, s), keep || s > 0);
  }
}

// dQ and dK of 64 columns, `group` of the chunk. When all have read D, loads S in its place.
template <int kKey, int kValue>
__device__ void ChunkGradients(float (&dq)[32], float (&dk)[32], uint8_t* shared,
                               Barriers* barriers, const uint8_t* state, int group) {
  using Layout = GradientsLayout<kKey, kValue>;
  constexpr int kOwn = 2 / Layout::kGroups;  // weights that a warpgroup makes
  const Place at;
  const auto* const beta = reinterpret_cast<const float*>(shared + Layout::kBeta);
  const hopper::Tiles tiles = hopper::TilesAt(shared);
  const hopper::Tiles errors = tiles + Layout::kErrors;
  const hopper::Tiles output = tiles + Layout::kOutput;
  const hopper::Tiles d_values = tiles + Layout::kValues;
  const hopper::Tiles weights = tiles + Layout::kWeights;
  const int tile = group * kTileBytes;
  hopper::AwaitPhase(&barriers->values, 0);
  uint32_t pairs[kOwn][4][4];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const bool gram = group * kOwn + i == 1;
    Weights<kValue>(pairs[i], gram ? d_values : output, errors, beta, gram, at);
  }
  hopper::AwaitPhase(&barriers->gradient, 0);
  hopper::StartProducts();
  MultiplyState<kKey, kValue, 1>(dk, errors, tiles + Layout::kGradient + tile, false);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(dk);
  __syncthreads();  // E and D have been read
  if constexpr (Layout::kOneState) {
    if (threadIdx.x == 0) {
      hopper::ArriveExpecting(&barriers->state, Layout::kStateBytes);
      hopper::LoadBytes(shared + Layout::kState, state, Layout::kStateBytes, &barriers->state);
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    WriteTile(shared + Layout::kWeights + (group * kOwn + i) * kTileBytes, pairs[i]);
  }
  hopper::FenceForEngines();
  const float row_beta[2] = {beta[at.row], beta[at.row + 8]};
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] *= row_beta[i % 4 / 2];
  __syncthreads();
  hopper::AwaitPhase(&barriers->keys, 0);
  hopper::Settle(dk);
  hopper::StartProducts();
  MultiplyWeights<Rows::kAreK>(dk, weights, tiles + Layout::kQ + tile);
  MultiplyWeights<Rows::kAreMN>(dk, weights + kTileBytes, tiles + Layout::kK + tile);
  MultiplyWeights<Rows::kAreK>(dk, weights + kTileBytes, tiles + Layout::kK + tile);
  MultiplyWeights<Rows::kAreMN>(dq, weights, tiles + Layout::kK + tile, false);
  hopper::CommitProducts();
  hopper::AwaitPhase(&barriers->state, 0);
  hopper::StartProducts();
  MultiplyState<kKey, kValue, -1>(dk, d_values, tiles + Layout::kState + tile, true);
  MultiplyState<kKey, kValue, 1>(dq, output, tiles + Layout::kState + tile, true);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(dk);
  hopper::Settle(dq);
}

struct Work {
  __device__ explicit Work(const GradientsParams& params)
      : head(blockIdx.x % params.heads),
        chunk(blockIdx.x / params.heads % params.chunks),
        batch(blockIdx.x / params.heads / params.chunks),
        token(chunk * kDeltaCudaChunk),
        place((int64_t{batch} * params.heads + head) * params.chunks + chunk) {}
  int head;
  int chunk;
  int batch;
  int token;
  int64_t place;  // of the chunk among those of all heads
};

template <int kKey, int kValue>
__device__ void LoadAll(const GradientsParams& params, uint8_t* shared, Barriers* barriers,
                        const Work& work) {
  using Layout = GradientsLayout<kKey, kValue>;
  hopper::ArriveExpecting(&barriers->values, 3 * Layout::kValueBytes + kDeltaCudaChunk * 4);
  LoadTiles<kValue>(params.maps.errors, shared + Layout::kErrors, &barriers->values, work.head,
                    work.token, work.batch);
  LoadTiles<kValue>(params.maps.d_v, shared + Layout::kValues, &barriers->values, work.head,
                    work.token, work.batch);
  hopper::LoadBytes(shared + Layout::kBeta,
                    params.records + work.place * kRecordBytes + 2 * kSquareBytes,
                    kDeltaCudaChunk * 4, &barriers->values);
  LoadTiles<kValue>(params.maps.d_o, shared + Layout::kOutput, &barriers->values, work.head,
                    work.token, work.batch);
  hopper::ArriveExpecting(&barriers->gradient, Layout::kStateBytes);
  hopper::LoadBytes(shared + Layout::kGradient,
                    params.scratch.gradients + work.place * Layout::kStateBytes,
                    Layout::kStateBytes, &barriers->gradient);
  hopper::ArriveExpecting(&barriers->keys, 2 * Layout::kKeyBytes);
  LoadTiles<kKey>(params.maps.k, shared + Layout::kK, &barriers->keys, work.head, work.token,
                  work.batch);
  LoadTiles<kKey>(params.maps.q, shared + Layout::kQ, &barriers->keys, work.head, work.token,
                  work.batch);
  if constexpr (!Layout::kOneState) {
    hopper::ArriveExpecting(&barriers->state, Layout::kStateBytes);
    hopper::LoadBytes(shared + Layout::kState,
                      params.scratch.states + work.place * Layout::kStateBytes, Layout::kStateBytes,
                      &barriers->state);
  }
}

// dbeta of a token: its slices of 64 values in order.
template <int kValue>
__device__ void StoreBetaGradient(const GradientsParams& params, const Work& work, int thread) {
  if (work.token + thread >= params.tokens) return;
  const int64_t all = int64_t{gridDim.x} * kDeltaCudaChunk;
  const float* const parts = params.scratch.beta_gradients + work.place * kDeltaCudaChunk + thread;
  float sum = parts[0];
  for (int i = 1; i < kValue / 64; ++i) sum += parts[i * all];
  params.d_beta[(int64_t{work.batch} * params.tokens + work.token + thread) * params.heads +
                work.head] = sum;
}

template <int kKey, int kValue>
__global__ void __launch_bounds__(GradientsLayout<kKey, kValue>::kThreads,
                                  GradientsLayout<kKey, kValue>::kBlocks)
    Gradients(const __grid_constant__ GradientsParams params) {
  using Layout = GradientsLayout<kKey, kValue>;
  extern __shared__ __align__(1024) uint8_t shared[];
  auto* const barriers = reinterpret_cast<Barriers*>(shared + Layout::kBarriers);
  const Work work(params);
  if (threadIdx.x == 0) {
    hopper::InitBarrier(&barriers->values, 1);
    hopper::InitBarrier(&barriers->keys, 1);
    hopper::InitBarrier(&barriers->gradient, 1);
    hopper::InitBarrier(&barriers->state, 1);
    hopper::PublishBarriers();
    LoadAll<kKey, kValue>(params, shared, barriers, work);
  }
  __syncthreads();
  if (threadIdx.x < kDeltaCudaChunk) StoreBetaGradient<kValue>(params, work, threadIdx.x);
  const int group = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0);
  float dq[32];
  float dk[32];
  ChunkGradients<kKey, kValue>(dq, dk, shared, barriers,
                               params.scratch.states + work.place * Layout::kStateBytes, group);
  // This warpgroup alone has read its columns of Q and K.
  hopper::MeetThreads(1 + group, 128);
  uint8_t* const q_tile = shared + Layout::kQ + group * kTileBytes;
  uint8_t* const k_tile = shared + Layout::kK + group * kTileBytes;
  uint32_t pairs[4][4];
  hopper::ToOperand(pairs, dq);
  WriteTile(q_tile, pairs);
  hopper::ToOperand(pairs, dk);
  WriteTile(k_tile, pairs);
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + group, 128);
  if (threadIdx.x % 128 == 0) {
    hopper::StoreBox(params.maps.d_q, q_tile, 64 * group, work.head, work.token, work.batch);
    hopper::StoreBox(params.maps.d_k, k_tile, 64 * group, work.head, work.token, work.batch);
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
  }
}

template <int kKey, int kValue>
cudaError_t Launch(const DeltaCudaShape& shape, const GradientsParams& params,
                   cudaStream_t stream) {
  using Layout = GradientsLayout<kKey, kValue>;
  return LaunchShared(Gradients<kKey, kValue>, shape.batch * shape.heads * params.chunks,
                      Layout::kThreads, Layout::kSharedBytes, stream, params);
}

}  // namespace

cudaError_t LaunchGradients(const DeltaBackwardArgs& args, const DeltaBackwardMaps& maps,
                            const DeltaChunkStates& scratch, cudaStream_t stream) {
  const DeltaCudaShape& shape = args.shape;
  const GradientsParams params{maps,         scratch,     args.records,   args.d_beta,
                               shape.tokens, shape.heads, ChunksOf(shape)};
  if (shape.key_dim == 64) {
    return shape.value_dim == 64 ? Launch<64, 64>(shape, params, stream)
                                 : Launch<64, 128>(shape, params, stream);
  }
  return shape.value_dim == 64 ? Launch<128, 64>(shape, params, stream)
                               : Launch<128, 128>(shape, params, stream);
}

}  // namespace weft::kernels::sm90

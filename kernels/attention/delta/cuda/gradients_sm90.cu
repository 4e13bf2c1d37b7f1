// The pass `gradients` of chunk_record.h: for a chunk of a head, with S before it, D the gradient
// of the state after it, N = Bd E and dX = dV:
//
//   dP = tril(dO N^T)     dG = -stril(dX N^T)
//   dQ = dO S^T + dP K    dK = N D^T - dX S^T + dP^T Q + (dG + dG^T) K
//
// A warpgroup computes 64 columns of dQ and dK; the products over values, which all columns need,
// it makes for itself, so that warpgroups meet only to load. N is never formed: Bd scales rows or
// columns of products with E. Two blocks share a multiprocessor, one computes while the other
// loads.
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
  static constexpr int kThreads = kKey / 64 * 128;
  static constexpr int kBlocks = kKey == 64 && kValue == 64 ? 3 : 2;  // of a multiprocessor
  static constexpr int kKeyBytes = kKey / 64 * kTileBytes;
  static constexpr int kValueBytes = kValue / 64 * kTileBytes;
  static constexpr int kStateBytes = kKey * kValue * 2;
  // With 128 x 128 the place of D is that of S, when dK has read it.
  static constexpr bool kOneState = kStateBytes > 16 * 1024;
  static constexpr int kQ = 0;
  static constexpr int kK = kKeyBytes;
  static constexpr int kErrors = 2 * kKeyBytes;
  static constexpr int kOutput = kErrors + kValueBytes;
  static constexpr int kValues = kOutput + kValueBytes;  // dX
  static constexpr int kGradient = kValues + kValueBytes;
  static constexpr int kState = kOneState ? kGradient : kGradient + kStateBytes;
  static constexpr int kBeta = kState + kStateBytes;
  static constexpr int kBarriers = kBeta + kDeltaCudaChunk * 4;
  static constexpr int kSharedBytes = kBarriers + 4 * 8 + kSharedSlack;
  static_assert(kSharedBytes <= 113 * 1024 + 512);
};

struct Barriers {
  uint64_t values;    // E, dO, dX, beta
  uint64_t gradient;  // D
  uint64_t keys;      // Q, K
  uint64_t state;     // S
};

// The same address, as something new to the compiler: it would else compute the descriptions of all
// operands at once, and have no registers left for them.
__device__ inline const uint8_t* Anew(const uint8_t* tiles) {
  asm volatile("" : "+l"(tiles));
  return tiles;
}

// d += sign * A B: A [64, kValue] in tiles, B 64 columns of [kValue, kKey] in tiles of 64 values x
// 64 keys.
template <int kKey, int kValue, int kSign>
__device__ void MultiplyState(float (&d)[32], const uint8_t* a, const uint8_t* state, bool keep) {
  a = Anew(a);
  state = Anew(state);
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

// product = A B^T, A and B [64, kValue] in tiles.
template <int kValue>
__device__ void MultiplyValues(float (&product)[32], const uint8_t* a, const uint8_t* b) {
  hopper::Settle(product);
  hopper::StartProducts();
  MultiplyTiles<kValue / 16>(product, Anew(a), Anew(b));
  hopper::CommitProducts();
}

// dP = tril(dO N^T).
template <int kValue>
__device__ void QueryWeights(uint32_t (&pairs)[4][4], const uint8_t* output, const uint8_t* errors,
                             const float* beta, const Place& at) {
  float dp[32];
  MultiplyValues<kValue>(dp, output, errors);
  hopper::AwaitProducts<0>();
  hopper::Settle(dp);
  ScaleColumns(dp, beta, at);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    if (ColumnOf(i, at) > RowOf(i, at)) dp[i] = 0.0F;
  }
  hopper::ToOperand(pairs, dp);
}

// dP^T.
template <int kValue>
__device__ void KeyWeights(uint32_t (&pairs)[4][4], const uint8_t* output, const uint8_t* errors,
                           const float (&row_beta)[2], const Place& at) {
  float dp[32];
  MultiplyValues<kValue>(dp, errors, output);
  hopper::AwaitProducts<0>();
  hopper::Settle(dp);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    dp[i] = ColumnOf(i, at) >= RowOf(i, at) ? row_beta[i % 4 / 2] * dp[i] : 0.0F;
  }
  hopper::ToOperand(pairs, dp);
}

// dG + dG^T: below the diagonal -beta_j dX_i . E_j, above it -beta_i E_i . dX_j.
template <int kValue>
__device__ void GramWeights(uint32_t (&pairs)[4][4], const uint8_t* d_values, const uint8_t* errors,
                            const float* beta, const float (&row_beta)[2], const Place& at) {
  {
    float lower[32];
    MultiplyValues<kValue>(lower, d_values, errors);
    hopper::AwaitProducts<0>();
    hopper::Settle(lower);
    ScaleColumns(lower, beta, at);
#pragma unroll
    for (int i = 0; i < 32; ++i) lower[i] = RowOf(i, at) > ColumnOf(i, at) ? -lower[i] : 0.0F;
    hopper::ToOperand(pairs, lower);
  }
  float upper[32];
  MultiplyValues<kValue>(upper, errors, d_values);
  hopper::AwaitProducts<0>();
  hopper::Settle(upper);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    upper[i] = RowOf(i, at) < ColumnOf(i, at) ? -row_beta[i % 4 / 2] * upper[i] : 0.0F;
  }
  uint32_t upper_pairs[4][4];
  hopper::ToOperand(upper_pairs, upper);
  // Where one is not zero, the other is: their bits can be joined.
#pragma unroll
  for (int i = 0; i < 16; ++i) pairs[i / 4][i % 4] |= upper_pairs[i / 4][i % 4];
}

// dQ and dK of 64 columns, `group` of the chunk. When all have read D, loads S in its place.
template <int kKey, int kValue>
__device__ void ChunkGradients(float (&dq)[32], float (&dk)[32], uint8_t* shared,
                               Barriers* barriers, const uint8_t* state, int group) {
  using Layout = GradientsLayout<kKey, kValue>;
  const Place at;
  const auto* const beta = reinterpret_cast<const float*>(shared + Layout::kBeta);
  const uint8_t* const errors = shared + Layout::kErrors;
  const uint8_t* const output = shared + Layout::kOutput;
  const uint8_t* const d_values = shared + Layout::kValues;
  const int tile = group * kTileBytes;
  hopper::AwaitPhase(&barriers->values, 0);
  const float row_beta[2] = {beta[at.row], beta[at.row + 8]};
  uint32_t gram[4][4];
  uint32_t key_weights[4][4];
  uint32_t query_weights[4][4];
  GramWeights<kValue>(gram, d_values, errors, beta, row_beta, at);
  KeyWeights<kValue>(key_weights, output, errors, row_beta, at);
  QueryWeights<kValue>(query_weights, output, errors, beta, at);

  hopper::AwaitPhase(&barriers->gradient, 0);
  hopper::StartProducts();
  MultiplyState<kKey, kValue, 1>(dk, errors, shared + Layout::kGradient + tile, false);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(dk);
  if constexpr (Layout::kOneState) {
    __syncthreads();
    if (threadIdx.x == 0) {
      hopper::ArriveExpecting(&barriers->state, Layout::kStateBytes);
      hopper::LoadBytes(shared + Layout::kState, state, Layout::kStateBytes, &barriers->state);
    }
  }
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] *= row_beta[i % 4 / 2];
  hopper::AwaitPhase(&barriers->keys, 0);
  hopper::Settle(dk);
  hopper::StartProducts();
  MultiplyColumns(dk, key_weights, Anew(shared + Layout::kQ + tile));
  MultiplyColumns(dk, gram, Anew(shared + Layout::kK + tile));
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();  // and the registers of their operands are free for dQ
  hopper::Settle(dk);
  hopper::StartProducts();
  MultiplyColumns(dq, query_weights, Anew(shared + Layout::kK + tile), false);
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(dq);
  hopper::AwaitPhase(&barriers->state, 0);
  hopper::StartProducts();
  MultiplyState<kKey, kValue, -1>(dk, d_values, shared + Layout::kState + tile, true);
  MultiplyState<kKey, kValue, 1>(dq, output, shared + Layout::kState + tile, true);
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

// A tile of 64 columns.
__device__ void WriteTile(uint8_t* tile, const float (&d)[32]) {
  uint32_t pairs[4][4];
  hopper::ToOperand(pairs, d);
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::StorePlain(tile, 16 * s, pairs[s]);
}

template <int kKey, int kValue>
__global__ void __launch_bounds__(GradientsLayout<kKey, kValue>::kThreads,
                                  GradientsLayout<kKey, kValue>::kBlocks)
    Gradients(const __grid_constant__ GradientsParams params) {
  using Layout = GradientsLayout<kKey, kValue>;
  extern __shared__ uint8_t raw[];
  uint8_t* const shared = AlignedShared(raw);
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
  const int group = threadIdx.x / 128;
  float dq[32];
  float dk[32];
  ChunkGradients<kKey, kValue>(dq, dk, shared, barriers,
                               params.scratch.states + work.place * Layout::kStateBytes, group);
  // This warpgroup alone has read its columns of Q and K.
  hopper::MeetThreads(1 + group, 128);
  uint8_t* const q_tile = shared + Layout::kQ + group * kTileBytes;
  uint8_t* const k_tile = shared + Layout::kK + group * kTileBytes;
  WriteTile(q_tile, dq);
  WriteTile(k_tile, dk);
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

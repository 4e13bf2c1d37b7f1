// Gradients of 128 keys, their features and values: through the gradient of the state after their
// block, then through the queries of the block.
#include "kernels/attention/polysketch/cuda/polysketch_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

// d_v += F(phi) P, and the gradient of the features: the slopes of products are V P^T.
template <int kWidth>
__device__ void StateGradients(Drain<kWidth>& drain, const PolysketchCudaShape& s,
                               const FeatureRows& features, const float* masses,
                               const uint8_t* values, float (&d_v)[kWidth / 2],
                               FeatureSlopes& slopes) {
  constexpr float kOnes[2] = {1, 1};
  const int groups = s.sketch / 8;
  uint32_t v[kWidth / 16][4];
#pragma unroll
  for (int i = 0; i < kWidth / 16; ++i) {
    hopper::LoadPlain(v[i], values + i / 4 * kTileBytes, 16 * (i % 4));
  }
  for (GroupPair pair; pair.a < groups; ++pair.a) {
    uint32_t a[2][4];
    features.Whole(pair.a, a);
    for (pair.b = pair.a; pair.b < groups; ++pair.b, masses += 64) {
      uint32_t b[2];
      features.Pair(pair.b, b);
      uint32_t products[4][4];
#pragma unroll
      for (int k = 0; k < 4; ++k) ProductOperand(products[k], b, a, k);
      const uint8_t* const square = drain.Await();
      float x[32];
      hopper::StartProducts();
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) {
        hopper::Multiply<Rows::kAreK>(x, v[k], hopper::ColumnsTile(square, k), k > 0);
      }
      hopper::CommitProducts();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        hopper::Multiply<Rows::kAreMN>(d_v, products[k], hopper::RowsTile(square, k));
      }
      hopper::CommitProducts();
      const int stage = drain.Advance();
      hopper::AwaitProducts<1>();
      hopper::Settle(x);
      slopes.Add(pair, x, kOnes, masses, b, a);
      hopper::AwaitProducts<0>();
      drain.Free(stage);
    }
    slopes.Finish(pair.a);
  }
  hopper::Settle(d_v);
}

// From the products of 64 keys (rows) and 64 queries, and those of their values and slopes: the
// weights and the slopes of the products, as operands.
__device__ inline void PairSlopes(uint32_t (&weights)[4][4], uint32_t (&slopes)[4][4],
                                  const float (&products)[32], const float (&d_weights)[32],
                                  const float* shift, const PolysketchCudaShape& s, bool diagonal) {
  const Place at;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int query = i / 2 * 8 + at.column;
    const bool none = diagonal && query < at.row + i % 2 * 8;
    const bool none_next = diagonal && query + 1 < at.row + i % 2 * 8;
    const float2 shifts = *reinterpret_cast<const float2*>(shift + query);
    float slope, next_slope;
    float weight = PowerWithSlope(products[2 * i] * s.scale, s.squarings, slope);
    float next = PowerWithSlope(products[2 * i + 1] * s.scale, s.squarings, next_slope);
    slope *= s.scale * (d_weights[2 * i] + shifts.x);
    next_slope *= s.scale * (d_weights[2 * i + 1] + shifts.y);
    weights[i / 4][i % 4] = hopper::PackPair(none ? 0.0F : weight, none_next ? 0.0F : next);
    slopes[i / 4][i % 4] = hopper::PackPair(none ? 0.0F : slope, none_next ? 0.0F : next_slope);
  }
}

template <int kWidth>
__device__ void BlockGradients(Drain<kWidth>& drain, const PolysketchCudaShape& s,
                               const uint8_t* keys, const uint8_t* values, const float* shift,
                               int first_row, int begin, int end, float (&d_k)[kWidth / 2],
                               float (&d_v)[kWidth / 2]) {
  for (int token = begin; token < end; token += 64) {
    if (token < first_row) {
      drain.Skip();
      drain.Skip();
      continue;
    }
    const uint8_t* const q = drain.Await();
    const int q_stage = drain.Advance();
    float products[32], d_weights[32];
    hopper::StartProducts();
    MultiplyTiles<kWidth>(products, keys, q);
    hopper::CommitProducts();
    const uint8_t* const d_num = drain.Await();
    const int d_num_stage = drain.Advance();
    hopper::StartProducts();
    MultiplyTiles<kWidth>(d_weights, values, d_num);
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(products);
    hopper::Settle(d_weights);
    uint32_t weights[4][4], slopes[4][4];
    PairSlopes(weights, slopes, products, d_weights, shift + token, s, token == first_row);
    hopper::StartProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      hopper::Multiply<Rows::kAreK>(d_v, weights[i], hopper::ColumnsTile(d_num, i));
      hopper::Multiply<Rows::kAreK>(d_k, slopes[i], hopper::ColumnsTile(q, i));
    }
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(d_v);
    hopper::Settle(d_k);
    drain.Free(q_stage);
    drain.Free(d_num_stage);
  }
}

template <int kWidth>
__device__ void KeyRows(const KeyGradientParams& params, const RowShared<kWidth>& shared,
                        const RowBlock& at, int end) {
  using Layout = RowLayout<kWidth>;
  const PolysketchCudaShape& s = params.shape;
  const int group = threadIdx.x / 128;
  uint8_t* const own = shared.memory + Layout::kOwn + group * Layout::kUnit;
  uint8_t* const values = shared.memory + Layout::kOther + group * Layout::kUnit;
  Drain<kWidth> drain{shared};
  float d_v[kWidth / 2] = {};
  hopper::AwaitPhase(shared.own(), 0);
  {
    FeatureSlopes slopes(shared.slopes(), s.sketch);
    if (at.block < SlotsOf(s)) {
      const FeatureRows features(shared.memory + Layout::kFeatures, s.sketch);
      StateGradients<kWidth>(drain, s, features, shared.masses(), values, d_v, slopes);
    }
    slopes.Store(s, at, 1.0F, params.d_phi);
  }
  float d_k[kWidth / 2] = {};
  BlockGradients<kWidth>(drain, s, own, values, params.shift + at.z * PaddedTokens(s),
                         at.first + 64 * group, at.first, end, d_k, d_v);
  hopper::MeetThreads(1 + group, 128);  // all products of keys and values have read them
  StoreTiles<kWidth>(own, d_k);
  StoreTiles<kWidth>(values, d_v);
  SendTiles<kWidth>(params.d_k, own, at);
  SendTiles<kWidth>(params.d_v, values, at);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
__global__ void __launch_bounds__(kRowThreads, 1)
    KeyGradients(const __grid_constant__ KeyGradientParams params) {
  extern __shared__ uint8_t raw[];
  const RowShared<kWidth> shared{AlignedShared(raw)};
  const PolysketchCudaShape& s = params.shape;
  const RowBlock at(s);
  const bool far = at.block < SlotsOf(s);
  const int end = min((at.block + 1) * s.block, s.tokens);
  PrepareRows<kWidth>(shared, s, at, params.phi, params.states, far ? at.block : -1);
  if (threadIdx.x / 128 == 2) {
    hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 128 == 0) {
      Loader<kWidth> loader{shared, at};
      loader.Own(params.k, &params.v);
      if (far) loader.States(s, params.states, at.block);
      loader.Tiles(params.q, params.d_num, at.first, end);
    }
  } else {
    hopper::GrowRegisters<240>();
    KeyRows<kWidth>(params, shared, at, end);
  }
}

}  // namespace

cudaError_t LaunchKeyGradients(const KeyGradientParams& params, cudaStream_t stream) {
  return params.shape.width == 128 ? LaunchRows<128>(KeyGradients<128>, params, stream)
                                   : LaunchRows<64>(KeyGradients<64>, params, stream);
}

}  // namespace weft::kernels::sm90

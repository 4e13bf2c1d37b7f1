// Gradients of 128 queries and their features: through the state before their block, then through
// the keys of the block.
#include "kernels/attention/polysketch/cuda/polysketch_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

// The slopes of this warpgroup's rows, as operands.
template <int kWidth>
struct RowOperand {
  uint32_t a[kWidth / 16][4];
  __device__ explicit RowOperand(const uint8_t* tiles) {
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      hopper::LoadPlain(a[i], tiles + i / 4 * kTileBytes, 16 * (i % 4));
    }
  }
};

// The gradient of the features through S and E: the slopes of products are d_num S^T.
template <int kWidth>
__device__ void StateGradients(Drain<kWidth>& drain, const PolysketchCudaShape& s,
                               const FeatureRows& features, const float* masses,
                               const RowOperand<kWidth>& d_num, const float (&shift)[2],
                               FeatureSlopes& slopes) {
  const int groups = s.sketch / 8;
  for (GroupPair pair; pair.a < groups; ++pair.a) {
    uint32_t a[2][4];
    features.Whole(pair.a, a);
    for (pair.b = pair.a; pair.b < groups; ++pair.b, masses += 64) {
      uint32_t b[2];
      features.Pair(pair.b, b);
      const uint8_t* const square = drain.Await();
      float x[32];
      hopper::StartProducts();
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) {
        hopper::Multiply<Rows::kAreK>(x, d_num.a[k], hopper::ColumnsTile(square, k), k > 0);
      }
      hopper::CommitProducts();
      const int stage = drain.Advance();
      hopper::AwaitProducts<0>();
      hopper::Settle(x);
      drain.Free(stage);
      slopes.Add(pair, x, shift, masses, b, a);
    }
    slopes.Finish(pair.a);
  }
}

// Slopes of the products with 64 keys as an operand, from the products and those of d_num and v.
__device__ inline void PairSlopes(uint32_t (&to)[4][4], float (&products)[32],
                                  const float (&d_weights)[32], const float (&shift)[2],
                                  const PolysketchCudaShape& s, bool diagonal) {
  const Place at;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int key = i / 4 * 8 + at.column + i % 2;
    float slope;
    PowerWithSlope(products[i] * s.scale, s.squarings, slope);
    slope *= s.scale * (d_weights[i] + shift[i % 4 / 2]);
    products[i] = diagonal && key > at.row + i % 4 / 2 * 8 ? 0.0F : slope;
  }
  hopper::ToOperand(to, products);
}

template <int kWidth>
__device__ void BlockGradients(Drain<kWidth>& drain, const PolysketchCudaShape& s, const uint8_t* q,
                               const RowOperand<kWidth>& d_num, int first_row, int begin, int end,
                               const float (&shift)[2], float (&d_q)[kWidth / 2]) {
  for (int token = begin; token < end; token += 64) {
    if (token > first_row) {
      drain.Skip();
      drain.Skip();
      continue;
    }
    const uint8_t* const k = drain.Await();
    const int k_stage = drain.Advance();
    float products[32], d_weights[32];
    hopper::StartProducts();
    MultiplyTiles<kWidth>(products, q, k);
    hopper::CommitProducts();
    const uint8_t* const v = drain.Await();
    const int v_stage = drain.Advance();
    hopper::StartProducts();
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      hopper::Multiply<Rows::kAreMN>(d_weights, d_num.a[i], RowsTiles(v, i), i > 0);
    }
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(products);
    hopper::Settle(d_weights);
    drain.Free(v_stage);
    uint32_t slopes[4][4];
    PairSlopes(slopes, products, d_weights, shift, s, token == first_row);
    hopper::StartProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      hopper::Multiply<Rows::kAreK>(d_q, slopes[i], hopper::ColumnsTile(k, i));
    }
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(d_q);
    drain.Free(k_stage);
  }
}

template <int kWidth>
__device__ void QueryRows(const QueryGradientParams& params, const RowShared<kWidth>& shared,
                          const RowBlock& at, int end) {
  using Layout = RowLayout<kWidth>;
  const PolysketchCudaShape& s = params.shape;
  const Place place;
  const int group = threadIdx.x / 128;
  const int first_row = at.first + 64 * group;
  uint8_t* const own = shared.memory + Layout::kOwn + group * Layout::kUnit;
  const int64_t row = at.z * PaddedTokens(s) + first_row + place.row;
  Drain<kWidth> drain{shared};
  hopper::AwaitPhase(shared.own(), 0);
  const RowOperand<kWidth> d_num(shared.memory + Layout::kOther + group * Layout::kUnit);
  FeatureSlopes slopes(shared.slopes(), s.sketch);
  if (at.block > 0) {
    const FeatureRows features(shared.memory + Layout::kFeatures, s.sketch);
    const float shift[2] = {params.far_shift[row], params.far_shift[row + 8]};
    StateGradients<kWidth>(drain, s, features, shared.masses(), d_num, shift, slopes);
  }
  slopes.Store(s, at, s.unit, params.d_phi);
  float d_q[kWidth / 2] = {};
  const float shift[2] = {params.shift[row], params.shift[row + 8]};
  BlockGradients<kWidth>(drain, s, own, d_num, first_row, at.block * s.block, end, shift, d_q);
  hopper::MeetThreads(1 + group, 128);  // all products of the queries have read them
  StoreTiles<kWidth>(own, d_q);
  SendTiles<kWidth>(params.d_q, own, at);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
__global__ void __launch_bounds__(kRowThreads, 1)
    QueryGradients(const __grid_constant__ QueryGradientParams params) {
  extern __shared__ uint8_t raw[];
  const RowShared<kWidth> shared{AlignedShared(raw)};
  const PolysketchCudaShape& s = params.shape;
  const RowBlock at(s);
  const int end = min(at.first + kRowsOfBlock, s.tokens);
  PrepareRows<kWidth>(shared, s, at, params.phi, params.states, at.block - 1);
  if (threadIdx.x / 128 == 2) {
    hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 128 == 0) {
      Loader<kWidth> loader{shared, at};
      loader.Own(params.q, &params.d_num);
      if (at.block > 0) loader.States(s, params.states, at.block - 1);
      loader.Tiles(params.k, params.v, at.block * s.block, end);
    }
  } else {
    hopper::GrowRegisters<240>();
    QueryRows<kWidth>(params, shared, at, end);
  }
}

}  // namespace

cudaError_t LaunchQueryGradients(const QueryGradientParams& params, cudaStream_t stream) {
  return params.shape.width == 128 ? LaunchRows<128>(QueryGradients<128>, params, stream)
                                   : LaunchRows<64>(QueryGradients<64>, params, stream);
}

}  // namespace weft::kernels::sm90

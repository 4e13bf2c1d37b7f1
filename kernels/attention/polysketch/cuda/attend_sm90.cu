// The forward pass over 128 queries: what they read from the state before their block, then the
// keys of the block one by one, and the quotient.
#include "kernels/attention/polysketch/cuda/polysketch_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

// Adds F(phi) S to o and F(phi) E to `mass`, pair after pair.
template <int kWidth>
__device__ void ReadState(Drain<kWidth>& drain, const PolysketchCudaShape& s,
                          const FeatureRows& features, const float* masses, float (&o)[kWidth / 2],
                          float (&mass)[2]) {
  const int groups = s.sketch / 8;
  int before = -1;
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
      hopper::StartProducts();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        hopper::Multiply<Rows::kAreMN>(o, products[k], hopper::RowsTile(square, k));
      }
      hopper::CommitProducts();
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const float2 e = *reinterpret_cast<const float2*>(masses + (i / 4 * 2 + i % 4 / 2) * 8 +
                                                          threadIdx.x % 4 * 2);
        const uint32_t word = products[i / 4][i % 4];
        mass[i % 2] += hopper::LowOf(word) * e.x + hopper::HighOf(word) * e.y;
      }
      if (before >= 0) drain.Free(before);
      before = drain.Advance();
      hopper::AwaitProducts<0>();
    }
  }
  hopper::Settle(o);
  drain.Free(before);
}

// Weights of 64 keys as an operand, from their products; their sums are added to `sums`.
__device__ inline void WeighPairs(uint32_t (&to)[4][4], float (&products)[32], float (&sums)[2],
                                  const PolysketchCudaShape& s, bool diagonal) {
  const Place at;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int key = i / 4 * 8 + at.column + i % 2;
    const float weight = Power(products[i] * s.scale, s.squarings);
    products[i] = diagonal && key > at.row + i % 4 / 2 * 8 ? 0.0F : weight;
    sums[i % 4 / 2] += products[i];
  }
  hopper::ToOperand(to, products);
}

// The keys of the block up to the diagonal.
template <int kWidth>
__device__ void AttendBlock(Drain<kWidth>& drain, const PolysketchCudaShape& s, const uint8_t* q,
                            int first_row, int begin, int end, float (&o)[kWidth / 2],
                            float (&sums)[2]) {
  for (int token = begin; token < end; token += 64) {
    if (token > first_row) {
      drain.Skip();
      drain.Skip();
      continue;
    }
    const uint8_t* const k = drain.Await();
    float products[32];
    hopper::StartProducts();
    MultiplyTiles<kWidth>(products, q, k);
    hopper::CommitProducts();
    const int k_stage = drain.Advance();
    hopper::AwaitProducts<0>();
    hopper::Settle(products);
    drain.Free(k_stage);
    uint32_t weights[4][4];
    WeighPairs(weights, products, sums, s, token == first_row);
    const uint8_t* const v = drain.Await();
    hopper::StartProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      hopper::Multiply<Rows::kAreK>(o, weights[i], hopper::ColumnsTile(v, i));
    }
    hopper::CommitProducts();
    const int v_stage = drain.Advance();
    hopper::AwaitProducts<0>();
    hopper::Settle(o);
    drain.Free(v_stage);
  }
}

template <int kWidth>
__device__ void AttendRows(const AttendParams& params, const RowShared<kWidth>& shared,
                           const RowBlock& at, int end) {
  using Layout = RowLayout<kWidth>;
  const PolysketchCudaShape& s = params.shape;
  const Place place;
  const int group = threadIdx.x / 128;
  const int first_row = at.first + 64 * group;
  uint8_t* const own = shared.memory + Layout::kOwn + group * Layout::kUnit;
  Drain<kWidth> drain{shared};
  float o[kWidth / 2] = {};
  float far[2] = {};
  float near[2] = {};
  if (at.block > 0) {
    const FeatureRows features(shared.memory + Layout::kFeatures, s.sketch);
    ReadState<kWidth>(drain, s, features, shared.masses(), o, far);
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) o[i] *= s.unit;
  }
  hopper::AwaitPhase(shared.own(), 0);
  AttendBlock<kWidth>(drain, s, own, first_row, at.block * s.block, end, o, near);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float read = fmaxf(QuadSum(far[i]) * s.unit, 0.0F);
    const float total = s.c0 + read + QuadSum(near[i]);
    const float inverse = total > 0 ? 1.0F / total : 0.0F;
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
      o[4 * j + 2 * i] *= inverse;
      o[4 * j + 2 * i + 1] *= inverse;
    }
    const int token = first_row + place.row + 8 * i;
    if (params.total != nullptr && threadIdx.x % 4 == 0 && token < s.tokens) {
      params.total[at.z * s.tokens + token] = total;
      params.far[at.z * s.tokens + token] = read;
    }
  }
  hopper::MeetThreads(1 + group, 128);  // all products of the queries have read them
  StoreTiles<kWidth>(own, o);
  SendTiles<kWidth>(params.o, own, at);
  if (threadIdx.x % 128 == 0) hopper::AwaitStoresRead<0>();
}

template <int kWidth>
__global__ void __launch_bounds__(kRowThreads, 1)
    Attend(const __grid_constant__ AttendParams params) {
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
      loader.Own(params.q, nullptr);
      if (at.block > 0) loader.States(s, params.states, at.block - 1);
      loader.Tiles(params.k, params.v, at.block * s.block, end);
    }
  } else {
    hopper::GrowRegisters<240>();
    AttendRows<kWidth>(params, shared, at, end);
  }
}

}  // namespace

cudaError_t LaunchAttend(const AttendParams& params, cudaStream_t stream) {
  return params.shape.width == 128 ? LaunchRows<128>(Attend<128>, params, stream)
                                   : LaunchRows<64>(Attend<64>, params, stream);
}

}  // namespace weft::kernels::sm90

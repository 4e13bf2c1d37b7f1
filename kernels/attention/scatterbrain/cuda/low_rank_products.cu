// The products of the low-rank part, a block of threads a tile of 64 tokens, on tensor cores.
//
// One operand of each is of the compute type. The other has fp32 numbers, which must not be rounded
// to bf16: exact pairs take their low-rank weights out of the sums again, and what is left may be
// small. So it is taken apart into three bf16 numbers, whose products are added up in fp32; fp32
// operands stay as they are (tile_mma.cuh). Behind the columns of values stands one more number a
// token, in columns kWidth ... of an operand: its parts.
#include "kernels/attention/cuda/pair_blocks.cuh"
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"

namespace weft::kernels::scatterbrain_cuda {
namespace {

using tiles::kPairThreads;

constexpr int kFeatures = 64;  // that a block takes at a time
constexpr int kExtra = 16;     // columns behind the values

template <typename T>
inline constexpr int kParts = sizeof(T) == 2 ? 3 : 1;

template <typename T>
struct Parts {
  __device__ explicit Parts(float x) {
#pragma unroll
    for (int p = 0; p < kParts<T>; ++p) {
      at[p] = FromFloat<T>(x);
      x -= ToFloat(at[p]);
    }
  }
  T at[kParts<T>];
};

template <typename T, int kWidth>
struct Matrix {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  alignas(16) T at[kTile * kStride];
};

// Which tokens a block has, -1 beyond the end.
__device__ inline void NameTokens(int count, int* names) {
  const int n = static_cast<int>(threadIdx.x);
  const int token = static_cast<int>(blockIdx.x) * kTile + n;
  if (n < kTile) names[n] = token < count ? token : -1;
  __syncthreads();
}

template <typename T>
__device__ inline tiles::Rows<T> FeaturesOf(const Sizes& s, const LowRankSide& side, int head) {
  return {static_cast<const T*>(side.features) + int64_t{head} * side.count * s.features,
          s.features, s.features, tiles::InVectors<T>(side.features, s.features)};
}
template <typename T>
__device__ inline tiles::Rows<T> ValuesOf(const Sizes& s, const LowRankSide& side, int head) {
  return tiles::RowsOfHead(static_cast<const T*>(side.values), side.count, s.heads, head,
                           s.value_dim, tiles::InVectors<T>(side.values, s.value_dim));
}

// The tile's values and what stands behind them: one, or minus what `extra` says.
template <typename T, int kWidth>
__device__ inline void LoadValues(const Sizes& s, const LowRankSide& side, int head,
                                  const int* names, Matrix<T, kWidth + kExtra>& to) {
  tiles::CopyRows<kTile, kWidth + kExtra>(ValuesOf<T>(s, side, head), names, 0, to.at);
  AwaitCopies();
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x);
  if (n < kTile && names[n] >= 0) {
    const float extra =
        side.extra == nullptr ? 1.0F : -side.extra[int64_t{head} * side.count + names[n]];
    const Parts<T> parts(extra);
#pragma unroll
    for (int p = 0; p < kParts<T>; ++p) {
      to.at[n * Matrix<T, kWidth + kExtra>::kStride + kWidth + p] = parts.at[p];
    }
  }
  __syncthreads();
}

__device__ inline float FactorOf(const LowRankSide& side, int head, int token) {
  return token < 0 ? 0.0F : side.factors[int64_t{head} * side.count + token];
}

// Where a row of fp32 numbers lies: an address that may be read even if the row is not there.
struct FloatRow {
  const float* at;
  bool there;
};
// Calls put(row, column, four numbers) for all of kRows x kColumns: of row_of(row), zeros from
// `width` on. Behind that, up to `readable`, a row may be read. Several loads are on their way at
// once, so none is under a condition.
template <int kRows, int kColumns, typename RowOf, typename Put>
__device__ inline void ForFours(int width, int readable, const RowOf& row_of, const Put& put) {
  constexpr int kPieces = kColumns / 4;
  if (readable % 4 != 0) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kPairThreads) {
      const int column = i % kPieces * 4;
      const FloatRow row = row_of(i / kPieces);
      float values[4] = {};
      for (int v = 0; v < 4; ++v) {
        if (row.there && column + v < width) values[v] = row.at[column + v];
      }
      put(i / kPieces, column, values);
    }
    return;
  }
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kPairThreads) {
    const int column = i % kPieces * 4;
    const FloatRow row = row_of(i / kPieces);
    const float4 x = *reinterpret_cast<const float4*>(row.at + min(column, readable - 4));
    const int count = row.there ? width - column : 0;
    const float values[4] = {count > 0 ? x.x : 0.0F, count > 1 ? x.y : 0.0F, count > 2 ? x.z : 0.0F,
                             count > 3 ? x.w : 0.0F};
    put(i / kPieces, column, values);
  }
}

// Four neighbours of a row in shared memory, in parts.
template <typename T, typename M>
__device__ inline void StoreParts(const float (&values)[4], M* parts, int at) {
  const Parts<T> of[4] = {Parts<T>(values[0]), Parts<T>(values[1]), Parts<T>(values[2]),
                          Parts<T>(values[3])};
#pragma unroll
  for (int p = 0; p < kParts<T>; ++p) {
    const float part[4] = {ToFloat(of[0].at[p]), ToFloat(of[1].at[p]), ToFloat(of[2].at[p]),
                           ToFloat(of[3].at[p])};
    Store<4>(parts[p].at + at, part);
  }
}

// ---- tile_sums = features^T values

template <typename T, int kWidth>
struct SumShared {
  Matrix<T, kFeatures> rows;             // [tokens, features]
  Matrix<T, kTile> features[kParts<T>];  // [features, tokens], times factors
  Matrix<T, kWidth + kExtra> values;
  int names[kTile];
};

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads)
    SumKernel(Sizes s, LowRankSide side, float* tile_sums) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<SumShared<T, kWidth>*>(memory);
  const int head = static_cast<int>(blockIdx.y);
  const int begin = static_cast<int>(blockIdx.z) * kFeatures;
  const int thread = static_cast<int>(threadIdx.x);
  NameTokens(side.count, shared.names);
  const int token = thread % kTile;  // of this thread
  tiles::CopyRows<kTile, kFeatures>(FeaturesOf<T>(s, side, head), shared.names, begin,
                                    shared.rows.at);
  const float factor = FactorOf(side, head, shared.names[token]);
  LoadValues<T, kWidth>(s, side, head, shared.names, shared.values);
#pragma unroll 4
  for (int f = thread / kTile * 4; f < kFeatures; f += kPairThreads / kTile * 4) {
    float values[4];
    Load<4>(shared.rows.at + token * Matrix<T, kFeatures>::kStride + f, values);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Parts<T> parts(factor * values[i]);
#pragma unroll
      for (int p = 0; p < kParts<T>; ++p) {
        shared.features[p].at[(f + i) * Matrix<T, kTile>::kStride + token] = parts.at[p];
      }
    }
  }
  __syncthreads();

  constexpr int kGroups = kWidth / 8;
  const int warp_row = thread / 32 * 16;
  float sums[kGroups + kExtra / 8][4] = {};
#pragma unroll
  for (int p = 0; p < kParts<T>; ++p) {
    tiles::LeftRows<T, kTile> left;
    left.Load(shared.features[p].at + warp_row * Matrix<T, kTile>::kStride,
              Matrix<T, kTile>::kStride);
    tiles::ProductOfColumns(left, shared.values.at, Matrix<T, kWidth + kExtra>::kStride, sums);
  }

  const int64_t tile = int64_t{head} * gridDim.x + blockIdx.x;
  float* const to = tile_sums + (tile * s.features + begin) * s.value_columns();
  const int first_column = thread % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // The parts of the extra number: columns 0 and 1 are one lane's, column 2 the next one's.
    const float third = __shfl_down_sync(0xFFFFFFFF, sums[kGroups][2 * half], 1);
    const float extra = sums[kGroups][2 * half] + sums[kGroups][2 * half + 1] + third;
    const int feature = warp_row + thread % 32 / 4 + 8 * half;
    if (begin + feature >= s.features) continue;
    float* const row = to + int64_t{feature} * s.value_columns();
    if (first_column == 0) row[s.value_dim] = extra;
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
      const int column = 8 * n + first_column;
      if (column >= s.value_dim) break;
      const float pair[2] = {sums[n][2 * half], sums[n][2 * half + 1]};
      const bool both = column + 1 < s.value_dim;
      tiles::StorePair(pair, both, both, row + column);
    }
  }
}

// ---- Products with states

// Rows begin ... of a state [r, E], in parts. In columns kWidth ... + 2 stands what is behind the
// values.
template <typename T, int kWidth>
struct StateParts {
  __device__ inline void LoadFrom(const Sizes& s, const float* state, int begin) {
    constexpr int kStride = Matrix<T, kWidth + kExtra>::kStride;
    const int columns = s.value_columns();
    const auto row_of = [&](int feature) {
      const int64_t row = min(begin + feature, s.features - 1);
      return FloatRow{state + row * columns, begin + feature < s.features};
    };
    const int thread = static_cast<int>(threadIdx.x);
    const FloatRow own = row_of(thread % kFeatures);
    const float behind = own.there ? own.at[s.value_dim] : 0.0F;
    ForFours<kFeatures, kWidth>(s.value_dim, columns, row_of,
                                [&](int feature, int column, const float(&values)[4]) {
                                  StoreParts<T>(values, of, feature * kStride + column);
                                });
    // Half of the threads the three columns and one of zeros, the others the rest.
    float extra[4] = {};
    if (thread < kFeatures) extra[0] = extra[1] = extra[2] = behind;
    const float zeros[4] = {};
    const int at = thread % kFeatures * kStride + kWidth + thread / kFeatures * (kExtra / 2);
    StoreParts<T>(extra, of, at);
    StoreParts<T>(zeros, of, at + 4);
  }
  Matrix<T, kWidth + kExtra> of[kParts<T>];
};

template <typename T, int kWidth>
struct FeaturesShared {
  Matrix<T, kFeatures> features;
  StateParts<T, kWidth> state;
  int names[kTile];
};

// to = factors features state
template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads)
    FeaturesKernel(Sizes s, LowRankSide side, const float* states, float* to) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<FeaturesShared<T, kWidth>*>(memory);
  constexpr int kGroups = kWidth / 8;
  const int head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp_row = thread / 32 * 16;
  const int64_t tile = int64_t{head} * gridDim.x + blockIdx.x;
  const float* const state = states + tile * s.features * s.value_columns();
  NameTokens(side.count, shared.names);
  float sums[kGroups + kExtra / 8][4] = {};
  for (int begin = 0; begin < s.features; begin += kFeatures) {
    if (begin > 0) __syncthreads();
    tiles::CopyRows<kTile, kFeatures>(FeaturesOf<T>(s, side, head), shared.names, begin,
                                      shared.features.at);
    shared.state.LoadFrom(s, state, begin);
    AwaitCopies();
    __syncthreads();
    tiles::LeftRows<T, kFeatures> left;
    left.Load(shared.features.at + warp_row * Matrix<T, kFeatures>::kStride,
              Matrix<T, kFeatures>::kStride);
#pragma unroll
    for (int p = 0; p < kParts<T>; ++p) {
      tiles::ProductOfColumns(left, shared.state.of[p].at, Matrix<T, kWidth + kExtra>::kStride,
                              sums);
    }
  }
  const int first_column = thread % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + thread % 32 / 4 + 8 * half;
    const float factor = FactorOf(side, head, shared.names[row]);
    float* const at = to + (tile * kTile + row) * s.value_columns();
    if (first_column == 0) at[s.value_dim] = factor * sums[kGroups][2 * half];
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
      const int column = 8 * n + first_column;
      if (column >= s.value_dim) break;
      const float pair[2] = {factor * sums[n][2 * half], factor * sums[n][2 * half + 1]};
      const bool both = column + 1 < s.value_dim;
      tiles::StorePair(pair, both, both, at + column);
    }
  }
}

template <typename T, int kWidth>
struct ValuesShared {
  Matrix<T, kWidth + kExtra> values;
  StateParts<T, kWidth> state;
  int names[kTile];
};

// to = factors values state^T
template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads)
    ValuesKernel(Sizes s, LowRankSide side, const float* states, float* to) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<ValuesShared<T, kWidth>*>(memory);
  constexpr int kStride = Matrix<T, kWidth + kExtra>::kStride;
  const int head = static_cast<int>(blockIdx.y);
  const int begin = static_cast<int>(blockIdx.z) * kFeatures;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp_row = thread / 32 * 16;
  const int64_t tile = int64_t{head} * gridDim.x + blockIdx.x;
  NameTokens(side.count, shared.names);
  shared.state.LoadFrom(s, states + tile * s.features * s.value_columns(), begin);
  LoadValues<T, kWidth>(s, side, head, shared.names, shared.values);
  float sums[kFeatures / 8][4] = {};
  tiles::LeftRows<T, kWidth + kExtra> left;
  left.Load(shared.values.at + warp_row * kStride, kStride);
#pragma unroll
  for (int p = 0; p < kParts<T>; ++p) {
    tiles::ProductOfRows(left, shared.state.of[p].at, kStride, sums);
  }
  const float factors[2] = {FactorOf(side, head, shared.names[warp_row + thread % 32 / 4]),
                            FactorOf(side, head, shared.names[warp_row + thread % 32 / 4 + 8])};
  tiles::StoreRows(sums, factors, warp_row, kTile, to + tile * kTile * s.features + begin,
                   s.features, s.features - begin);
}

// ---- From the products with W to queries and keys

template <typename T, int kWidth>
struct ProjectionShared {
  Matrix<T, kFeatures> gradients[kParts<T>];
  Matrix<T, kWidth> w;
  int names[kTile];
  int rows[kFeatures];
};

// Of one row, whose width is even: to = root (d_u + sums - share u), neighbours together and all
// loads at once.
template <typename T, int N>
__device__ inline void AddPairs(const float (&sums)[N][4], int half, const Sizes& s, float share,
                                const T* from, const float* d_u, T* to) {
  const int first_column = static_cast<int>(threadIdx.x) % 4 * 2;
  float2 before[N];
  tiles::LoadPairs(d_u, s.key_dim, before);
  alignas(8) T rows[N][2];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int column = min(8 * n + first_column, s.key_dim - 2);
    using Pair = std::conditional_t<sizeof(T) == 2, uint32_t, uint2>;
    const Pair pair = *reinterpret_cast<const Pair*>(from + column);
    *reinterpret_cast<Pair*>(rows[n]) = pair;
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int column = 8 * n + first_column;
    if (column >= s.key_dim) break;
    const float factor = s.root * share;
    const float pair[2] = {
        s.root * (before[n].x + sums[n][2 * half] - factor * ToFloat(rows[n][0])),
        s.root * (before[n].y + sums[n][2 * half + 1] - factor * ToFloat(rows[n][1]))};
    tiles::StorePair(pair, true, true, to + column);
  }
}

// d = root (d_u + gradients W - shares u), of `count` tokens a head.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads)
    ProjectionKernel(Sizes s, ProjectionGradients of, const T* w, T* d) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<ProjectionShared<T, kWidth>*>(memory);
  constexpr int kStride = Matrix<T, kFeatures>::kStride;
  const int head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp_row = thread / 32 * 16;
  NameTokens(of.count, shared.names);
  const tiles::Rows<T> rows_of_w{w, s.key_dim, s.key_dim, tiles::InVectors<T>(w, s.key_dim)};
  float sums[kWidth / 8][4] = {};
  for (int begin = 0; begin < s.feature_rows; begin += kFeatures) {
    __syncthreads();
    if (thread < kFeatures) {
      shared.rows[thread] = begin + thread < s.feature_rows ? begin + thread : -1;
    }
    __syncthreads();
    tiles::CopyRows<kFeatures, kWidth>(rows_of_w, shared.rows, 0, shared.w.at);
    const auto row_of = [&](int row) {
      const int64_t token = int64_t{head} * of.count + max(shared.names[row], 0);
      return FloatRow{of.products + token * s.feature_rows + begin, shared.names[row] >= 0};
    };
    ForFours<kTile, kFeatures>(s.feature_rows - begin, s.feature_rows - begin, row_of,
                               [&](int row, int column, const float(&values)[4]) {
                                 StoreParts<T>(values, shared.gradients, row * kStride + column);
                               });
    AwaitCopies();
    __syncthreads();
#pragma unroll
    for (int p = 0; p < kParts<T>; ++p) {
      tiles::LeftRows<T, kFeatures> left;
      left.Load(shared.gradients[p].at + warp_row * kStride, kStride);
      tiles::ProductOfColumns(left, shared.w.at, Matrix<T, kWidth>::kStride, sums);
    }
  }
  const auto rows =
      tiles::RowsOfHead(static_cast<const T*>(of.rows), of.count, s.heads, head, s.key_dim, false);
  T* const to = d + (rows.first - static_cast<const T*>(of.rows));
  const int64_t tile = int64_t{head} * gridDim.x + blockIdx.x;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + thread % 32 / 4 + 8 * half;
    const int token = shared.names[row];
    if (token < 0) continue;
    const float share = of.shares[int64_t{head} * of.count + token];
    const T* const from = rows.first + token * rows.step;
    T* const at = to + token * rows.step;
    const float* const d_u = of.d_u + (tile * kTile + row) * s.key_dim;
    if (s.key_dim % 2 == 0) {
      AddPairs<T>(sums, half, s, share, from, d_u, at);
      continue;
    }
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int column = 8 * n + thread % 4 * 2 + c;
        if (column >= s.key_dim) continue;
        const float u = s.root * ToFloat(from[column]);
        at[column] = FromFloat<T>(s.root * (d_u[column] + sums[n][2 * half + c] - share * u));
      }
    }
  }
}

dim3 GridOf(const Sizes& s, const LowRankSide& side, int parts) {
  return {static_cast<unsigned>(CeilDiv(side.count, kTile)), static_cast<unsigned>(s.all_heads()),
          static_cast<unsigned>(parts)};
}
int FeatureParts(const Sizes& s) { return static_cast<int>(CeilDiv(s.features, kFeatures)); }

}  // namespace

cudaError_t SumTiles(const CudaLaunch& on, const Sizes& s, const LowRankSide& side,
                     float* tile_sums) {
  if (side.count == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(s.value_dim, [&]<int kWidth>() {
      return LaunchShared(SumKernel<T, kWidth>, GridOf(s, side, FeatureParts(s)), kPairThreads,
                          static_cast<int>(sizeof(SumShared<T, kWidth>)), on.stream, s, side,
                          tile_sums);
    });
  });
}

cudaError_t FeaturesTimesStates(const CudaLaunch& on, const Sizes& s, const LowRankSide& side,
                                const float* states, float* to) {
  if (side.count == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(s.value_dim, [&]<int kWidth>() {
      return LaunchShared(FeaturesKernel<T, kWidth>, GridOf(s, side, 1), kPairThreads,
                          static_cast<int>(sizeof(FeaturesShared<T, kWidth>)), on.stream, s, side,
                          states, to);
    });
  });
}

cudaError_t ValuesTimesStates(const CudaLaunch& on, const Sizes& s, const LowRankSide& side,
                              const float* states, float* to) {
  if (side.count == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(s.value_dim, [&]<int kWidth>() {
      return LaunchShared(ValuesKernel<T, kWidth>, GridOf(s, side, FeatureParts(s)), kPairThreads,
                          static_cast<int>(sizeof(ValuesShared<T, kWidth>)), on.stream, s, side,
                          states, to);
    });
  });
}

cudaError_t ProjectGradients(const CudaLaunch& on, const Sizes& s, const ProjectionGradients& of,
                             const void* w, void* d) {
  if (of.count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(of.count, kTile)),
                  static_cast<unsigned>(s.all_heads()));
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(s.key_dim, [&]<int kWidth>() {
      return LaunchShared(ProjectionKernel<T, kWidth>, grid, kPairThreads,
                          static_cast<int>(sizeof(ProjectionShared<T, kWidth>)), on.stream, s, of,
                          static_cast<const T*>(w), static_cast<T*>(d));
    });
  });
}

}  // namespace weft::kernels::scatterbrain_cuda

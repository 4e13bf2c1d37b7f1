// What the passes of linear attention on Hopper share. Private to kernels/attention.
#pragma once

#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/features/cuda/feature_function.cuh"
#include "kernels/attention/linear_attention/cuda/linear_sm90.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels::sm90 {

// A matrix [64 tokens, kWidth] is kSlices tiles side by side. The state [features, values] is
// kSlices rows of such tiles: features of a slice are the rows of a tile.
template <int kWidth>
struct LinearGeometry {
  static constexpr int kSlices = kWidth / 64;
  static constexpr int kThreads = 128 * kSlices;
  static constexpr int kMatrixBytes = kSlices * kTileBytes;
  static constexpr int kStateBytes = kSlices * kMatrixBytes;
  static constexpr int kBlocks = kWidth == 64 ? 2 : 1;  // of a multiprocessor
};

// What a block works on: a segment of a head.
struct LinearWork {
  // `slices` neighbouring blocks share a segment.
  __device__ LinearWork(const LinearSm90Shape& shape, int first_segment, int segments,
                        int slices = 1)
      : index(static_cast<int>(blockIdx.x) / slices / segments),
        segment(first_segment + static_cast<int>(blockIdx.x) / slices % segments),
        head(index % shape.heads),
        batch(index / shape.heads),
        first_chunk(segment * shape.segment_chunks),
        chunks(min(shape.segment_chunks, shape.Chunks() - first_chunk)),
        row(int64_t{index} * shape.tokens),
        state((int64_t{index} * shape.segments + segment) * shape.StateSize()) {}

  int index;  // of the head among all
  int segment;
  int head;
  int batch;
  int first_chunk;
  int chunks;
  int64_t row;    // of [B, H, T]
  int64_t state;  // of [B, H, segments, state]
};

// Whether token `token` of a sequence may be seen.
struct SeenKeys {
  const int32_t* valid;  // of the sequence; null: all are
  int tokens;
  __device__ bool operator()(int token) const {
    return token < tokens && (valid == nullptr || valid[token] != 0);
  }
};
__device__ inline SeenKeys SeenOf(const LinearSm90Shape& shape, const int32_t* valid, int batch) {
  return {valid == nullptr ? nullptr : valid + int64_t{batch} * shape.tokens, shape.tokens};
}

// ---- Features

// Of a map whose scale is 1, rounded once.
template <CudaFeature kFeature>
__device__ inline uint32_t FeaturePair(const CudaFeatureMap& map, uint32_t pair) {
  const __nv_bfloat162 x = reinterpret_cast<const __nv_bfloat162&>(pair);
  const __nv_bfloat162 floor = __float2bfloat162_rn(map.floor);
  __nv_bfloat162 f;
  if constexpr (kFeature == CudaFeature::kSquare) {
    f = __hfma2(x, x, floor);
  } else if constexpr (kFeature == CudaFeature::kRelu) {
    f = __hadd2(__hmax2(x, __float2bfloat162_rn(0.0F)), floor);
  } else if constexpr (kFeature == CudaFeature::kMagnitude) {
    f = __hadd2(__habs2(x), floor);
  } else {
    f = __floats2bfloat162_rn(FeatureValue(kFeature, hopper::LowOf(pair)) + map.floor,
                              FeatureValue(kFeature, hopper::HighOf(pair)) + map.floor);
  }
  return reinterpret_cast<const uint32_t&>(f);
}

// Calls f.template operator()<feature>(): one branch around a loop instead of one inside.
template <typename F>
__device__ inline void ForFeature(CudaFeature feature, const F& f) {
  switch (feature) {
    case CudaFeature::kSquare:
      return f.template operator()<CudaFeature::kSquare>();
    case CudaFeature::kRelu:
      return f.template operator()<CudaFeature::kRelu>();
    case CudaFeature::kElu1:
      return f.template operator()<CudaFeature::kElu1>();
    case CudaFeature::kMagnitude:
    case CudaFeature::kExponential:  // has no path here
      return f.template operator()<CudaFeature::kMagnitude>();
  }
}

template <int kWidth, bool kDots, CudaFeature kFeature, typename Seen>
__device__ inline void MakeFeaturesOf(const CudaFeatureMap& map, const uint8_t* from, uint8_t* to,
                                      const Seen& seen, const float* sums, float* dots) {
  const int piece = static_cast<int>(threadIdx.x) % 8;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const int group =
        static_cast<int>(threadIdx.x) / 8 + n * (LinearGeometry<kWidth>::kThreads / 8);
    const int row = group % 64;
    const uint32_t offset =
        group / 64 * kTileBytes + hopper::SwizzledOffset(row * hopper::kTileRowBytes + piece * 16);
    const uint4 x = *reinterpret_cast<const uint4*>(from + offset);
    uint32_t f[4] = {x.x, x.y, x.z, x.w};
    const bool here = seen(row);
    [[maybe_unused]] float dot = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      f[i] = here ? FeaturePair<kFeature>(map, f[i]) : 0U;
      if constexpr (kDots) {
        const float2 z =
            *reinterpret_cast<const float2*>(sums + group / 64 * 64 + piece * 8 + 2 * i);
        dot += hopper::LowOf(f[i]) * z.x + hopper::HighOf(f[i]) * z.y;
      }
    }
    *reinterpret_cast<uint4*>(to + offset) = make_uint4(f[0], f[1], f[2], f[3]);
    if constexpr (kDots) {
      dot = GroupReduce<8>(dot, AddOf());
      if (piece == 0) dots[group] = dot;
    }
  }
}

// Features of a matrix, by all threads of the block. Rows that are not `seen` get zeros. When
// `sums` (z) are there, their products with the features go to dots[slice * 64 + row].
template <int kWidth, bool kDots, typename Seen>
__device__ inline void MakeFeatures(const CudaFeatureMap& map, const uint8_t* from, uint8_t* to,
                                    const Seen& seen, const float* sums = nullptr,
                                    float* dots = nullptr) {
  ForFeature(map.feature, [&]<CudaFeature kFeature>() {
    MakeFeaturesOf<kWidth, kDots, kFeature>(map, from, to, seen, sums, dots);
  });
}

// d times df/dx at the elements of `tile` (of x) where a warpgroup's accumulators lie, which then
// take its place. Rows that are not `seen` get zeros.
__device__ inline void WriteFeatureGradients(const CudaFeatureMap& map, uint8_t* tile,
                                             const float (&d)[32], const bool (&seen)[2]) {
  ForFeature(map.feature, [&]<CudaFeature kFeature>() {
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      uint32_t x[4];
      hopper::LoadPlain(x, tile, 16 * s);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float low = FeatureSlope(kFeature, hopper::LowOf(x[i]));
        const float high = FeatureSlope(kFeature, hopper::HighOf(x[i]));
        const bool here = seen[i % 2];
        x[i] = hopper::PackPair(here ? low * d[8 * s + 2 * i] : 0.0F,
                                here ? high * d[8 * s + 2 * i + 1] : 0.0F);
      }
      hopper::StorePlain(tile, 16 * s, x);
    }
  });
}

__device__ inline void WriteTile(uint8_t* tile, const float (&d)[32]) {
  uint32_t pairs[4][4];
  hopper::ToOperand(pairs, d);
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::StorePlain(tile, 16 * s, pairs[s]);
}

// ---- The state of a warpgroup: 64 features x kWidth values, and z of features row and row + 8

// A head has kFeatures, of which `slice` is the warpgroup's.
template <int kWidth, int kFeatures = kWidth>
struct LinearState {
  float r[kWidth / 2];
  float z[2];

  __device__ void Clear() {
#pragma unroll
    for (float& value : r) value = 0;
    z[0] = z[1] = 0;
  }
  __device__ void Scale(float factor) {
#pragma unroll
    for (float& value : r) value *= factor;
    z[0] *= factor;
    z[1] *= factor;
  }
  // Null: nothing was before.
  __device__ void Load(const float* state, int slice, const Place& at) {
    if (state == nullptr) return Clear();
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) r[i] = state[IndexOf(i, slice, at)];
#pragma unroll
    for (int i = 0; i < 2; ++i) z[i] = state[kFeatures * kWidth + 64 * slice + at.row + 8 * i];
  }
  __device__ void Store(float* state, int slice, const Place& at) const {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) state[IndexOf(i, slice, at)] = r[i];
    if (at.column > 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) state[kFeatures * kWidth + 64 * slice + at.row + 8 * i] = z[i];
  }
  // As operands of products.
  __device__ void StoreTiles(uint8_t* tiles, int slice) const {
    uint32_t pairs[kWidth / 16][4];
    hopper::ToOperand(pairs, r);
#pragma unroll
    for (int s = 0; s < kWidth / 16; ++s) {
      hopper::StorePlain(tiles + (slice * (kWidth / 64) + s / 4) * kTileBytes, 16 * (s % 4),
                         pairs[s]);
    }
  }
  __device__ void StoreSums(float* sums, int slice, const Place& at) const {
    if (at.column > 0) return;
    sums[64 * slice + at.row] = z[0];
    sums[64 * slice + at.row + 8] = z[1];
  }

 private:
  __device__ static int IndexOf(int i, int slice, const Place& at) {
    const int feature = 64 * slice + at.row + i % 4 / 2 * 8;
    return feature * kWidth + i / 4 * 8 + at.column + i % 2;
  }
};

// Transposed features [64 features of a slice, 64 tokens] as an operand.
__device__ inline void LoadTokens(uint32_t (&a)[4][4], const uint8_t* tile) {
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::LoadTransposed(a[s], tile, 16 * s);
}

// z += the sum over tokens of a.
__device__ inline void AddTokenSums(float (&z)[2], const uint32_t (&a)[4][4]) {
  float sums[2] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    sums[i % 2] += hopper::LowOf(a[i / 4][i % 4]) + hopper::HighOf(a[i / 4][i % 4]);
  }
  z[0] += GroupReduce<4>(sums[0], AddOf());
  z[1] += GroupReduce<4>(sums[1], AddOf());
}

// Transposed features times what their tokens count; adds them times `sum_factors` to z.
__device__ inline void WeighTokens(uint32_t (&f)[4][4], float (&z)[2], const float* factors,
                                   const float* sum_factors, const Place& at) {
  float sums[2] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int token = i / 4 * 16 + i % 4 / 2 * 8 + at.column;
    const float2 factor = *reinterpret_cast<const float2*>(factors + token);
    const float2 sum_factor = *reinterpret_cast<const float2*>(sum_factors + token);
    const uint32_t pair = f[i / 4][i % 4];
    const float low = hopper::LowOf(pair);
    const float high = hopper::HighOf(pair);
    sums[i % 2] += sum_factor.x * low + sum_factor.y * high;
    f[i / 4][i % 4] = hopper::PackPair(factor.x * low, factor.y * high);
  }
  z[0] += GroupReduce<4>(sums[0], AddOf());
  z[1] += GroupReduce<4>(sums[1], AddOf());
}

// ---- Products: tiles in shared memory, A of 64 rows. All start from zero unless they say more.

// d = A B^T, both with kWidth columns.
template <int kWidth>
__device__ inline void ProductOfRows(float (&d)[32], hopper::Tiles a, hopper::Tiles b) {
#pragma unroll
  for (int s = 0; s < kWidth / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(d, RowsTiles(a, s), RowsTiles(b, s), s > 0);
  }
}
// d = A S, A [64, features], values of `slice` of the state S.
template <int kWidth>
__device__ inline void ProductWithState(float (&d)[32], hopper::Tiles a, hopper::Tiles state,
                                        int slice) {
#pragma unroll
  for (int s = 0; s < kWidth / 16; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(
        d, RowsTiles(a, s),
        hopper::ColumnsTile(state + (s / 4 * (kWidth / 64) + slice) * kTileBytes, s % 4), s > 0);
  }
}
// d = A S^T, A [64, values], features of `slice`.
template <int kWidth>
__device__ inline void ProductWithTransposedState(float (&d)[32], hopper::Tiles a,
                                                  hopper::Tiles state, int slice) {
  ProductOfRows<kWidth>(d, a, state + slice * (kWidth / 64) * kTileBytes);
}
// d += A B, A [64, 64] in registers, B [64, N] in tiles.
template <int kCount>
__device__ inline void AddProduct(float (&d)[kCount], const uint32_t (&a)[4][4], hopper::Tiles b) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    hopper::Multiply<Rows::kAreK>(d, a[s], hopper::ColumnsTile(b, s), 1);
  }
}

// ---- Launching

// Maps of the [B, T, H, width] tensors of a call, and of its features; the first error stays.
class LinearMaps {
 public:
  explicit LinearMaps(const LinearSm90Shape& shape) : shape_(shape) {}
  CUtensorMap Of(const __nv_bfloat16* data) { return Of(data, shape_.width); }
  CUtensorMap OfFeatures(const __nv_bfloat16* data) { return Of(data, shape_.features); }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  CUtensorMap Of(const __nv_bfloat16* data, int width) {
    CUtensorMap map = {};
    if (error_ == cudaSuccess) {
      error_ =
          MakeTensorMap(data, shape_.batch, shape_.tokens, shape_.heads, width, kLinearChunk, &map);
    }
    return map;
  }

  LinearSm90Shape shape_;
  cudaError_t error_ = cudaSuccess;
};

// Starts a pass with a block for each of `segments` of every head.
template <typename Layout, typename Params>
cudaError_t LaunchSegments(void (*kernel)(Params), const LinearSm90Shape& shape, int segments,
                           const Params& params, cudaStream_t stream) {
  return LaunchShared(kernel, static_cast<unsigned>(shape.batch * shape.heads * segments),
                      Layout::kThreads, Layout::kSharedBytes, stream, params);
}

}  // namespace weft::kernels::sm90

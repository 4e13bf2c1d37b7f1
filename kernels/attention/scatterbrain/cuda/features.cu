// Random features of queries and keys, and their gradients. A warp a token of a head.
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kScanThreads = 256;

// The token of a warp: where its rows lie by heads and by tokens. blockIdx.y is a head.
struct Token {
  __device__ Token(const Sizes& s, int count)
      : lane(static_cast<int>(threadIdx.x) % 32),
        token(static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32),
        exists(token < count) {
    const auto head = static_cast<int>(blockIdx.y);
    sequence = head / s.heads;
    by_head = int64_t{head} * count + token;
    by_token = (sequence * count + token) * s.heads + head % s.heads;
    padded = int64_t{head} * ((count + kTile - 1) / kTile * kTile) + token;
  }
  int lane, token;
  bool exists;
  int64_t by_head;  // row of [heads, count]
  int64_t sequence, by_token;
  int64_t padded;  // row of [heads, count rounded up to whole tiles]
};

dim3 BlocksFor(const Sizes& s, int count) {
  return {static_cast<unsigned>(CeilDiv(count, kWarps)), static_cast<unsigned>(s.all_heads())};
}

// A lane's elements of a token's row, which is at most 4 warps wide: on their way while the caller
// does something else.
struct LaneRow {
  template <typename T>
  __device__ LaneRow(const Sizes& s, const Token& at, const T* rows) {
    const T* const row = rows + at.by_token * s.key_dim;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int d = at.lane + 32 * i;
      elements[i] = d < s.key_dim ? ToFloat(row[d]) : 0.0F;
    }
  }
  // |u|^2 / 2 + ln(r) / 2. All lanes call it.
  [[nodiscard]] __device__ float Shift(const Sizes& s) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float u = s.root * elements[i];
      sum += u * u;
    }
    return GroupReduce<32>(sum, AddOf()) / 2 + logf(static_cast<float>(s.features)) / 2;
  }
  float elements[4];
};

// w_l . u of the signed row l; there are as many negative ones as rows, or none.
__device__ inline float Product(const Sizes& s, const float* products, int l) {
  const bool positive = l < s.feature_rows;
  const float x = s.root * products[positive ? l : l - s.feature_rows];
  return positive ? x : -x;
}

__device__ inline float LargestProduct(const Sizes& s, const Token& at, const float* products) {
  float largest = -INFINITY;
  for (int l = at.lane; l < s.features; l += 32) {
    largest = fmaxf(largest, Product(s, products, l));
  }
  return GroupReduce<32>(largest, MaxOf());
}

// The first signed row that attains `largest`.
__device__ inline int TopFeature(const Sizes& s, const Token& at, const float* products,
                                 float largest) {
  int top = s.features;
  for (int l = at.lane; l < s.features; l += 32) {
    if (Product(s, products, l) == largest) top = min(top, l);
  }
  return GroupReduce<32>(top, [](int a, int b) { return min(a, b); });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    QueryKernel(Sizes s, const T* __restrict__ q, const float* __restrict__ products,
                T* __restrict__ phi, float* __restrict__ query_scale) {
  const Token at(s, s.queries);
  if (!at.exists) return;
  const LaneRow row(s, at, q);
  const float* const x = products + at.by_token * s.feature_rows;
  const float largest = LargestProduct(s, at, x);
  for (int l = at.lane; l < s.features; l += 32) {
    phi[at.by_head * s.features + l] = FromFloat<T>(expf(Product(s, x, l) - largest) + s.offset);
  }
  const float shift = row.Shift(s);
  if (at.lane == 0) query_scale[at.by_head] = largest - shift;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    OwnScaleKernel(Sizes s, const T* __restrict__ k, const int32_t* __restrict__ valid,
                   const float* __restrict__ products, float* __restrict__ own_scale) {
  const Token at(s, s.keys);
  if (!at.exists) return;
  const LaneRow row(s, at, k);
  const float largest = LargestProduct(s, at, products + at.by_token * s.feature_rows);
  const float shift = row.Shift(s);
  const bool holds = valid == nullptr || valid[at.sequence * s.keys + at.token] != 0;
  if (at.lane == 0) own_scale[at.by_head] = holds ? largest - shift : -INFINITY;
}

// A block a head: m, the maximum over all keys, or over those up to each.
__global__ void __launch_bounds__(kScanThreads)
    KeyScaleKernel(Sizes s, const float* __restrict__ own_scale, float* __restrict__ key_scale) {
  __shared__ float shared[32];
  own_scale += int64_t{blockIdx.x} * s.keys;
  key_scale += int64_t{blockIdx.x} * s.keys;
  float largest = -INFINITY;
  if (!s.causal) {
    for (int j = static_cast<int>(threadIdx.x); j < s.keys; j += kScanThreads) {
      largest = fmaxf(largest, own_scale[j]);
    }
    largest = BlockReduce<kScanThreads>(largest, MaxOf(), shared);
    for (int j = static_cast<int>(threadIdx.x); j < s.keys; j += kScanThreads) {
      key_scale[j] = largest;
    }
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int first = 0; first < s.keys; first += kScanThreads) {
    const int j = first + static_cast<int>(threadIdx.x);
    float own = j < s.keys ? own_scale[j] : -INFINITY;
    for (int distance = 1; distance < 32; distance *= 2) {
      const float before = __shfl_up_sync(0xFFFFFFFF, own, distance);
      if (lane >= distance) own = fmaxf(own, before);
    }
    if (lane == 31) shared[warp] = own;
    __syncthreads();
    for (int w = 0; w < warp; ++w) own = fmaxf(own, shared[w]);
    own = fmaxf(own, largest);
    if (j < s.keys) key_scale[j] = own;
    for (int w = 0; w < kScanThreads / 32; ++w) largest = fmaxf(largest, shared[w]);
    __syncthreads();
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    KeyKernel(Sizes s, const T* __restrict__ k, const float* __restrict__ products,
              const float* __restrict__ own_scale, const float* __restrict__ key_scale,
              T* __restrict__ psi) {
  const Token at(s, s.keys);
  if (!at.exists) return;
  const float* const x = products + at.by_token * s.feature_rows;
  const float shift = LaneRow(s, at, k).Shift(s) + key_scale[at.by_head];
  const bool holds = own_scale[at.by_head] != -INFINITY;
  for (int l = at.lane; l < s.features; l += 32) {
    const float value = holds ? expf(Product(s, x, l) - shift) + s.offset : 0.0F;
    psi[at.by_head * s.features + l] = FromFloat<T>(value);
  }
}

// gamma = d_stored (stored - offset), the gradients of the exponents, folded over the two signs.
// Returns the sums of gamma and of d_stored stored.
template <typename T>
__device__ inline float2 Fold(const Sizes& s, const Token& at, const T* stored,
                              const float* d_stored, float* folded) {
  float gammas = 0;
  float whole = 0;
  for (int l = at.lane; l < s.feature_rows; l += 32) {
    float sum = 0;
    for (int m = l; m < s.features; m += s.feature_rows) {
      const float value = ToFloat(stored[m]);
      const float gamma = d_stored[m] * (value - s.offset);
      gammas += gamma;
      whole += d_stored[m] * value;
      sum += m < s.feature_rows ? gamma : -gamma;
    }
    folded[l] = sum;
  }
  return make_float2(GroupReduce<32>(gammas, AddOf()), GroupReduce<32>(whole, AddOf()));
}

// Adds `value` to the gradient of the exponent of one signed row.
__device__ inline void AddToRow(const Sizes& s, int feature, float value, float* folded) {
  const bool positive = feature < s.feature_rows;
  folded[positive ? feature : feature - s.feature_rows] += positive ? value : -value;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    QueryGradientKernel(Sizes s, const float* __restrict__ products, const T* __restrict__ phi,
                        const float* __restrict__ d_phi, float* __restrict__ folded,
                        float* __restrict__ shares) {
  const Token at(s, s.queries);
  if (!at.exists) return;
  float* const to = folded + at.by_head * s.feature_rows;
  const float2 sums =
      Fold(s, at, phi + at.by_head * s.features, d_phi + at.padded * s.features, to);
  if (s.offset > 0.0F) {
    const float* const x = products + at.by_token * s.feature_rows;
    const int top = TopFeature(s, at, x, LargestProduct(s, at, x));
    __syncwarp();
    if (at.lane == 0) AddToRow(s, top, sums.y - sums.x, to);
  }
  if (at.lane == 0) shares[at.by_head] = sums.y;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    KeyGradientKernel(Sizes s, const T* __restrict__ psi, const float* __restrict__ d_psi,
                      const float* __restrict__ own_scale, float* __restrict__ folded,
                      float* __restrict__ shares, float* __restrict__ rests) {
  const Token at(s, s.keys);
  if (!at.exists) return;
  float* const to = folded + at.by_head * s.feature_rows;
  if (own_scale[at.by_head] == -INFINITY) {
    for (int l = at.lane; l < s.feature_rows; l += 32) to[l] = 0.0F;
    if (at.lane == 0) shares[at.by_head] = rests[at.by_head] = 0.0F;
    return;
  }
  const float2 sums =
      Fold(s, at, psi + at.by_head * s.features, d_psi + at.padded * s.features, to);
  if (at.lane != 0) return;
  shares[at.by_head] = sums.x;
  rests[at.by_head] = sums.y - sums.x;
}

// A warp a key that is the first to attain its m: what m gets from all keys that share it goes to
// that key's largest exponent.
__global__ void __launch_bounds__(kThreads)
    KeyScaleGradientKernel(Sizes s, const float* __restrict__ products,
                           const float* __restrict__ own_scale, const float* __restrict__ key_scale,
                           const float* __restrict__ rests, float* __restrict__ folded,
                           float* __restrict__ shares) {
  const Token at(s, s.keys);
  if (!at.exists) return;
  const int64_t first = at.by_head - at.token;
  const float own = own_scale[at.by_head];
  if (own == -INFINITY || own != key_scale[at.by_head]) return;
  for (int before = 0; before < at.token; before += 32) {
    const int j = before + at.lane;
    const bool earlier = j < at.token && own_scale[first + j] >= own;
    if (__any_sync(0xFFFFFFFF, earlier)) return;
  }
  float sum = 0;
  for (int from = s.causal ? at.token : 0; from < s.keys; from += 32) {
    const int j = from + at.lane;
    const bool shares_it = j < s.keys && key_scale[first + j] == own;
    if (shares_it) sum += rests[first + j];
    if (!__all_sync(0xFFFFFFFF, shares_it)) break;
  }
  sum = GroupReduce<32>(sum, AddOf());
  const float* const x = products + at.by_token * s.feature_rows;
  const int top = TopFeature(s, at, x, LargestProduct(s, at, x));
  if (at.lane != 0) return;
  AddToRow(s, top, sum, folded + at.by_head * s.feature_rows);
  shares[at.by_head] += sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    StoreValueKernel(Sizes s, const float* __restrict__ d_value, T* __restrict__ d_v) {
  const Token at(s, s.keys);
  if (!at.exists) return;
  for (int x = at.lane; x < s.value_dim; x += 32) {
    d_v[at.by_token * s.value_dim + x] = FromFloat<T>(d_value[at.padded * s.value_columns() + x]);
  }
}

}  // namespace

cudaError_t QueryFeatures(const CudaLaunch& on, const Sizes& s, const Operands& in,
                          const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    QueryKernel<T><<<BlocksFor(s, s.queries), kThreads, 0, on.stream>>>(
        s, static_cast<const T*>(in.q), space.query_products, static_cast<T*>(space.phi),
        space.query_scale);
    return cudaGetLastError();
  });
}

cudaError_t KeyFeatures(const CudaLaunch& on, const Sizes& s, const Operands& in,
                        const Space& space) {
  if (s.keys == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const auto* const k = static_cast<const T*>(in.k);
    const dim3 blocks = BlocksFor(s, s.keys);
    OwnScaleKernel<T>
        <<<blocks, kThreads, 0, on.stream>>>(s, k, in.valid, space.key_products, space.own_scale);
    KeyScaleKernel<<<static_cast<unsigned>(s.all_heads()), kScanThreads, 0, on.stream>>>(
        s, space.own_scale, space.key_scale);
    KeyKernel<T><<<blocks, kThreads, 0, on.stream>>>(s, k, space.key_products, space.own_scale,
                                                     space.key_scale, static_cast<T*>(space.psi));
    return cudaGetLastError();
  });
}

cudaError_t QueryFeatureGradients(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    QueryGradientKernel<T><<<BlocksFor(s, s.queries), kThreads, 0, on.stream>>>(
        s, space.query_products, static_cast<const T*>(space.phi), space.d_phi,
        space.d_query_products, space.query_shares);
    return cudaGetLastError();
  });
}

cudaError_t KeyFeatureGradients(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.keys == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const dim3 blocks = BlocksFor(s, s.keys);
    KeyGradientKernel<T><<<blocks, kThreads, 0, on.stream>>>(
        s, static_cast<const T*>(space.psi), space.d_psi, space.own_scale, space.d_key_products,
        space.key_shares, space.rests);
    if (s.offset > 0.0F) {
      KeyScaleGradientKernel<<<blocks, kThreads, 0, on.stream>>>(
          s, space.key_products, space.own_scale, space.key_scale, space.rests,
          space.d_key_products, space.key_shares);
    }
    return cudaGetLastError();
  });
}

cudaError_t StoreValueGradients(const CudaLaunch& on, const Sizes& s, const float* d_value,
                                void* d_v) {
  if (s.keys == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    StoreValueKernel<T>
        <<<BlocksFor(s, s.keys), kThreads, 0, on.stream>>>(s, d_value, static_cast<T*>(d_v));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::scatterbrain_cuda

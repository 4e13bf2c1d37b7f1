#include "kernels/attention/polysketch/cuda/portable_kernels.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::portable {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

unsigned BlocksFor(int64_t items, int64_t of_block) {
  return static_cast<unsigned>(CeilDiv(items, of_block));
}

// The row of this warp among [H, n], or past the end.
__device__ inline int64_t WarpRow() { return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; }

// Of row i of head h.
template <typename T>
__device__ inline T* RowAt(const TokenRows& rows, int64_t head, int64_t i) {
  return static_cast<T*>(rows.first) + (i * rows.heads + head) * rows.width;
}

// The number of the product of entries a and b (polysketch.h, SelfProductIndex).
__device__ inline int ProductAt(int r, int a, int b) {
  const int low = min(a, b);
  const int high = max(a, b);
  const int distance = high - low;
  return 2 * distance <= r ? distance * r + low : (r - distance) * r + high;
}

constexpr float kRootOfTwo = 1.41421356F;

template <typename T>
__global__ void __launch_bounds__(kThreads) SelfProductsKernel(SelfProductsCall call) {
  const int64_t row = WarpRow();
  if (row >= call.phi.rows * call.phi.heads) return;
  const int r = call.phi.width;
  const int64_t head = row / call.phi.rows;
  const int64_t i = row % call.phi.rows;
  const T* const phi = RowAt<T>(call.phi, head, i);
  const bool exists = call.valid == nullptr || call.valid[i] != 0;
  const float sign = exists ? call.sign : 0.0F;
  const int lane = threadIdx.x % 32;
  if (call.weighted != nullptr) {
    const float weight = call.weights == nullptr ? 1.0F : call.weights[row];
    const float factor = sign * call.scale * call.scale * weight;
    T* const weighted = static_cast<T*>(call.weighted) + row * r;
    for (int a = lane; a < r; a += 32) weighted[a] = FromFloat<T>(ToFloat(phi[a]) * factor);
  }
  if (call.products == nullptr) return;
  const int64_t count = int64_t{r} * (r + 1) / 2;
  T* const products = static_cast<T*>(call.products) + row * count;
  for (int at = lane; at < count; at += 32) {
    const int distance = at / r;
    const int a = at % r;
    const int b = a + distance < r ? a + distance : a + distance - r;
    const float product = ToFloat(phi[a]) * call.scale * (ToFloat(phi[b]) * call.scale);
    products[at] = FromFloat<T>(sign * (distance == 0 ? product : kRootOfTwo * product));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    MassReadKernel(TokenRows rows, float scale, const float* mass, float* far) {
  const int64_t row = WarpRow();
  if (row >= rows.rows * rows.heads) return;
  const int r = rows.width;
  const int64_t head = row / rows.rows;
  const T* const phi = RowAt<T>(rows, head, row % rows.rows);
  const float* const e = mass + head * r * r;
  const int lane = threadIdx.x % 32;
  float sum = 0;
  for (int a = 0; a < r; ++a) {
    float inner = 0;
    for (int b = lane; b < r; b += 32) inner += e[a * r + b] * ToFloat(phi[b]);
    sum += inner * ToFloat(phi[a]);
  }
  sum = GroupReduce<32>(sum, AddOf()) * scale * scale;
  if (lane == 0) far[row] = sum > 0 ? sum : 0.0F;
}

__device__ inline bool Counts(const PairsCall& pairs, int64_t i, int64_t j) {
  return j <= i + pairs.last && (pairs.valid == nullptr || pairs.valid[j] != 0);
}

// x^(2^squarings), and in `slope` its derivative.
__device__ inline float PowerOf(float x, int squarings, float& slope) {
  float power = x;
  slope = 1;
  for (int i = 0; i < squarings; ++i) {
    slope *= 2 * power;
    power *= power;
  }
  return power;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PairWeightsKernel(PairsCall pairs, T* weights, float* near) {
  __shared__ float shared[32];
  const int64_t row = blockIdx.x;
  const int64_t i = row % pairs.rows;
  float sum = 0;
  for (int64_t j = threadIdx.x; j < pairs.keys; j += kThreads) {
    float slope;
    const float x = pairs.products[row * pairs.keys + j] * pairs.scale;
    const float weight = Counts(pairs, i, j) ? PowerOf(x, pairs.squarings, slope) : 0.0F;
    weights[row * pairs.keys + j] = FromFloat<T>(weight);
    sum += weight;
  }
  sum = BlockReduce<kThreads>(sum, AddOf(), shared);
  if (threadIdx.x == 0) near[row] = sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PairSlopesKernel(PairsCall pairs, const float* d_weights, const float* shift, T* weights,
                     T* d_products) {
  const int64_t row = blockIdx.x;
  const int64_t i = row % pairs.rows;
  for (int64_t j = threadIdx.x; j < pairs.keys; j += kThreads) {
    const int64_t at = row * pairs.keys + j;
    float weight = 0, slope = 0;
    if (Counts(pairs, i, j)) {
      weight = PowerOf(pairs.products[at] * pairs.scale, pairs.squarings, slope);
      slope *= pairs.scale * (d_weights[at] + shift[row]);
    }
    weights[at] = FromFloat<T>(weight);
    d_products[at] = FromFloat<T>(slope);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) QuotientKernel(QuotientCall call) {
  const int64_t row = WarpRow();
  if (row >= call.o.rows * call.o.heads) return;
  const int64_t head = row / call.o.rows;
  const int64_t i = row % call.o.rows;
  const int lane = threadIdx.x % 32;
  const float far = call.far == nullptr ? 0.0F : call.far[row];
  const float total = call.c0 + far + (call.near == nullptr ? 0.0F : call.near[row]);
  const float inverse = total > 0 ? 1.0F / total : 0.0F;
  const int width = call.o.width;
  T* const o = RowAt<T>(call.o, head, i);
  for (int d = lane; d < width; d += 32) o[d] = FromFloat<T>(call.num[row * width + d] * inverse);
  if (lane != 0 || call.total == nullptr) return;
  call.total[head * call.stride + i] = total;
  call.far_saved[head * call.stride + i] = far;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) QuerySlopesKernel(QuerySlopesCall call) {
  const int64_t row = WarpRow();
  if (row >= call.o.rows * call.o.heads) return;
  const int64_t head = row / call.o.rows;
  const int64_t i = row % call.o.rows;
  const int lane = threadIdx.x % 32;
  const int width = call.o.width;
  const T* const o = RowAt<T>(call.o, head, i);
  const T* const d_o = RowAt<T>(call.d_o, head, i);
  const float total = call.total[head * call.stride + i];
  const float inverse = total > 0 ? 1.0F / total : 0.0F;
  float dot = 0;
  for (int d = lane; d < width; d += 32) {
    const float slope = ToFloat(d_o[d]);
    dot += slope * ToFloat(o[d]);
    static_cast<T*>(call.d_num)[row * width + d] = FromFloat<T>(slope * inverse);
  }
  dot = GroupReduce<32>(dot, AddOf());
  if (lane != 0) return;
  call.shift[row] = -inverse * dot;
  call.far_shift[row] = call.far[head * call.stride + i] > 0 ? -inverse * dot : 0.0F;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) FeatureSlopesKernel(FeatureSlopesCall call) {
  const int64_t row = WarpRow();
  if (row >= call.phi.rows * call.phi.heads) return;
  const int r = call.phi.width;
  const int64_t head = row / call.phi.rows;
  const int64_t i = row % call.phi.rows;
  const int lane = threadIdx.x % 32;
  const T* const phi = RowAt<T>(call.phi, head, i);
  T* const d_phi = RowAt<T>(call.d_phi, head, i);
  const bool exists = call.valid == nullptr || call.valid[i] != 0;
  const bool far = call.d_products != nullptr && exists;
  const float* const slopes = call.d_products + row * (int64_t{r} * (r + 1) / 2);
  const float* const mass = call.mass + head * r * r;
  const float shift = far && call.shift != nullptr ? call.shift[row] : 1.0F;
  for (int a = lane; a < r; a += 32) {
    float sum = 0;
    for (int b = 0; b < r && far; ++b) {
      const float factor = a == b ? 2.0F : kRootOfTwo;
      const float slope =
          factor * slopes[ProductAt(r, a, b)] + shift * (mass[a * r + b] + mass[b * r + a]);
      sum += slope * ToFloat(phi[b]);
    }
    sum *= call.scale * call.scale;
    if (call.near != nullptr) sum += call.near[head * call.near_stride + i * r + a];
    d_phi[a] = FromFloat<T>(sum);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) StoreRowsKernel(const float* from, TokenRows to) {
  const int64_t row = WarpRow();
  if (row >= to.rows * to.heads) return;
  T* const at = RowAt<T>(to, row / to.rows, row % to.rows);
  for (int d = threadIdx.x % 32; d < to.width; d += 32) {
    at[d] = FromFloat<T>(from[row * to.width + d]);
  }
}

// Launches a kernel with a warp for each row of all heads.
template <typename Kernel, typename... Args>
cudaError_t ByWarps(const CudaLaunch& on, const TokenRows& rows, Kernel kernel, Args... args) {
  const int64_t count = rows.rows * rows.heads;
  if (count == 0) return cudaSuccess;
  kernel<<<BlocksFor(count, kWarps), kThreads, 0, on.stream>>>(args...);
  return cudaGetLastError();
}

// And with a block for each row of pairs.
template <typename Kernel, typename... Args>
cudaError_t ByBlocks(const CudaLaunch& on, const PairsCall& pairs, Kernel kernel, Args... args) {
  const int64_t count = pairs.rows * pairs.heads;
  if (count == 0) return cudaSuccess;
  kernel<<<BlocksFor(count, 1), kThreads, 0, on.stream>>>(pairs, args...);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchSelfProducts(const CudaLaunch& on, const SelfProductsCall& call) {
  return ForComputeType(
      on, [&]<typename T>() { return ByWarps(on, call.phi, SelfProductsKernel<T>, call); });
}

cudaError_t LaunchMassRead(const CudaLaunch& on, const TokenRows& phi, float scale,
                           const float* mass, float* far) {
  return ForComputeType(
      on, [&]<typename T>() { return ByWarps(on, phi, MassReadKernel<T>, phi, scale, mass, far); });
}

cudaError_t LaunchPairWeights(const CudaLaunch& on, const PairsCall& pairs, void* weights,
                              float* near) {
  return ForComputeType(on, [&]<typename T>() {
    return ByBlocks(on, pairs, PairWeightsKernel<T>, static_cast<T*>(weights), near);
  });
}

cudaError_t LaunchPairSlopes(const CudaLaunch& on, const PairsCall& pairs, const float* d_weights,
                             const float* shift, void* weights, void* d_products) {
  return ForComputeType(on, [&]<typename T>() {
    return ByBlocks(on, pairs, PairSlopesKernel<T>, d_weights, shift, static_cast<T*>(weights),
                    static_cast<T*>(d_products));
  });
}

cudaError_t LaunchQuotient(const CudaLaunch& on, const QuotientCall& call) {
  return ForComputeType(on,
                        [&]<typename T>() { return ByWarps(on, call.o, QuotientKernel<T>, call); });
}

cudaError_t LaunchQuerySlopes(const CudaLaunch& on, const QuerySlopesCall& call) {
  return ForComputeType(
      on, [&]<typename T>() { return ByWarps(on, call.o, QuerySlopesKernel<T>, call); });
}

cudaError_t LaunchFeatureSlopes(const CudaLaunch& on, const FeatureSlopesCall& call) {
  return ForComputeType(
      on, [&]<typename T>() { return ByWarps(on, call.phi, FeatureSlopesKernel<T>, call); });
}

cudaError_t LaunchStoreRows(const CudaLaunch& on, const float* from, const TokenRows& to) {
  return ForComputeType(
      on, [&]<typename T>() { return ByWarps(on, to, StoreRowsKernel<T>, from, to); });
}

}  // namespace weft::kernels::portable

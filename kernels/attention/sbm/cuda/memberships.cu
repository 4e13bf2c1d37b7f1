// What memberships and affinities need beside matrix products and the ops of kernels/ops.
#include "kernels/attention/cuda/tile_product.cuh"
#include "kernels/attention/sbm/cuda/sbm_cuda.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sbm {
namespace {

constexpr int kThreads = 256;
constexpr int kSquareThreads = 1024;

// Element i of [B, H, T, K] in [B, T, H, K].
__device__ inline int64_t ByToken(const Sizes& s, int64_t i) {
  const int64_t cluster = i % s.clusters;
  const int64_t row = i / s.clusters;
  const int64_t token = row % s.queries;
  const int64_t head = row / s.queries;
  return (((head / s.heads) * s.queries + token) * s.heads + head % s.heads) * s.clusters + cluster;
}

__global__ void __launch_bounds__(kThreads)
    SigmoidKernel(Sizes sizes, int64_t count, const float* logits, float* memberships) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) memberships[i] = 1.0F / (1.0F + expf(-logits[ByToken(sizes, i)]));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    SigmoidGradientKernel(Sizes sizes, int64_t count, const float* memberships,
                          const float* d_memberships, T* d_logits) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const float y = memberships[i];
  d_logits[ByToken(sizes, i)] = FromFloat<T>(d_memberships[i] * y * (1.0F - y));
}

// A warp an entry of C C^T.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    AffinityLogitKernel(Sizes sizes, const T* clusters, float* affinity) {
  const int64_t square = int64_t{sizes.clusters} * sizes.clusters;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (at >= sizes.heads * square) return;
  const int64_t head = at / square;
  const T* const u = clusters + (head * sizes.clusters + at % square / sizes.clusters) * sizes.dim;
  const T* const v = clusters + (head * sizes.clusters + at % sizes.clusters) * sizes.dim;
  float sum = 0;
  for (int d = static_cast<int>(threadIdx.x) % 32; d < sizes.dim; d += 32) {
    sum += ToFloat(u[d]) * ToFloat(v[d]);
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (threadIdx.x % 32 == 0) affinity[at] = sum;
}

// A block a head: the softmax of all its entries.
__global__ void __launch_bounds__(kSquareThreads)
    AffinitySoftmaxKernel(int64_t square, float* affinity) {
  __shared__ float shared[32];
  affinity += blockIdx.x * square;
  float largest = -INFINITY;
  for (int64_t i = threadIdx.x; i < square; i += kSquareThreads) {
    largest = fmaxf(largest, affinity[i]);
  }
  largest = BlockReduce<kSquareThreads>(largest, MaxOf(), shared);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < square; i += kSquareThreads) {
    affinity[i] = expf(affinity[i] - largest);
    sum += affinity[i];
  }
  sum = BlockReduce<kSquareThreads>(sum, AddOf(), shared);
  for (int64_t i = threadIdx.x; i < square; i += kSquareThreads) affinity[i] /= sum;
}

// A block a head: the mean of d_affinity under the affinity.
__global__ void __launch_bounds__(kSquareThreads)
    AffinityMeanKernel(int64_t square, const float* affinity, const float* d_affinity,
                       float* means) {
  __shared__ float shared[32];
  const int64_t begin = blockIdx.x * square;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < square; i += kSquareThreads) {
    sum += affinity[begin + i] * d_affinity[begin + i];
  }
  sum = BlockReduce<kSquareThreads>(sum, AddOf(), shared);
  if (threadIdx.x == 0) means[blockIdx.x] = sum;
}

// A block 64 x 64 of to [B, H, count, K] = sums S^T, or sums S; blockIdx.z is a head.
__global__ void __launch_bounds__(kTileThreads)
    TimesAffinityKernel(Sizes s, int count, bool transposed, const float* sums,
                        const float* affinity, float* to) {
  __shared__ Slabs<float> slabs;
  const int n = s.clusters;
  const int64_t head = blockIdx.z;
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int first_column = static_cast<int>(blockIdx.y) * kTile;
  const int64_t row_stride = transposed ? n : 1;
  const int64_t depth_stride = transposed ? 1 : n;
  const Panel<float> left{.at = sums + (head * count + first_row) * n,
                          .row_stride = n,
                          .depth_stride = 1,
                          .rows = count - first_row,
                          .depth = n};
  const Panel<float> right{.at = affinity + head % s.heads * n * n + first_column * row_stride,
                           .row_stride = row_stride,
                           .depth_stride = depth_stride,
                           .rows = n - first_column,
                           .depth = n};
  float product[4][4] = {};
  TileProduct(product, left, right, slabs);
#pragma unroll
  for (int group = 0; group < 4; ++group) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = first_row + TileRow() + 8 * (e / 2);
      const int column = first_column + TileColumn() + 8 * group + e % 2;
      if (row < count && column < n) to[(head * count + row) * n + column] = product[group][e];
    }
  }
}

// d_affinity [H, K, K] = the sum of parts [B, H, K, K] over the sequences.
__global__ void __launch_bounds__(kThreads)
    SumSequencesKernel(int batch, int64_t count, const float* parts, float* d_affinity) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
  for (int b = 0; b < batch; ++b) sum += parts[b * count + i];
  d_affinity[i] = sum;
}

// A block a cluster: the gradient of its embedding from its row and its column of logits.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    AffinityGradientKernel(Sizes sizes, const T* clusters, const float* affinity,
                           const float* d_affinity, const float* means, float* d_clusters) {
  const int n = sizes.clusters;
  const int64_t head = blockIdx.y;
  const int u = static_cast<int>(blockIdx.x);
  const float mean = means[head];
  const int64_t square = head * n * n;
  for (int d = static_cast<int>(threadIdx.x); d < sizes.dim; d += kThreads) {
    float sum = 0;
    for (int v = 0; v < n; ++v) {
      const int64_t row = square + int64_t{u} * n + v;
      const int64_t column = square + int64_t{v} * n + u;
      const float d_logit =
          affinity[row] * (d_affinity[row] - mean) + affinity[column] * (d_affinity[column] - mean);
      sum += d_logit * ToFloat(clusters[(head * n + v) * sizes.dim + d]);
    }
    d_clusters[(head * n + u) * sizes.dim + d] += sum;
  }
}

unsigned BlocksFor(int64_t threads) { return static_cast<unsigned>(CeilDiv(threads, kThreads)); }

int64_t MembershipsOf(const Sizes& s) { return int64_t{s.all_heads()} * s.queries * s.clusters; }

}  // namespace

cudaError_t Sigmoids(const CudaLaunch& on, const Sizes& sizes, const float* logits,
                     float* memberships) {
  const int64_t count = MembershipsOf(sizes);
  if (count == 0) return cudaSuccess;
  SigmoidKernel<<<BlocksFor(count), kThreads, 0, on.stream>>>(sizes, count, logits, memberships);
  return cudaGetLastError();
}

cudaError_t SigmoidGradients(const CudaLaunch& on, const Sizes& sizes, const float* memberships,
                             const float* d_memberships, void* d_logits) {
  const int64_t count = MembershipsOf(sizes);
  if (count == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    SigmoidGradientKernel<<<BlocksFor(count), kThreads, 0, on.stream>>>(
        sizes, count, memberships, d_memberships, static_cast<T*>(d_logits));
    return cudaGetLastError();
  });
}

cudaError_t Affinity(const CudaLaunch& on, const Sizes& sizes, const void* clusters,
                     float* affinity) {
  const int64_t square = int64_t{sizes.clusters} * sizes.clusters;
  const cudaError_t error = ForComputeType(on, [&]<typename T>() {
    AffinityLogitKernel<<<BlocksFor(32 * sizes.heads * square), kThreads, 0, on.stream>>>(
        sizes, static_cast<const T*>(clusters), affinity);
    return cudaGetLastError();
  });
  if (error != cudaSuccess) return error;
  AffinitySoftmaxKernel<<<sizes.heads, kSquareThreads, 0, on.stream>>>(square, affinity);
  return cudaGetLastError();
}

cudaError_t TimesAffinity(const CudaLaunch& on, const Sizes& sizes, int count, bool transposed,
                          const float* sums, const float* affinity, float* to) {
  if (count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(count, kTile)),
                  static_cast<unsigned>(CeilDiv(sizes.clusters, kTile)),
                  static_cast<unsigned>(sizes.all_heads()));
  TimesAffinityKernel<<<grid, kTileThreads, 0, on.stream>>>(sizes, count, transposed, sums,
                                                            affinity, to);
  return cudaGetLastError();
}

cudaError_t SumSequences(const CudaLaunch& on, const Sizes& sizes, const float* parts,
                         float* d_affinity) {
  const int64_t count = int64_t{sizes.heads} * sizes.clusters * sizes.clusters;
  SumSequencesKernel<<<BlocksFor(count), kThreads, 0, on.stream>>>(sizes.batch, count, parts,
                                                                   d_affinity);
  return cudaGetLastError();
}

cudaError_t AffinityGradient(const CudaLaunch& on, const Sizes& sizes, const void* clusters,
                             const float* affinity, const float* d_affinity, float* means,
                             float* d_clusters) {
  const int64_t square = int64_t{sizes.clusters} * sizes.clusters;
  AffinityMeanKernel<<<sizes.heads, kSquareThreads, 0, on.stream>>>(square, affinity, d_affinity,
                                                                    means);
  const dim3 grid(static_cast<unsigned>(sizes.clusters), static_cast<unsigned>(sizes.heads));
  return ForComputeType(on, [&]<typename T>() {
    AffinityGradientKernel<<<grid, kThreads, 0, on.stream>>>(
        sizes, static_cast<const T*>(clusters), affinity, d_affinity, means, d_clusters);
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::sbm

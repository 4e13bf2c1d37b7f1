#include <cuda_pipeline_primitives.h>

#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 512;

// e^(x - largest). For bf16 one multiplication with one addition, which rounds by 2^-24 of
// `largest`.
template <typename T>
__device__ float ExpBelow(float x, float largest) {
  if constexpr (kIsQuick<T>) {
    return QuickExp2(fmaf(x, kLog2E, -kLog2E * largest));
  } else {
    return expf(x - largest);
  }
}

// A row without a target: its slopes are zeros.
template <bool kSlopes, typename T>
__device__ void LeaveOut(const SoftmaxRows& shape, int64_t row, T* z, float* losses, float* right) {
  const int classes = static_cast<int>(shape.classes);
  if (kSlopes) {
    for (int v = threadIdx.x; v < classes; v += kThreads) z[v] = FromFloat<T>(0.0F);
  }
  if (threadIdx.x != 0) return;
  losses[row] = 0;
  right[row] = 0;
  if (shape.targets[row] >= classes) {
    *shape.bad_index = static_cast<int32_t>(shape.first_row + row) + 1;
  }
}

// One block for each row, which it goes through three times: for its largest logit, for the sum of
// exponentials and for the slopes. A thread has V neighbouring logits at a time, the same ones each
// time; with kKept it copies them to shared memory first.
template <int V, bool kSlopes, bool kKept, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    SoftmaxKernel(SoftmaxRows shape, float gradient_scale, T* logits, float* losses, float* right) {
  extern __shared__ __align__(16) uint8_t kept[];
  __shared__ float shared[32];
  const int64_t row = blockIdx.x;
  T* const z = logits + row * shape.stride;
  const int target = shape.targets[row];
  const int classes = static_cast<int>(shape.classes);
  if (target < 0 || target >= classes) return LeaveOut<kSlopes>(shape, row, z, losses, right);
  const float target_logit = ToFloat(z[target]);
  T* const source = kKept ? reinterpret_cast<T*>(kept) : z;
  if constexpr (kKept) {
    for (int v = threadIdx.x * V; v < classes; v += kThreads * V) {
      __pipeline_memcpy_async(source + v, z + v, V * sizeof(T));
    }
    __pipeline_commit();
    __pipeline_wait_prior(0);
  }
  // Behind the last logit, to a multiple of V, nothing lies that counts.
  if (threadIdx.x == (classes - 1) / V % kThreads) {
    for (int v = classes; v % V != 0; ++v) source[v] = FromFloat<T>(-INFINITY);
  }
  const auto for_logits = [&](const auto& f) {
    for (int v = threadIdx.x * V; v < classes; v += kThreads * V) {
      float value[V];
      Load<V>(source + v, value);
      f(v, value);
    }
  };

  float largest = -INFINITY;
  for_logits([&](int /*v*/, const float(&value)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) largest = fmaxf(largest, value[j]);
  });
  largest = BlockReduce<kThreads>(largest, MaxOf(), shared);
  bool is_right = target_logit == largest;
  if (is_right) {
    bool comes_later = false;  // than another class with the same logit
    for_logits([&](int v, const float(&value)[V]) {
#pragma unroll
      for (int j = 0; j < V; ++j) comes_later |= value[j] == largest && v + j < target;
    });
    is_right = __syncthreads_or(static_cast<int>(comes_later)) == 0;
  }

  float sum = 0;
  for_logits([&](int /*v*/, const float(&value)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) sum += ExpBelow<T>(value[j], largest);
  });
  sum = BlockReduce<kThreads>(sum, AddOf(), shared);
  if (threadIdx.x == 0) {
    losses[row] = (largest - target_logit) + logf(sum);
    right[row] = is_right ? 1.0F : 0.0F;
  }
  if constexpr (kSlopes) {
    const float factor = gradient_scale / sum;
    for_logits([&](int v, float(&value)[V]) {
#pragma unroll
      for (int j = 0; j < V; ++j) value[j] = ExpBelow<T>(value[j], largest) * factor;
      Store<V>(z + v, value);
    });
    // By the thread that has just written there.
    if (threadIdx.x == target / V % kThreads) {
      const float slope = ExpBelow<T>(target_logit, largest) * factor - gradient_scale;
      z[target] = FromFloat<T>(slope);
    }
  }
}

// Of a row that is kept: what a block of any GPU since sm_80 can have, beside what it reduces in.
constexpr int64_t kMostKeptBytes = 99 * 1024 - 128;

template <bool kSlopes, typename T>
cudaError_t LaunchRows(const CudaLaunch& on, const SoftmaxRows& shape, float gradient_scale,
                       T* logits, float* losses, float* right) {
  constexpr int V = kVector<T>;
  const int64_t bytes = CeilDiv(shape.classes, V) * V * int64_t{sizeof(T)};
  const auto launch = [&](auto* kernel, int64_t kept_bytes) {
    return LaunchShared(kernel, dim3(static_cast<unsigned>(shape.rows)), kThreads,
                        static_cast<int>(kept_bytes), on.stream, shape, gradient_scale, logits,
                        losses, right);
  };
  return bytes <= kMostKeptBytes ? launch(SoftmaxKernel<V, kSlopes, true, T>, bytes)
                                 : launch(SoftmaxKernel<V, kSlopes, false, T>, 0);
}

constexpr int64_t kSumRows = 64;  // of a partial sum

template <typename T>
__global__ void __launch_bounds__(256)
    SlopeSumKernel(int64_t rows, int64_t classes, int64_t stride, const T* slopes, float* partial) {
  const int64_t v = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (v >= classes) return;
  const int64_t first = int64_t{blockIdx.y} * kSumRows;
  float sum = 0;
  for (int64_t row = first; row < min(first + kSumRows, rows); ++row) {
    sum += ToFloat(slopes[row * stride + v]);
  }
  partial[int64_t{blockIdx.y} * classes + v] = sum;
}

}  // namespace

cudaError_t LaunchSoftmaxRows(const CudaLaunch& on, const SoftmaxRows& shape, bool slopes,
                              float gradient_scale, void* logits, float* losses, float* right) {
  if (shape.rows == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    auto* z = static_cast<T*>(logits);
    return slopes ? LaunchRows<true>(on, shape, gradient_scale, z, losses, right)
                  : LaunchRows<false>(on, shape, gradient_scale, z, losses, right);
  });
}

int64_t SlopeSumPartials(int64_t rows, int64_t classes) {
  return CeilDiv(rows, kSumRows) * classes;
}

cudaError_t LaunchSlopeSums(const CudaLaunch& on, int64_t rows, int64_t classes, int64_t stride,
                            const void* slopes, float* dbias, float* partial) {
  if (rows == 0) return cudaSuccess;
  const int64_t parts = CeilDiv(rows, kSumRows);
  const dim3 grid(static_cast<unsigned>(CeilDiv(classes, 256)), static_cast<unsigned>(parts));
  const cudaError_t error = ForComputeType(on, [&]<typename T>() {
    SlopeSumKernel<<<grid, 256, 0, on.stream>>>(rows, classes, stride,
                                                static_cast<const T*>(slopes), partial);
    return cudaGetLastError();
  });
  if (error != cudaSuccess) return error;
  return AddParts(on, parts, classes, partial, dbias);
}

}  // namespace weft::kernels::internal

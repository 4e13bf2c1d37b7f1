#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 512;

// The largest value and the sum of exponentials below it, of some of a row's logits; the class of
// the largest, of equal ones the lowest.
struct State {
  float largest;
  float sum;
  int best;
};

__device__ State Joined(State a, State b) {
  const float largest = fmaxf(a.largest, b.largest);
  const bool first = a.largest > b.largest || (a.largest == b.largest && a.best <= b.best);
  // Two empty states have the largest -infinity: their difference is no number.
  const float x = a.largest == largest ? 1.0F : expf(a.largest - largest);
  const float y = b.largest == largest ? 1.0F : expf(b.largest - largest);
  return {largest, a.sum * x + b.sum * y, first ? a.best : b.best};
}

template <int kWarpThreads>
__device__ State WarpJoin(State state) {
#pragma unroll
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    const State other = {__shfl_xor_sync(0xFFFFFFFF, state.largest, distance),
                         __shfl_xor_sync(0xFFFFFFFF, state.sum, distance),
                         __shfl_xor_sync(0xFFFFFFFF, state.best, distance)};
    // Both lanes join in the same order, so both get the same bits.
    state = (threadIdx.x & distance) == 0 ? Joined(state, other) : Joined(other, state);
  }
  return state;
}

// One block for each row. V logits at a time; a row whose length is no multiple of V ends in parts.
// With kKept, a thread keeps the logits that it has read in shared memory, for the slopes.
template <int V, bool kSlopes, bool kKept, typename T>
__global__ void __launch_bounds__(kThreads)
    SoftmaxKernel(SoftmaxRows shape, float gradient_scale, T* logits, float* losses, float* right) {
  extern __shared__ __align__(16) uint8_t kept[];
  __shared__ State of_warp[kThreads / 32];
  __shared__ float target_logit;
  const int64_t row = blockIdx.x;
  T* z = logits + row * shape.stride;
  const T* bias = static_cast<const T*>(shape.bias);
  const int32_t target = shape.targets[row];
  const int classes = static_cast<int>(shape.classes);
  const bool out_of_range = target >= classes;
  if (target < 0 || out_of_range) {
    if (kSlopes) {
      for (int v = threadIdx.x; v < classes; v += kThreads) z[v] = FromFloat<T>(0.0F);
    }
    if (threadIdx.x == 0) {
      losses[row] = 0;
      right[row] = 0;
      if (out_of_range) *shape.bad_index = static_cast<int32_t>(shape.first_row + row) + 1;
    }
    return;
  }
  const auto read = [&](int v, const T* from, float(&value)[V]) {
    if (v + V <= classes) {
      Load<V>(from + v, value);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) value[j] = v + j < classes ? ToFloat(from[v + j]) : -INFINITY;
    }
    if (bias != nullptr) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if (v + j < classes) value[j] += ToFloat(bias[v + j]);
      }
    }
  };
  State state = {-INFINITY, 0, INT32_MAX};
  for (int v = threadIdx.x * V; v < classes; v += kThreads * V) {
    float value[V];
    if constexpr (kKept) {
      // Rows begin on 16 bytes and are padded to a multiple of V.
      *reinterpret_cast<uint4*>(kept + v * sizeof(T)) = *reinterpret_cast<const uint4*>(z + v);
      read(v, reinterpret_cast<const T*>(kept), value);
    } else {
      read(v, z, value);
    }
    float largest = value[0];
    int best = v;
#pragma unroll
    for (int j = 1; j < V; ++j) {
      if (value[j] > largest) {
        largest = value[j];
        best = v + j;
      }
    }
    float sum = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      sum += ExpOf<T>(value[j] - largest);
      if (v + j == target) target_logit = value[j];
    }
    state = Joined(state, {largest, sum, best});
  }
  state = WarpJoin<32>(state);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = state;
  __syncthreads();
  state = of_warp[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) state = Joined(state, of_warp[warp]);
  const float log_sum = logf(state.sum);
  if (threadIdx.x == 0) {
    losses[row] = (state.largest - target_logit) + log_sum;
    right[row] = state.best == target ? 1.0F : 0.0F;
  }
  if constexpr (kSlopes) {
    const float inverse = gradient_scale / state.sum;
    for (int v = threadIdx.x * V; v < classes; v += kThreads * V) {
      float value[V];
      read(v, kKept ? reinterpret_cast<const T*>(kept) : z, value);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        value[j] = ExpOf<T>(value[j] - state.largest) * inverse -
                   (v + j == target ? gradient_scale : 0.0F);
      }
      if (v + V <= classes) {
        Store<V>(z + v, value);
      } else {
        for (int j = 0; j < V && v + j < classes; ++j) z[v + j] = FromFloat<T>(value[j]);
      }
    }
  }
}

// Of a row that is kept: what a block of any GPU since sm_80 can have.
constexpr int64_t kMostKeptBytes = 99 * 1024;

template <bool kSlopes, bool kKept, typename T>
cudaError_t LaunchRows(const CudaLaunch& on, const SoftmaxRows& shape, float gradient_scale,
                       T* logits, float* losses, float* right) {
  constexpr int V = kVector<T>;
  const int64_t bytes = kKept ? CeilDiv(shape.classes, V) * V * int64_t{sizeof(T)} : 0;
  const auto kernel = SoftmaxKernel<V, kSlopes, kKept, T>;
  if (kKept) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<static_cast<unsigned>(shape.rows), kThreads, static_cast<size_t>(bytes), on.stream>>>(
      shape, gradient_scale, logits, losses, right);
  return cudaGetLastError();
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
    if (!slopes) return LaunchRows<false, false>(on, shape, gradient_scale, z, losses, right);
    return shape.classes * int64_t{sizeof(T)} <= kMostKeptBytes
               ? LaunchRows<true, true>(on, shape, gradient_scale, z, losses, right)
               : LaunchRows<true, false>(on, shape, gradient_scale, z, losses, right);
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

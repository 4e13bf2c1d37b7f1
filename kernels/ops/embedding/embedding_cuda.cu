#include <cub/device/device_radix_sort.cuh>

#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/embedding/embedding_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 128;

template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(int64_t vocabulary, int64_t channels, const int32_t* tokens, const T* table, T* y,
                  int32_t* bad_index) {
  const int64_t row = blockIdx.x;
  const int32_t token = tokens[row];
  if (token < 0 || token >= vocabulary) {
    if (threadIdx.x == 0) *bad_index = static_cast<int32_t>(row) + 1;
    return;
  }
  for (int64_t c = threadIdx.x * V; c < channels; c += kThreads * V) {
    float values[V];
    Load<V>(table + token * channels + c, values);
    Store<V>(y + row * channels + c, values);
  }
}

// The gradient, without atomics on floats: rows are sorted by their token (the sort keeps the order
// of equal ones) and cut into segments of kSegment rows. A block adds up each token's run within
// its segment. A run that begins and ends inside is added to the table at once; what a run has in a
// segment that it enters from before is head[segment], what it has in the segment in which it
// begins and which it leaves is tail[segment]. A second kernel adds tail and heads of every such
// run in the order of the segments.
constexpr int64_t kSegment = 32;

__global__ void OrderKernel(int64_t rows, int32_t* order) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < rows) order[i] = static_cast<int32_t>(i);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    SegmentKernel(int64_t count, int64_t vocabulary, int64_t channels, const int32_t* sorted,
                  const int32_t* rows, const T* dy, float* dtable, float* partial,
                  int32_t* bad_index) {
  const int64_t first = int64_t{blockIdx.x} * kSegment;
  const int64_t last = min(first + kSegment, count);
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c >= channels) return;
  float* head = partial + int64_t{blockIdx.x} * 2 * channels + c;
  float* tail = head + channels;
  int64_t i = first;
  while (i < last) {
    const int32_t token = sorted[i];
    const bool from_before = i == first && first > 0 && sorted[first - 1] == token;
    float sum = 0;
    for (; i < last && sorted[i] == token; ++i) {
      sum += ToFloat(dy[int64_t{rows[i]} * channels + c]);
    }
    const bool goes_on = i == last && last < count && sorted[last] == token;
    if (token < 0 || token >= vocabulary) {
      *bad_index = rows[i - 1] + 1;
    } else if (from_before) {
      *head = sum;
    } else if (goes_on) {
      *tail = sum;
    } else {
      dtable[int64_t{token} * channels + c] += sum;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    JoinKernel(int64_t count, int64_t vocabulary, int64_t channels, const int32_t* sorted,
               const float* partial, float* dtable) {
  const int64_t segments = CeilDiv(count, kSegment);
  const int64_t segment = blockIdx.x;
  const int64_t end = (segment + 1) * kSegment;
  if (end >= count || sorted[end - 1] != sorted[end]) return;  // no run leaves it
  const int32_t token = sorted[end];
  // Its first segment alone adds a run up.
  const int64_t first = segment * kSegment;
  if (sorted[first] == token && first > 0 && sorted[first - 1] == token) return;
  if (token < 0 || token >= vocabulary) return;
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c >= channels) return;
  float sum = partial[(segment * 2 + 1) * channels + c];
  for (int64_t next = segment + 1; next < segments; ++next) {
    sum += partial[next * 2 * channels + c];
    const int64_t next_end = (next + 1) * kSegment;
    if (next_end >= count || sorted[next_end - 1] != token || sorted[next_end] != token) break;
  }
  dtable[int64_t{token} * channels + c] += sum;
}

constexpr int64_t Rounded(int64_t bytes) { return CeilDiv(bytes, 256) * 256; }

}  // namespace

cudaError_t LaunchEmbeddingForward(const CudaLaunch& on, int64_t rows, int64_t vocabulary,
                                   int64_t channels, const int32_t* tokens, const void* table,
                                   void* y, int32_t* bad_index) {
  if (rows == 0 || channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool wide = IsAligned(table) && IsAligned(y) && channels % kVector<T> == 0;
    const auto launch = [&]<int V>() {
      ForwardKernel<V><<<static_cast<unsigned>(rows), kThreads, 0, on.stream>>>(
          vocabulary, channels, tokens, static_cast<const T*>(table), static_cast<T*>(y),
          bad_index);
      return cudaGetLastError();
    };
    return wide ? launch.template operator()<kVector<T>>() : launch.template operator()<1>();
  });
}

cudaError_t EmbeddingBackwardSpace(int64_t rows, int64_t channels, EmbeddingSpace* space) {
  size_t bytes = 0;
  const cudaError_t error = cub::DeviceRadixSort::SortPairs(
      nullptr, bytes, static_cast<const int32_t*>(nullptr), static_cast<int32_t*>(nullptr),
      static_cast<const int32_t*>(nullptr), static_cast<int32_t*>(nullptr), static_cast<int>(rows));
  space->sort_bytes = static_cast<int64_t>(bytes);
  space->sorted = Rounded(space->sort_bytes);
  space->rows = space->sorted + Rounded(4 * rows);
  space->order = space->rows + Rounded(4 * rows);
  space->partial = space->order + Rounded(4 * rows);
  space->bytes = space->partial + CeilDiv(rows, kSegment) * 2 * channels * 4;
  return error;
}

cudaError_t LaunchEmbeddingBackward(const CudaLaunch& on, int64_t rows, int64_t vocabulary,
                                    int64_t channels, const int32_t* tokens, const void* dy,
                                    float* dtable, const EmbeddingSpace& space, void* memory,
                                    int32_t* bad_index) {
  if (rows == 0 || channels == 0) return cudaSuccess;
  auto* base = static_cast<char*>(memory);
  auto* sorted = reinterpret_cast<int32_t*>(base + space.sorted);
  auto* source = reinterpret_cast<int32_t*>(base + space.rows);
  auto* order = reinterpret_cast<int32_t*>(base + space.order);
  auto* partial = reinterpret_cast<float*>(base + space.partial);
  OrderKernel<<<static_cast<unsigned>(CeilDiv(rows, kThreads)), kThreads, 0, on.stream>>>(rows,
                                                                                          order);
  auto sort_bytes = static_cast<size_t>(space.sort_bytes);
  const cudaError_t error = cub::DeviceRadixSort::SortPairs(
      memory, sort_bytes, tokens, sorted, order, source, static_cast<int>(rows), 0, 32, on.stream);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(CeilDiv(rows, kSegment)),
                  static_cast<unsigned>(CeilDiv(channels, kThreads)));
  return ForComputeType(on, [&]<typename T>() {
    SegmentKernel<<<grid, kThreads, 0, on.stream>>>(rows, vocabulary, channels, sorted, source,
                                                    static_cast<const T*>(dy), dtable, partial,
                                                    bad_index);
    JoinKernel<<<grid, kThreads, 0, on.stream>>>(rows, vocabulary, channels, sorted, partial,
                                                 dtable);
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::internal

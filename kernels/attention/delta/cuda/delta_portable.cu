#include "kernels/attention/delta/cuda/delta_portable.h"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::portable {
namespace {

// Where the rows of a head lie.
struct Head {
  int64_t index;   // of the head among those of all sequences
  int64_t first;   // row of its first token in [B, T, H, .]
  int64_t stride;  // rows from token to token
  __device__ explicit Head(const DeltaCudaShape& shape)
      : index(blockIdx.x),
        first(int64_t{blockIdx.x} / shape.heads * shape.tokens * shape.heads +
              blockIdx.x % shape.heads),
        stride(shape.heads) {}
};

template <typename T>
__device__ void LoadRow(const T* row, int width, float* to) {
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = ToFloat(row[i]);
}

// ---- Forward: a thread has some values, whose columns of S are its own.

constexpr int kForwardThreads = 64;

template <typename T>
__global__ void __launch_bounds__(kForwardThreads) Forward(DeltaForwardArgs args) {
  extern __shared__ float shared[];
  const DeltaCudaShape& shape = args.shape;
  const Head head(shape);
  float* const k = shared;                  // [Dk]
  float* const q = shared + shape.key_dim;  // [Dk]
  const int value = static_cast<int>(blockIdx.y) * kForwardThreads + static_cast<int>(threadIdx.x);
  float* const s = args.state + head.index * shape.key_dim * shape.value_dim + value;
  const auto* const keys = static_cast<const T*>(args.k);
  const auto* const queries = static_cast<const T*>(args.q);
  const auto* const values = static_cast<const T*>(args.v);
  for (int t = 0; t < shape.tokens; ++t) {
    const int64_t row = head.first + t * head.stride;
    __syncthreads();
    LoadRow(keys + row * shape.key_dim, shape.key_dim, k);
    LoadRow(queries + row * shape.key_dim, shape.key_dim, q);
    __syncthreads();
    if (value >= shape.value_dim) continue;
    const int64_t at = row * shape.value_dim + value;
    float known = 0;
#pragma unroll 4
    for (int i = 0; i < shape.key_dim; ++i) known += s[int64_t{i} * shape.value_dim] * k[i];
    // Rounded as it is kept: the backward pass takes away from S what was added here.
    const T error = FromFloat<T>(ToFloat(values[at]) - known);
    const float change = args.beta[row] * ToFloat(error);
    float out = 0;
#pragma unroll 4
    for (int i = 0; i < shape.key_dim; ++i) {
      float& entry = s[int64_t{i} * shape.value_dim];
      entry += k[i] * change;
      out += entry * q[i];
    }
    static_cast<T*>(args.o)[at] = FromFloat<T>(out);
    if (args.errors != nullptr) static_cast<T*>(args.errors)[at] = error;
  }
}

// ---- Backward: a warp has some keys, whose rows of S and of its gradient D are its own.

constexpr int kWarps = 8;
constexpr int kBackwardThreads = 32 * kWarps;

// What a token brings, in shared memory, and what the warps find out about it.
struct TokenSpace {
  float *k, *q, *d_k;    // [Dk]
  float *e, *d_o, *d_x;  // [Dv]
  float* d_n;            // [kWarps, Dv]: each warp's part
  __device__ TokenSpace(float* shared, const DeltaCudaShape& shape)
      : k(shared),
        q(k + shape.key_dim),
        d_k(q + shape.key_dim),
        e(d_k + shape.key_dim),
        d_o(e + shape.value_dim),
        d_x(d_o + shape.value_dim),
        d_n(d_x + shape.value_dim) {}
  static int Bytes(const DeltaCudaShape& shape) {
    return (3 * shape.key_dim + (3 + kWarps) * shape.value_dim) * static_cast<int>(sizeof(float));
  }
};

// o = S^T q and S = S' + k n^T with n = beta e: D gains q d_o^T, S becomes S', and this warp's part
// of d_n = D^T k, d_q = S d_o, d_k = D n is found.
template <typename T>
__device__ void UndoToken(const DeltaCudaShape& shape, const TokenSpace& token, float beta,
                          float* s, float* d, T* d_q) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* const d_n = token.d_n + warp * shape.value_dim;
  for (int j = lane; j < shape.value_dim; j += 32) d_n[j] = 0;
  for (int i = warp; i < shape.key_dim; i += kWarps) {
    float for_q = 0, for_k = 0;
    for (int j = lane; j < shape.value_dim; j += 32) {
      const int64_t at = int64_t{i} * shape.value_dim + j;
      const float n = beta * token.e[j];
      const float gradient = d[at] + token.q[i] * token.d_o[j];
      const float state = s[at];
      d[at] = gradient;
      s[at] = state - token.k[i] * n;
      d_n[j] += token.k[i] * gradient;
      for_q += state * token.d_o[j];
      for_k += gradient * n;
    }
    for_q = GroupReduce<32>(for_q, AddOf());
    for_k = GroupReduce<32>(for_k, AddOf());
    if (lane == 0) {
      d_q[i] = FromFloat<T>(for_q);
      token.d_k[i] = for_k;
    }
  }
}

// e = v - S'^T k with the gradient d_x: d_k loses S' d_x, D loses k d_x^T.
template <typename T>
__device__ void UndoError(const DeltaCudaShape& shape, const TokenSpace& token, const float* s,
                          float* d, T* d_k) {
  const int lane = threadIdx.x % 32;
  for (int i = threadIdx.x / 32; i < shape.key_dim; i += kWarps) {
    float for_k = 0;
    for (int j = lane; j < shape.value_dim; j += 32) {
      const int64_t at = int64_t{i} * shape.value_dim + j;
      for_k += s[at] * token.d_x[j];
      d[at] -= token.k[i] * token.d_x[j];
    }
    for_k = GroupReduce<32>(for_k, AddOf());
    if (lane == 0) d_k[i] = FromFloat<T>(token.d_k[i] - for_k);
  }
}

template <typename T>
__global__ void __launch_bounds__(kBackwardThreads) Backward(DeltaBackwardArgs args) {
  extern __shared__ float shared[];
  __shared__ float sums[32];
  const DeltaCudaShape& shape = args.shape;
  const Head head(shape);
  const TokenSpace token(shared, shape);
  const int64_t state_place = head.index * shape.key_dim * shape.value_dim;
  float* const s = args.state + state_place;
  float* const d = args.d_state + state_place;
  for (int t = shape.tokens - 1; t >= 0; --t) {
    const int64_t row = head.first + t * head.stride;
    const int64_t keys = row * shape.key_dim;
    const int64_t values = row * shape.value_dim;
    const float beta = args.beta[row];
    LoadRow(static_cast<const T*>(args.k) + keys, shape.key_dim, token.k);
    LoadRow(static_cast<const T*>(args.q) + keys, shape.key_dim, token.q);
    LoadRow(static_cast<const T*>(args.errors) + values, shape.value_dim, token.e);
    LoadRow(static_cast<const T*>(args.d_o) + values, shape.value_dim, token.d_o);
    __syncthreads();
    UndoToken(shape, token, beta, s, d, static_cast<T*>(args.d_q) + keys);
    __syncthreads();
    float for_beta = 0;
    for (int j = threadIdx.x; j < shape.value_dim; j += kBackwardThreads) {
      float d_n = 0;
      for (int warp = 0; warp < kWarps; ++warp) d_n += token.d_n[warp * shape.value_dim + j];
      for_beta += d_n * token.e[j];
      token.d_x[j] = beta * d_n;
      static_cast<T*>(args.d_v)[values + j] = FromFloat<T>(beta * d_n);
    }
    for_beta = BlockReduce<kBackwardThreads>(for_beta, AddOf(), sums);  // a barrier, too
    if (threadIdx.x == 0) args.d_beta[row] = for_beta;
    UndoError(shape, token, s, d, static_cast<T*>(args.d_k) + keys);
    __syncthreads();
  }
}

}  // namespace

cudaError_t DeltaForward(const CudaLaunch& on, const DeltaForwardArgs& args) {
  const DeltaCudaShape& shape = args.shape;
  if (shape.tokens == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(shape.batch * shape.heads),
                  static_cast<unsigned>(CeilDiv(shape.value_dim, kForwardThreads)));
  const int bytes = 2 * shape.key_dim * static_cast<int>(sizeof(float));
  return ForComputeType(on, [&]<typename T>() {
    return LaunchShared(Forward<T>, grid, kForwardThreads, bytes, on.stream, args);
  });
}

cudaError_t DeltaBackward(const CudaLaunch& on, const DeltaBackwardArgs& args) {
  const DeltaCudaShape& shape = args.shape;
  if (shape.tokens == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(shape.batch * shape.heads);
  const int bytes = TokenSpace::Bytes(shape);
  return ForComputeType(on, [&]<typename T>() {
    return LaunchShared(Backward<T>, blocks, kBackwardThreads, bytes, on.stream, args);
  });
}

}  // namespace weft::kernels::portable

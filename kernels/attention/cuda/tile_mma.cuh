// Products of small matrices in shared memory on tensor cores (mma.sync, sm_80 and later), with
// sums in fp32. bf16 operands are multiplied as they are; fp32 operands as three products of tf32
// parts, which loses about as much as fp32 arithmetic does (Ootomo and Yokota 2022, "Recovering
// single precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak
// performance").
//
// Each warp has 16 rows of a result. Of its 16 x N accumulators, lane l holds, for each 8 columns
// n: d[n][0], d[n][1]: row l / 4, columns 8 n + 2 (l % 4) and the next; d[n][2], d[n][3]: row l / 4
// + 8. Both types hold them alike, so code about accumulators serves both.
//
// Rows of an operand lie `stride` elements apart, where StrideOf keeps banks from colliding.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::tiles {

// Elements from row to row of a matrix `columns` wide (a multiple of 16).
template <typename T>
__host__ __device__ constexpr int StrideOf(int columns) {
  return columns + 16 / static_cast<int>(sizeof(T));
}

__device__ inline void Multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&d)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void MultiplyTf32(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&d)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t Tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// fp32 numbers as sums of two tf32 numbers.
template <int N>
struct Halves {
  __device__ explicit Halves(const float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      high[i] = Tf32(x[i]);
      low[i] = Tf32(x[i] - __uint_as_float(high[i]));
    }
  }
  uint32_t high[N], low[N];
};

// Tensor cores cut off what does not fit into a sum instead of rounding it, so sums are taken out
// of them: only the three products of eight columns are added up inside.
__device__ inline void MultiplyF32(const Halves<4>& a, const Halves<2>& b, float (&d)[4]) {
  float part[4] = {};
  MultiplyTf32(a.low, b.high, part);
  MultiplyTf32(a.high, b.low, part);
  MultiplyTf32(a.high, b.high, part);
#pragma unroll
  for (int i = 0; i < 4; ++i) d[i] += part[i];
}

__device__ inline uint32_t Pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t PairAt(const bf16* at) { return *reinterpret_cast<const uint32_t*>(at); }

// Four matrices of 8 x 8 bf16; the lanes name their rows, 8 lanes a matrix. Transposed: lanes get
// what lies in columns as if it lay in rows.
__device__ inline void LoadMatrices(const bf16* row, uint32_t (&first)[2], uint32_t (&second)[2]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(first[0]), "=r"(first[1]), "=r"(second[0]), "=r"(second[1])
               : "r"(address)
               : "memory");
}
__device__ inline void LoadTransposed(const bf16* row, uint32_t (&first)[2],
                                      uint32_t (&second)[2]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(first[0]), "=r"(first[1]), "=r"(second[0]), "=r"(second[1])
               : "r"(address)
               : "memory");
}

// The left operand of products: the warp's 16 rows of kWidth columns, of which `a` is the first; in
// registers when they are bf16.
template <typename T, int kWidth>
struct LeftRows;
template <int kWidth>
struct LeftRows<bf16, kWidth> {
  __device__ inline void Load(const bf16* a, int stride) {
    const int lane = threadIdx.x % 32;
    const bf16* const row = a + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      uint32_t first[2], second[2];
      LoadMatrices(row + 16 * step, first, second);
      parts[step][0] = first[0];
      parts[step][1] = first[1];
      parts[step][2] = second[0];
      parts[step][3] = second[1];
    }
  }
  uint32_t parts[kWidth / 16][4] = {};
};
template <int kWidth>
struct LeftRows<float, kWidth> {
  __device__ inline void Load(const float* a, int a_stride) {
    rows = a;
    stride = a_stride;
  }
  const float* rows = nullptr;
  int stride = 0;
};

// d[16, 8 N] += left[16, 16] b[8 N, 16]^T. N is even.
template <int N>
__device__ inline void MultiplyRows(const uint32_t (&left)[4], const bf16* b, int b_stride,
                                    float (&d)[N][4]) {
  static_assert(N % 2 == 0);
  const int lane = threadIdx.x % 32;
  const bf16* const row = b + (lane % 8 + lane / 16 * 8) * b_stride + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    uint32_t first[2], second[2];
    LoadMatrices(row + 8 * n * b_stride, first, second);
    Multiply(left, first, d[n]);
    Multiply(left, second, d[n + 1]);
  }
}

// d[16, 8 N] += a[16, k] b[8 N, k]^T; `a` is the warp's first row. k is a multiple of 16.
template <int N>
__device__ inline void ProductOfRows(const bf16* a, int a_stride, const bf16* b, int b_stride,
                                     int k, float (&d)[N][4]) {
  for (int at = 0; at < k; at += 16) {
    LeftRows<bf16, 16> left;
    left.Load(a + at, a_stride);
    MultiplyRows(left.parts[0], b + at, b_stride, d);
  }
}
template <int N>
__device__ inline void ProductOfRows(const float* a, int a_stride, const float* b, int b_stride,
                                     int k, float (&d)[N][4]) {
  const int row = threadIdx.x % 32 / 4;
  const int column = threadIdx.x % 4;
  const float* const a_row = a + row * a_stride + column;
  const float* const b_row = b + row * b_stride + column;
  for (int at = 0; at < k; at += 8) {
    const Halves<4> left(
        {a_row[at], a_row[8 * a_stride + at], a_row[at + 4], a_row[8 * a_stride + at + 4]});
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float* const other = b_row + 8 * n * b_stride + at;
      MultiplyF32(left, Halves<2>({other[0], other[4]}), d[n]);
    }
  }
}

// The same with the left operand at hand.
template <int kWidth, int N>
__device__ inline void ProductOfRows(const LeftRows<bf16, kWidth>& a, const bf16* b, int b_stride,
                                     float (&d)[N][4]) {
#pragma unroll
  for (int step = 0; step < kWidth / 16; ++step) {
    MultiplyRows(a.parts[step], b + 16 * step, b_stride, d);
  }
}
template <int kWidth, int N>
__device__ inline void ProductOfRows(const LeftRows<float, kWidth>& a, const float* b, int b_stride,
                                     float (&d)[N][4]) {
  ProductOfRows(a.rows, a.stride, b, b_stride, kWidth, d);
}

// d[16, 8 N] += left[16, 16] b[16, 8 N]. N is even.
template <int N>
__device__ inline void MultiplyColumns(const uint32_t (&left)[4], const bf16* b, int b_stride,
                                       float (&d)[N][4]) {
  static_assert(N % 2 == 0);
  const int lane = threadIdx.x % 32;
  // Lanes 0 to 15 name the 16 rows at columns 16 n, the others the same rows 8 columns on.
  const bf16* const row = b + lane % 16 * b_stride + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    uint32_t first[2], second[2];
    LoadTransposed(row + 8 * n, first, second);
    Multiply(left, first, d[n]);
    Multiply(left, second, d[n + 1]);
  }
}
// The same of a left operand [16, 8] in fp32, whose columns k and the rows of b have the order that
// `left` has: 2 (lane % 4) and the next.
template <int N>
__device__ inline void MultiplyColumns(const Halves<4>& left, const float* b, int b_stride,
                                       float (&d)[N][4]) {
  const int lane = threadIdx.x % 32;
  const float* const at = b + lane % 4 * 2 * b_stride + lane / 4;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    MultiplyF32(left, Halves<2>({at[8 * n], at[8 * n + b_stride]}), d[n]);
  }
}

// d[16, 8 N] += p[16, 8 K] b[8 K, 8 N], p being accumulators (rounded to the type of b). K is even.
template <int K, int N>
__device__ inline void ProductOfColumns(const float (&p)[K][4], const bf16* b, int b_stride,
                                        float (&d)[N][4]) {
  static_assert(K % 2 == 0);
#pragma unroll
  for (int k = 0; k < K; k += 2) {
    const uint32_t left[4] = {Pack(p[k][0], p[k][1]), Pack(p[k][2], p[k][3]),
                              Pack(p[k + 1][0], p[k + 1][1]), Pack(p[k + 1][2], p[k + 1][3])};
    MultiplyColumns(left, b + 8 * k * b_stride, b_stride, d);
  }
}
template <int K, int N>
__device__ inline void ProductOfColumns(const float (&p)[K][4], const float* b, int b_stride,
                                        float (&d)[N][4]) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    MultiplyColumns(Halves<4>({p[k][0], p[k][2], p[k][1], p[k][3]}), b + 8 * k * b_stride, b_stride,
                    d);
  }
}
// d[16, 8 N] += a[16, kWidth] b[kWidth, 8 N].
template <int kWidth, int N>
__device__ inline void ProductOfColumns(const LeftRows<bf16, kWidth>& a, const bf16* b,
                                        int b_stride, float (&d)[N][4]) {
#pragma unroll
  for (int step = 0; step < kWidth / 16; ++step) {
    MultiplyColumns(a.parts[step], b + 16 * step * b_stride, b_stride, d);
  }
}
template <int kWidth, int N>
__device__ inline void ProductOfColumns(const LeftRows<float, kWidth>& a, const float* b,
                                        int b_stride, float (&d)[N][4]) {
  const int lane = threadIdx.x % 32;
  const float* const row = a.rows + lane / 4 * a.stride + lane % 4 * 2;
  for (int k = 0; k < kWidth; k += 8) {
    const float* const low = row + k;
    const float* const high = low + 8 * a.stride;
    MultiplyColumns(Halves<4>({low[0], high[0], low[1], high[1]}), b + k * b_stride, b_stride, d);
  }
}

// Rows of a matrix in global memory.
template <typename S>
struct Rows {
  const S* first;
  int64_t step;  // elements from row to row
  int width;
  bool vectors;  // aligned for accesses of 16 bytes
};

// The rows of one head of a [B, n, H, width] tensor.
template <typename S>
__device__ inline Rows<S> RowsOfHead(const S* tensor, int n, int heads, int head, int width,
                                     bool vectors) {
  const int64_t step = int64_t{heads} * width;
  return {tensor + (int64_t{head / heads} * n) * step + int64_t{head % heads} * width, step, width,
          vectors};
}

// to[count, padded] = the rows that `index` names (none where it is negative) from column `begin`
// on, and zeros where there is nothing. All threads of the block; `padded` is a multiple of 16.
template <int kThreads, typename T, typename S>
__device__ inline void LoadRows(const Rows<S>& from, const int* index, int count, int begin,
                                int padded, T* to, int to_stride) {
  constexpr int V = kVector<T>;
  const int pieces = padded / V;
  for (int i = static_cast<int>(threadIdx.x); i < count * pieces; i += kThreads) {
    const int row = i / pieces;
    const int column = i % pieces * V;
    float values[V] = {};
    if (index[row] >= 0) {
      const S* const at = from.first + index[row] * from.step + begin + column;
      if (from.vectors && begin + column + V <= from.width) {
        Load<V>(at, values);
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          if (begin + column + v < from.width) values[v] = ToFloat(at[v]);
        }
      }
    }
    Store<V>(to + row * to_stride + column, values);
  }
}

// Calls store(row of 16, column, value) for the warp's accumulators.
template <int N, typename F>
__device__ inline void ForAccumulators(const float (&d)[N][4], const F& store) {
  const int row = threadIdx.x % 32 / 4;
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) store(row + c / 2 * 8, 8 * n + column + c % 2, d[n][c]);
  }
}

// Two neighbours, together where they are aligned.
template <typename T>
__device__ inline void StorePair(const float (&values)[2], bool aligned, bool both, T* to) {
  if (aligned) {
    if constexpr (sizeof(T) == 2) {
      *reinterpret_cast<uint32_t*>(to) = Pack(values[0], values[1]);
    } else {
      *reinterpret_cast<float2*>(to) = make_float2(values[0], values[1]);
    }
    return;
  }
  to[0] = FromFloat<T>(values[0]);
  if (both) to[1] = FromFloat<T>(values[1]);
}

// The numbers of a row that the lane's accumulators of that row belong to: columns 8 n + 2 (lane %
// 4) and the next, zeros beyond `columns`; all on their way at once. The row is aligned to 8 bytes.
template <int N>
__device__ inline void LoadPairs(const float* row, int columns, float2 (&values)[N]) {
  const int first = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int column = 8 * n + first;
    values[n] = {0.0F, 0.0F};
    if (column + 1 < columns) {
      values[n] = *reinterpret_cast<const float2*>(row + column);
    } else if (column < columns) {
      values[n].x = row[column];
    }
  }
}

// Rows first_row ... of a result, of `rows` rows `columns` wide: to[row * step + column] =
// accumulators, times factors[0] in the upper 8 of the warp's 16 rows and factors[1] in the lower.
template <int N, typename T>
__device__ inline void StoreRows(const float (&d)[N][4], const float (&factors)[2], int first_row,
                                 int rows, T* to, int64_t step, int columns) {
  const int row = first_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const int first_column = static_cast<int>(threadIdx.x) % 4 * 2;
  const bool pairs =
      columns % 2 == 0 && reinterpret_cast<uintptr_t>(to) % (2 * sizeof(T)) == 0 && step % 2 == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= rows) break;
    T* const at = to + (row + 8 * half) * step;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int column = 8 * n + first_column;
      if (column >= columns) break;
      const float values[2] = {d[n][2 * half] * factors[half], d[n][2 * half + 1] * factors[half]};
      StorePair(values, pairs, column + 1 < columns, at + column);
    }
  }
}

// Over the four lanes that share a row.
template <typename Op>
__device__ inline float RowReduce(float x, const Op& op) {
  x = op(x, __shfl_xor_sync(0xFFFFFFFF, x, 1));
  return op(x, __shfl_xor_sync(0xFFFFFFFF, x, 2));
}

}  // namespace weft::kernels::tiles

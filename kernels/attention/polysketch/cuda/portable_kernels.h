// The small kernels between the matrix products of polynomial attention on any GPU: launchers.
// Addresses without a type are of the compute type. For one sequence and all its heads: n rows of
// tokens, K keys of a piece, r, D, m as in polysketch.h.
#pragma once

#include <cstdint>

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::portable {

// Rows of tokens [n, H, width] of a tensor [B, T, H, width].
struct TokenRows {
  void* first = nullptr;
  int64_t rows = 0;
  int heads = 1;
  int width = 0;
};

// F of phi * scale, [H, n, m], and the features themselves, weighted for a sum of outer products.
struct SelfProductsCall {
  TokenRows phi;
  float scale = 1;                 // of the features in F; its square is of the weighted ones
  float sign = 1;                  // of both results
  const int32_t* valid = nullptr;  // [n]: 0 makes a row of zeros; null: all are 1
  const float* weights = nullptr;  // [H, n], of the weighted features alone; null: all are 1
  void* products = nullptr;        // [H, n, m]; null: not wanted
  void* weighted = nullptr;        // [H, n, r]; null: not wanted
};
cudaError_t LaunchSelfProducts(const CudaLaunch& on, const SelfProductsCall& call);

// far[H, n] = max(0, scale^2 phi^T mass[H, r, r] phi)
cudaError_t LaunchMassRead(const CudaLaunch& on, const TokenRows& phi, float scale,
                           const float* mass, float* far);

// Pairs of n queries and K keys: their products and which of them count.
struct PairsCall {
  int64_t rows = 0;
  int64_t keys = 0;
  int heads = 1;
  const float* products = nullptr;  // [H, n, K]
  float scale = 1;                  // of a product, before the power
  int squarings = 1;                // the power is 2^squarings
  // Key j counts for row i where j <= i + last, and where it is valid.
  int64_t last = 0;
  const int32_t* valid = nullptr;  // [K]; null: all count
};
// weights[H, n, K] and their sums near[H, n].
cudaError_t LaunchPairWeights(const CudaLaunch& on, const PairsCall& pairs, void* weights,
                              float* near);
// d_weights[H, n, K] + shift[H, n] are the slopes of the weights: the weights, and the slopes of
// the products.
cudaError_t LaunchPairSlopes(const CudaLaunch& on, const PairsCall& pairs, const float* d_weights,
                             const float* shift, void* weights, void* d_products);

// o = num[H, n, D] / (c0 + near + far), zero where that is zero. near and far [H, n] may be null.
// total and far_saved, rows of [H, stride] that begin with these queries, may be null.
struct QuotientCall {
  const float* num = nullptr;
  const float* near = nullptr;
  const float* far = nullptr;
  float c0 = 0;
  TokenRows o;
  float* total = nullptr;
  float* far_saved = nullptr;
  int64_t stride = 0;
};
cudaError_t LaunchQuotient(const CudaLaunch& on, const QuotientCall& call);

// d_num[H, n, D] = d_o / total; shift[H, n] = -d_o . o / total; far_shift[H, n] the same where far
// is positive, else 0. total, far: rows of [H, stride].
struct QuerySlopesCall {
  TokenRows o;
  TokenRows d_o;
  const float* total = nullptr;
  const float* far = nullptr;
  int64_t stride = 0;
  void* d_num = nullptr;
  float* shift = nullptr;
  float* far_shift = nullptr;
};
cudaError_t LaunchQuerySlopes(const CudaLaunch& on, const QuerySlopesCall& call);

// d_phi = near + scale times the gradient of F(scale phi) . d_products + shift (scale phi)^T mass
// (scale phi), or zero for a row that is not valid.
struct FeatureSlopesCall {
  TokenRows phi;
  TokenRows d_phi;
  float scale = 1;
  const int32_t* valid = nullptr;     // [n]; null: all are
  const float* d_products = nullptr;  // [H, n, m]; null: nothing comes from afar
  const float* mass = nullptr;        // [H, r, r]; need not be symmetric
  const float* shift = nullptr;       // [H, n]; null: all are 1
  const float* near = nullptr;        // [H, near_stride] rows of r; null: 0
  int64_t near_stride = 0;            // elements from head to head
};
cudaError_t LaunchFeatureSlopes(const CudaLaunch& on, const FeatureSlopesCall& call);

// to = from[H, n, width], rounded.
cudaError_t LaunchStoreRows(const CudaLaunch& on, const float* from, const TokenRows& to);

}  // namespace weft::kernels::portable

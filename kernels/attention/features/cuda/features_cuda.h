// Feature maps of whole sequences on a GPU: rows of queries or keys to rows of features in fp32,
// and back. Products with the projection are the matrix library's; these are the steps around them.
// Private to kernels/attention; included by .cu files.
#pragma once

#include <cstdint>

#include "kernels/device/cuda/launch.h"

namespace weft::kernels {

// As Feature (feature_map.h), which .cu files cannot include.
enum class CudaFeature : uint8_t { kSquare, kRelu, kElu1, kMagnitude, kExponential };

struct CudaFeatureMap {
  CudaFeature feature = CudaFeature::kSquare;
  int rows = 0;  // of the projection; 0: there is none
  bool both_signs = false;
  float scale = 1;
  float floor = 0;
};

// Rows of [B, T, H, dim] tensors of the compute type, and M features of each.
struct FeatureRowsShape {
  int batch = 0;
  int tokens = 0;
  int heads = 0;
  int dim = 0;
  int features = 0;
};

// x' times the projection, [B, T, H, rows], is read where there is one (without the scale), x where
// there is none or a level is wanted. Writes f [B, T, H, M] and, of exponential features, levels
// [B, H, T]. Tokens that `valid` [B, T] (null: all are) leaves out get f = 0 and level -infinity.
struct FeatureForwardArgs {
  FeatureRowsShape shape;
  CudaFeatureMap map;
  const void* x = nullptr;
  const float* projected = nullptr;
  const int32_t* valid = nullptr;
  float* f = nullptr;
  float* levels = nullptr;  // null unless exponential
};
cudaError_t LaunchFeatureForward(const CudaLaunch& on, const FeatureForwardArgs& args);

// d_f -> d_x where there is no projection; else -> the gradient of `projected`, times the scale, in
// the compute type, and what reaches x beside the projection, in fp32 (zeros unless exponential).
struct FeatureBackwardArgs {
  FeatureRowsShape shape;
  CudaFeatureMap map;
  const void* x = nullptr;
  const float* projected = nullptr;
  const int32_t* valid = nullptr;
  const float* f = nullptr;
  const float* d_f = nullptr;
  void* d_x = nullptr;          // [B, T, H, dim], without a projection
  void* d_projected = nullptr;  // [B, T, H, rows]
  float* d_direct = nullptr;    // [B, T, H, dim]
};
cudaError_t LaunchFeatureBackward(const CudaLaunch& on, const FeatureBackwardArgs& args);

// fp32 -> compute type.
cudaError_t LaunchRound(const CudaLaunch& on, int64_t count, const float* from, void* to);

}  // namespace weft::kernels

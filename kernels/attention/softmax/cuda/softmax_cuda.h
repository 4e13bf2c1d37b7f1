// Softmax attention on a GPU, on plain pointers into device memory: the portable kernels, which run
// everywhere and cover all that softmax.h says for heads up to kWidestHead. Everything is enqueued;
// no sum has an order that changes from run to run.
#pragma once

#include "kernels/attention/cuda/dropout_place.h"
#include "kernels/device/cuda/launch.h"

namespace weft::kernels {

inline constexpr int kWidestHead = 256;

// B batch, T queries, S keys, H heads, Hk kv_heads, D head_dim. Operands have the compute type of
// the launch.
struct SoftmaxCudaProblem {
  int batch;
  int queries;
  int keys;
  int heads;
  int kv_heads;
  int head_dim;
  float scale;
  bool causal;
  int window;  // 0: none; at most queries + keys
  DropoutPlace dropout;
  bool vectors;          // all operands may be read 16 bytes at a time, row by row
  const void* q;         // [B, T, H, D]
  const void* k;         // [B, S, Hk, D]
  const void* v;         // [B, S, Hk, D]
  const int32_t* valid;  // [B, S]; null: no padding
};

// o [B, T, H, D], lse [B, H, T].
cudaError_t LaunchSoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p, void* o,
                                 float* lse);

struct SoftmaxCudaGradients {
  const void* o;
  const float* lse;
  const void* d_o;
  void* d_q;
  void* d_k;
  void* d_v;
  float* means;  // scratch, [B, H, T]
};
cudaError_t LaunchSoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                  const SoftmaxCudaGradients& g);

// means[B, H, T] = the dot products of the rows of o and d_o [B, T, H, D].
cudaError_t LaunchSoftmaxMeans(const CudaLaunch& on, const SoftmaxCudaProblem& p, const void* o,
                               const void* d_o, float* means);

}  // namespace weft::kernels

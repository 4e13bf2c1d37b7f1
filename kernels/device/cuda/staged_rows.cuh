// Rows that a thread reads one group after another, a few of them ahead: through shared memory, or
// through registers where elements are too few for a copy to it.
//
// Both are used alike: Next, before every group, then Unpack of its rows. Rows behind the last one
// are zeros.
#pragma once

#include "kernels/device/cuda/async_copy.cuh"
#include "kernels/device/cuda/packed.cuh"

namespace weft::kernels {

// Of kTensors tensors, V neighbouring elements of every row, in groups of kGroup rows; kStages
// groups are in shared memory or on their way there. Each of the kThreads threads copies and reads
// only elements of its own: none waits for another.
template <int kTensors, int V, int kGroup, int kStages, int kThreads, typename T>
class StagedRows {
 public:
  // From this thread's elements of the first of `count` rows, `stride` elements apart.
  __device__ StagedRows(const T* const (&from)[kTensors], int64_t stride, int count)
      : stride_(stride), left_(count) {
    __shared__ alignas(16) unsigned char ring[kStages * kStageBytes];
    ring_ = ring + threadIdx.x * kBytes;
#pragma unroll
    for (int i = 0; i < kTensors; ++i) next_[i] = from[i];
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) Start(stage * kStageBytes);
    now_ = (kStages - 1) * kStageBytes;
  }
  // Whose stage was read last is free.
  __device__ void Next() {
    AwaitCopies<kStages - 2>();
    Start(now_);
    now_ = now_ == (kStages - 1) * kStageBytes ? 0 : now_ + kStageBytes;
  }
  __device__ void Unpack(int tensor, int row, float (&out)[V]) const {
    const unsigned char* from = ring_ + now_ + Offset(tensor, row);
    if constexpr (sizeof(T) == 2) {
      // Of a pair, the upper element is a float with the lower one behind its last digit: one
      // instruction each, where a conversion of single elements takes two.
      using Access = AccessOf<V, T>;
      const Access words = *reinterpret_cast<const Access*>(from);
      uint32_t pairs[V / 2];
      memcpy(pairs, &words, sizeof(pairs));
#pragma unroll
      for (int i = 0; i < V / 2; ++i) {
        out[2 * i] = __uint_as_float(pairs[i] << 16);
        out[2 * i + 1] = __uint_as_float(pairs[i] & 0xFFFF0000U);
      }
    } else {
      Load<V>(reinterpret_cast<const T*>(from), out);
    }
  }

 private:
  static constexpr int kBytes = V * static_cast<int>(sizeof(T));
  static constexpr int kStageBytes = kTensors * kGroup * kThreads * kBytes;
  static constexpr int Offset(int tensor, int row) {
    return (row * kTensors + tensor) * kThreads * kBytes;
  }
  __device__ void Start(int stage) {
    if (left_ >= kGroup) {
      Copy(stage, kGroup);
    } else {
      Copy(stage, left_);
    }
    left_ -= kGroup;
    CommitCopies();
  }
  __device__ void Copy(int stage, int rows) {
#pragma unroll
    for (int row = 0; row < kGroup; ++row) {
#pragma unroll
      for (int i = 0; i < kTensors; ++i) {
        CopyAsync<kBytes>(ring_ + stage + Offset(i, row), next_[i], row < rows);
        next_[i] += stride_;
      }
    }
  }

  unsigned char* ring_;
  int now_;  // where the group lies
  const T* next_[kTensors];
  int64_t stride_;
  int left_;  // rows not yet started
};

// The same with the group's elements in registers, and those of the next one on their way there.
template <int kTensors, int V, int kGroup, typename T>
class HeldRows {
 public:
  __device__ HeldRows(const T* const (&from)[kTensors], int64_t stride, int count)
      : stride_(stride), left_(count) {
#pragma unroll
    for (int i = 0; i < kTensors; ++i) next_[i] = from[i];
    Start();
  }
  __device__ void Next() {
#pragma unroll
    for (int row = 0; row < kGroup; ++row) {
#pragma unroll
      for (int i = 0; i < kTensors; ++i) now_[i][row] = ahead_[i][row];
    }
    Start();
  }
  __device__ void Unpack(int tensor, int row, float (&out)[V]) const {
    now_[tensor][row].Unpack(out);
  }

 private:
  __device__ void Start() {
#pragma unroll
    for (int row = 0; row < kGroup; ++row) {
#pragma unroll
      for (int i = 0; i < kTensors; ++i) {
        if (row < left_) {
          ahead_[i][row].Read(next_[i]);
        } else {
          ahead_[i][row].Clear();
        }
        next_[i] += stride_;
      }
    }
    left_ -= kGroup;
  }

  Packed<V, T> now_[kTensors][kGroup], ahead_[kTensors][kGroup];
  const T* next_[kTensors];
  int64_t stride_;
  int left_;
};

}  // namespace weft::kernels

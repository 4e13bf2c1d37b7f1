// How the passes of the delta rule on CUDA share their work, and what they leave for each other.
//
// A chunk is 64 tokens of a head. With G the strictly lower part of K K^T, Bd = diag(beta):
//
//   E = (I + G Bd)^-1 (V - K S) = X - R (Bd X),   X = V - K S,   R = (I + G Bd)^-1 G
//
// R is strictly lower, |R_ij| <= 1 for unit keys and beta <= 2, and serves the gradient too:
// the transposed system gives Y = dN - R^T (Bd dN). The identity in I - R Bd is never rounded.
//
//   prepare    (chunk, head)             K, Q, beta -> the record below
//   forward    (head, 64 values), serial K, Q, V, record -> E, O, the last state
//   states     (head, 64 values), serial, from the end
//                                        K, Q, E, dO, record -> dV; S and dL/dS of every chunk
//   gradients  (chunk, head)             all of it -> dQ, dK, dbeta
//
// The two serial passes keep the transposed state, 64 values x key_dim, in the accumulators of one
// warpgroup: every product of a chunk has its left operand in registers, and no shared memory lies
// on the way from one state to the next.
#pragma once

#include <cstdint>

namespace weft::kernels {

inline constexpr int kDeltaCudaChunk = 64;

// What `prepare` leaves: R and P = tril(Q K^T), bf16 tiles as shared memory holds them
// (hopper.cuh), and beta as float, of 64 tokens; zero after the last token.
inline constexpr int kSquareBytes = kDeltaCudaChunk * kDeltaCudaChunk * 2;
inline constexpr int kRecordBytes = 2 * kSquareBytes + kDeltaCudaChunk * 4;

struct DeltaCudaShape {
  int batch;
  int tokens;
  int heads;
  int key_dim;
  int value_dim;
};

inline int ChunksOf(const DeltaCudaShape& shape) {
  return (shape.tokens + kDeltaCudaChunk - 1) / kDeltaCudaChunk;
}

}  // namespace weft::kernels

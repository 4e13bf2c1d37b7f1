// How a sequence is cut: into chunks, whose weights are computed together, and runs of chunks. A
// function of the problem alone, because bits depend on it. Private to kernels/attention.
#pragma once

#include <algorithm>

#include "kernels/attention/linear_attention/linear_attention.h"

namespace weft::kernels {

struct Segments {
  int64_t tokens = 1;  // of a segment: a multiple of the chunk
  int64_t count = 1;   // at least 1
  bool apart = false;  // the segments of a head are computed side by side: first what each adds to
                       // the state, then, from the states between them, the rest
};

// With `apart`, a forward pass does the products of keys and values twice: half as much work again.
// So heads are split only where most threads of a machine would idle.
inline constexpr int64_t kHeadsEnough = 8;
inline constexpr int64_t kTasksWanted = 16;
inline constexpr int64_t kMostChunks = 16;  // of a segment: bounds what a backward pass recomputes
inline constexpr int64_t kFewestChunks = 2;

inline Segments SegmentsOf(const LinearAttentionProblem& p) {
  Segments segments;
  // Without an order in the sequence, splitting it costs nothing.
  segments.apart = !p.causal || p.batch * p.heads < kHeadsEnough;
  int64_t chunks = kMostChunks;
  const auto count = [&] {
    return std::max<int64_t>(1, (p.tokens + chunks * p.chunk - 1) / (chunks * p.chunk));
  };
  while (segments.apart && chunks > kFewestChunks && p.batch * p.heads * count() < kTasksWanted) {
    chunks /= 2;
  }
  segments.tokens = chunks * p.chunk;
  segments.count = count();
  segments.apart = segments.apart && segments.count > 1;
  return segments;
}

}  // namespace weft::kernels

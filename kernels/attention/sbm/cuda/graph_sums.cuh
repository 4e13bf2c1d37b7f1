// What drawing a graph begins with (sampling_law.h): integer memberships of the keys summed up, and
// the integer weights of the queries' clusters. A "slice" is the heads that are drawn together.
#pragma once

#include <cstdint>

#include "kernels/attention/sbm/cuda/sbm_cuda.h"

namespace weft::kernels::sbm {

// Keys up to here have sums of 32 bits.
inline constexpr int kShortKeys = 4095;

// Working space of a slice.
struct SliceSpace {
  void* sums;           // [heads, K, S] of uint32_t or uint64_t: running sums of k_jv
  uint32_t* largest;    // [heads, K, S]: running maxima of k_jv; kExact alone
  uint64_t* weights;    // [heads, T, K]: w
  uint64_t* running;    // [heads, T, K + 1]: running sums of r
  double* factors;      // [heads, T]: by what the intensity was multiplied; 0: no thinning;
                        // kVisits: every pair is visited
  int32_t* edges;       // [heads, T]: how many edges are drawn
  int32_t* reach;       // [B, S + 1]: valid keys before a position; null: all are
  int32_t* valid_keys;  // [B, S]: their positions
  uint64_t* linked;     // [B, H]: edges
  uint64_t* possible;   // [B, H]: pairs that could be edges
};
inline constexpr double kVisits = -1.0;

struct Slice {
  int first;  // head
  int heads;
};

cudaError_t ListValidKeys(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space);
cudaError_t SumKeys(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space,
                    Slice slice);
cudaError_t WeighQueries(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space,
                         Slice slice);

}  // namespace weft::kernels::sbm

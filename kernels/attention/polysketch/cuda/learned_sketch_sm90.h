// Learned sketches on Hopper, of the widths that models have. Plain pointers into device memory;
// bf16 operands and results, fp32 gradients of parameters. learned_passes_sm90.h says how.
// Everything is enqueued on the stream.
#pragma once

#include "kernels/attention/polysketch/cuda/learned_passes_sm90.h"
#include "kernels/device/cuda/launch.h"

namespace weft::kernels::sm90 {

// Rows of one call at most: the working space grows with them.
inline constexpr int kMostSketchRows = 1 << 19;

// Whether a network has kernels: heads of 64 or 128, r = 32 or 64, 8 r hidden units.
constexpr bool CoversLearnedSketch(int64_t inputs, int64_t sketch, int64_t hidden) {
  return (inputs == 64 || inputs == 128) && (sketch == 32 || sketch == 64) && hidden == 8 * sketch;
}

// What the forward pass makes for the backward pass: the results of both stages and what their
// norms found.
int64_t LearnedSketchRecordBytes(const LearnedSketchCudaShape& shape);

struct LearnedSketchForwardArgs {
  LearnedSketchCudaShape shape;
  const __nv_bfloat16* x;         // [rows, h]
  SketchStageWeights weights[2];  // by stage
  __nv_bfloat16* phi;             // [rows, r]
  uint8_t* record;                // LearnedSketchRecordBytes
  uint8_t* scratch;               // LearnedSketchForwardBytes
};
int64_t LearnedSketchForwardBytes(const LearnedSketchCudaShape& shape);
cudaError_t LearnedSketchForward(const LearnedSketchForwardArgs& args, const CudaLaunch& on);

struct LearnedSketchBackwardArgs {
  LearnedSketchCudaShape shape;
  const __nv_bfloat16* x;
  SketchStageWeights weights[2];
  const __nv_bfloat16* phi;
  uint8_t* record;  // LearnedSketchRecordBytes
  bool recorded;    // read as the forward pass left it; else made again
  const __nv_bfloat16* d_phi;
  __nv_bfloat16* d_x;                 // overwritten
  bool add;                           // or added to
  SketchStageGradients gradients[2];  // added to
  uint8_t* scratch;                   // LearnedSketchBackwardBytes
};
int64_t LearnedSketchBackwardBytes(const LearnedSketchCudaShape& shape);
cudaError_t LearnedSketchBackward(const LearnedSketchBackwardArgs& args, const CudaLaunch& on);

}  // namespace weft::kernels::sm90

// Speed of the attention mechanisms on a GPU in bf16: 32,768 tokens a call, heads x head width
// 2048.
//
//   build/dev/bench/gpu_attention_bench --benchmark_filter=softmax
//
// Every mechanism registers itself from a file of its own. Results are named
// Attention/<mechanism>/d<width>/<batch>x<tokens>/<forward|both>, the rivals' of
// gpu_attention_rivals.py Rival/<rival>/d<width>/... alike; docs/generate_performance.py joins
// them.
#pragma once

#include <functional>
#include <string>

#include "kernels/bench/gpu_bench.h"

namespace weft::kernels {

struct AttentionShape {
  int64_t batch;
  int64_t tokens;
  int64_t heads;
  int64_t head_dim;
};

// Calls on operands that they hold. `backward` follows a `forward`.
struct AttentionCalls {
  std::function<absl::Status()> forward;
  std::function<absl::Status()> backward;
};

// Registers six shapes of a mechanism, each forward and both ways; returns true. `gpu` outlives the
// calls. Call before main, for a constant: const bool registered = AddGpuAttention(...).
bool AddGpuAttention(const std::string& mechanism,
                     std::function<AttentionCalls(Gpu& gpu, const AttentionShape& shape)> make);

}  // namespace weft::kernels

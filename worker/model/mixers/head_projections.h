// HeadProjections: what attention mechanisms have in common around their kernel: projections of the
// input to queries, keys and values in heads, rotary positions on queries and keys, and the
// projection of the merged heads to the model's width. Biases and the output projection are as the
// model says (MixerPlace).
//
// B sequences, T tokens, C model width, H heads, Hk key-value heads, D head width.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/linear.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/pass.h"
#include "worker/model/problems.h"

namespace weft::worker {

struct HeadOptions {
  int64_t heads = 1;
  int64_t kv_heads = 0;      // divides heads; 0: as many as heads
  int64_t head_width = 0;    // 0: the model's width / heads
  double rotary_base = 0.0;  // 0: no rotary positions; else above 1, and the head width is even
  // The mechanism sees keys only in scores of which it takes the softmax over all keys of a query.
  bool scores_meet_in_softmax = false;
};

// Notes what is wrong with the options at this place.
void CheckHeads(const HeadOptions& options, const MixerPlace& place, absl::string_view layer,
                Problems& problems);

// Queries, keys and values, or their gradients.
struct Heads {
  kernels::Tensor q;     // [B, T, H, D]
  kernels::Tensor k, v;  // [B, T, Hk, D]
};

// Immutable; any number of passes may use it at a time.
class HeadProjections {
 public:
  // Adds q, k, v and, if the place has one, output to `layout` under "<prefix>.<name>". The options
  // were checked.
  HeadProjections(const HeadOptions& options, const MixerPlace& place, absl::string_view prefix,
                  ParameterLayout& layout);

  [[nodiscard]] int64_t heads() const { return heads_; }
  [[nodiscard]] int64_t kv_heads() const { return kv_heads_; }
  [[nodiscard]] int64_t head_width() const { return head_width_; }

  [[nodiscard]] absl::StatusOr<Heads> NewHeads(kernels::Device& device, PassShape shape) const;
  // Of the shape of NewHeads, from pass.scratch: for gradients.
  [[nodiscard]] absl::StatusOr<Heads> TakeHeads(const Pass& pass, PassShape shape) const;

  // x [B, T, C] -> heads, the tokens counted from `first_position`. In decoding heads.k and heads.v
  // are the token's place in what the mixer remembers.
  absl::Status Project(const Pass& pass, const kernels::Tensor& x, int64_t first_position,
                       Heads& heads) const;
  // `gradients_of_heads` -> dx (overwritten); parameter gradients are added to `gradients`. The
  // contents of `gradients_of_heads` are lost.
  absl::Status ProjectBackward(const Pass& pass, const ParameterBlock& gradients,
                               const kernels::Tensor& x, int64_t first_position,
                               Heads& gradients_of_heads, kernels::Tensor& dx) const;

  // o [B, T, H, D] -> y [B, T, C], to which the residual [B, T, C] (absent: none) is added.
  absl::Status Merge(const Pass& pass, const kernels::Tensor& o, const kernels::Tensor& residual,
                     kernels::Tensor& y) const;
  // dy -> d_o (overwritten); the gradient of the output's weight is added, that of its bias is not.
  absl::Status MergeBackward(const Pass& pass, const ParameterBlock& gradients,
                             const kernels::Tensor& o, const kernels::Tensor& dy,
                             kernels::Tensor& d_o) const;
  // Absent without one.
  [[nodiscard]] kernels::Tensor OutputBiasIn(const ParameterBlock& block) const {
    return output_ ? output_->BiasIn(block) : kernels::Tensor();
  }

  [[nodiscard]] int64_t MatmulFlopsPerToken() const;

 private:
  const int64_t heads_, kv_heads_, head_width_;
  const double rotary_base_;
  // A bias of the keys adds the same to all scores of a query: softmax does not see it, unless
  // rotary positions turn it another way for each key. Its gradient is then zero.
  const bool key_bias_cancels_;
  const Linear q_, k_, v_;
  std::optional<const Linear> output_;
};

}  // namespace weft::worker

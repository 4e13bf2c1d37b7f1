#include "worker/model/mixers/softmax/softmax_mixer.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/rotary/rotary.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

// B batch, T tokens, H heads, Hk kv_heads, D head_dim.
struct SoftmaxMixer::Activations final : MixerActivations {
  kernels::SoftmaxProblem problem;
  Tensor q;     // [B, T, H, D] rotated
  Tensor k, v;  // [B, T, Hk, D], k rotated
  Tensor o;     // [B, T, H, D]
  Tensor lse;   // [B, H, T]
};

struct SoftmaxMixer::State final : MixerState {
  Tensor keys, values;  // [1, max_tokens, Hk, D]; the first `tokens` rows are filled
  int64_t tokens = 0;
  Tensor q, o;  // [1, 1, H, D]
  Tensor lse;   // [1, H, 1]
};

SoftmaxMixer::SoftmaxMixer(const SoftmaxMixerConfig& config, const MixerPlace& place,
                           absl::string_view prefix, ParameterLayout& layout)
    : config_(config),
      width_(place.width),
      head_dim_(place.width / config.heads),
      causal_(place.causal) {
  const int64_t kv_width = config_.kv_heads * head_dim_;
  q_weight_ = layout.AddWeight(absl::StrCat(prefix, ".q.weight"), {width_, width_});
  k_weight_ = layout.AddWeight(absl::StrCat(prefix, ".k.weight"), {kv_width, width_});
  v_weight_ = layout.AddWeight(absl::StrCat(prefix, ".v.weight"), {kv_width, width_});
  output_weight_ = layout.AddWeight(absl::StrCat(prefix, ".output.weight"), {width_, width_});
}

int64_t SoftmaxMixer::MatmulFlopsPerToken() const {
  const int64_t kv_width = config_.kv_heads * head_dim_;
  return 2 * (2 * width_ * width_ + 2 * width_ * kv_width);
}

kernels::SoftmaxProblem SoftmaxMixer::Problem(int64_t batch, int64_t queries, int64_t keys) const {
  return {.batch = batch,
          .queries = queries,
          .keys = keys,
          .heads = config_.heads,
          .kv_heads = config_.kv_heads,
          .head_dim = head_dim_,
          .scale = 1.0 / std::sqrt(static_cast<double>(head_dim_)),
          .causal = causal_,
          .window = config_.window};
}

absl::Status SoftmaxMixer::Supports(const Device& device, PassShape shape) const {
  return kernels::Supports(device, Problem(shape.batch, shape.tokens, shape.tokens));
}

absl::StatusOr<std::unique_ptr<MixerActivations>> SoftmaxMixer::NewActivations(
    Device& device, PassShape shape) const {
  const kernels::DType dtype = device.compute_dtype();
  const auto [batch, tokens] = shape;
  auto a = std::make_unique<Activations>();
  a->problem = Problem(batch, tokens, tokens);
  for (Tensor* tensor : {&a->q, &a->o}) {
    WEFT_ASSIGN_OR_RETURN(*tensor,
                          NewTensor(device, dtype, {batch, tokens, config_.heads, head_dim_}));
  }
  for (Tensor* tensor : {&a->k, &a->v}) {
    WEFT_ASSIGN_OR_RETURN(*tensor,
                          NewTensor(device, dtype, {batch, tokens, config_.kv_heads, head_dim_}));
  }
  WEFT_ASSIGN_OR_RETURN(a->lse, NewTensor(device, dtype, {batch, config_.heads, tokens}));
  return a;
}

absl::Status SoftmaxMixer::ProjectAndRotate(const Pass& pass, ParameterIndex weight,
                                            const Tensor& x, int64_t first_position,
                                            Tensor& y) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor projected, pass.scratch.Take(y.shape()));
  Tensor flat = projected.Reshaped({y.dim(0), y.dim(1), y.dim(2) * y.dim(3)});
  WEFT_RETURN_IF_ERROR(kernels::LinearForward(pass.stream, x, pass.weights[weight], flat));
  return kernels::RotaryForward(pass.stream, projected, config_.rotary_base, first_position, y);
}

absl::Status SoftmaxMixer::Forward(const Pass& pass, const Tensor& x, MixerActivations& activations,
                                   Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(ProjectAndRotate(pass, q_weight_, x, /*first_position=*/0, a.q));
  WEFT_RETURN_IF_ERROR(ProjectAndRotate(pass, k_weight_, x, /*first_position=*/0, a.k));
  Tensor v = a.v.Reshaped({x.dim(0), x.dim(1), config_.kv_heads * head_dim_});
  WEFT_RETURN_IF_ERROR(kernels::LinearForward(pass.stream, x, pass.weights[v_weight_], v));
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxForward(pass.stream, a.problem, a.q, a.k, a.v, a.o, a.lse));
  return kernels::LinearForward(pass.stream, a.o.Reshaped(x.shape()), pass.weights[output_weight_],
                                y);
}

absl::Status SoftmaxMixer::ProjectionBackward(const Pass& pass, const ParameterBlock& gradients,
                                              ParameterIndex weight, const Tensor& x,
                                              const Tensor& dy, bool accumulate, Tensor& dx) const {
  Tensor d_weight = gradients[weight];
  WEFT_RETURN_IF_ERROR(kernels::LinearBackwardWeight(pass.stream, dy, x, d_weight));
  return kernels::LinearBackwardInput(pass.stream, dy, pass.weights[weight], dx,
                                      accumulate ? Accumulate::kYes : Accumulate::kNo);
}

absl::Status SoftmaxMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                    const Tensor& x, MixerActivations& activations,
                                    const Tensor& dy, Tensor& dx) const {
  const auto& a = static_cast<const Activations&>(activations);
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(a.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dq_rotated, pass.scratch.Take(a.q.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dq, pass.scratch.Take(a.q.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dk_rotated, pass.scratch.Take(a.k.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dk, pass.scratch.Take(a.k.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dv, pass.scratch.Take(a.v.shape()));

  Tensor d_o_flat = d_o.Reshaped(x.shape());
  WEFT_RETURN_IF_ERROR(ProjectionBackward(pass, gradients, output_weight_, a.o.Reshaped(x.shape()),
                                          dy, /*accumulate=*/false, d_o_flat));
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxBackward(pass.stream, a.problem, a.q, a.k, a.v, a.o, a.lse,
                                                d_o, dq_rotated, dk_rotated, dv));
  WEFT_RETURN_IF_ERROR(kernels::RotaryBackward(pass.stream, dq_rotated, config_.rotary_base,
                                               /*first_position=*/0, dq));
  WEFT_RETURN_IF_ERROR(kernels::RotaryBackward(pass.stream, dk_rotated, config_.rotary_base,
                                               /*first_position=*/0, dk));
  const kernels::Shape kv_flat = {x.dim(0), x.dim(1), config_.kv_heads * head_dim_};
  WEFT_RETURN_IF_ERROR(ProjectionBackward(pass, gradients, q_weight_, x, dq.Reshaped(x.shape()),
                                          /*accumulate=*/false, dx));
  WEFT_RETURN_IF_ERROR(ProjectionBackward(pass, gradients, k_weight_, x, dk.Reshaped(kv_flat),
                                          /*accumulate=*/true, dx));
  return ProjectionBackward(pass, gradients, v_weight_, x, dv.Reshaped(kv_flat),
                            /*accumulate=*/true, dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> SoftmaxMixer::NewState(Device& device,
                                                                   int64_t max_tokens) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<State>();
  for (Tensor* tensor : {&state->keys, &state->values}) {
    WEFT_ASSIGN_OR_RETURN(*tensor,
                          NewTensor(device, dtype, {1, max_tokens, config_.kv_heads, head_dim_}));
  }
  for (Tensor* tensor : {&state->q, &state->o}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {1, 1, config_.heads, head_dim_}));
  }
  WEFT_ASSIGN_OR_RETURN(state->lse, NewTensor(device, dtype, {1, config_.heads, 1}));
  return state;
}

absl::Status SoftmaxMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                  Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  const int64_t position = state.tokens;
  if (position == state.keys.dim(1)) {
    return absl::OutOfRangeError(absl::StrCat("the text is longer than the ", position,
                                              " tokens that its state was made for"));
  }
  const int64_t kv_width = config_.kv_heads * head_dim_;
  Tensor key = state.keys.Part(position * kv_width, {1, 1, config_.kv_heads, head_dim_});
  Tensor value = state.values.Part(position * kv_width, {1, 1, kv_width});
  WEFT_RETURN_IF_ERROR(ProjectAndRotate(pass, q_weight_, x, position, state.q));
  WEFT_RETURN_IF_ERROR(ProjectAndRotate(pass, k_weight_, x, position, key));
  WEFT_RETURN_IF_ERROR(kernels::LinearForward(pass.stream, x, pass.weights[v_weight_], value));
  state.tokens = position + 1;

  const kernels::Shape seen = {1, state.tokens, config_.kv_heads, head_dim_};
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxForward(
      pass.stream, Problem(/*batch=*/1, /*queries=*/1, state.tokens), state.q,
      state.keys.Part(0, seen), state.values.Part(0, seen), state.o, state.lse));
  return kernels::LinearForward(pass.stream, state.o.Reshaped(x.shape()),
                                pass.weights[output_weight_], y);
}

}  // namespace weft::worker

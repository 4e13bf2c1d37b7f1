#include "worker/model/mixers/softmax/softmax_mixer.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "worker/model/mixers/attention_draws.h"
#include "worker/model/mixers/key_value_cache.h"

namespace weft::worker {

using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

// B batch, T tokens, H heads, Hk kv_heads, D head width.
struct SoftmaxMixer::Activations final : MixerActivations {
  kernels::SoftmaxProblem problem;
  Heads heads;  // q and k rotated
  Tensor o;     // [B, T, H, D]
  Tensor lse;   // [B, H, T]
};

struct SoftmaxMixer::State final : MixerState {
  KeyValueCache cache;
  Tensor q, o;  // [1, 1, H, D]
  Tensor lse;   // [1, H, 1]
};

SoftmaxMixer::SoftmaxMixer(const SoftmaxMixerConfig& config, const MixerPlace& place,
                           absl::string_view prefix, ParameterLayout& layout)
    : window_(config.window),
      layer_(place.layer),
      dropout_(place.attention_dropout),
      causal_(place.causal),
      projections_(HeadsOf(config), place, prefix, layout) {}

int64_t SoftmaxMixer::MatmulFlopsPerToken() const { return projections_.MatmulFlopsPerToken(); }

kernels::SoftmaxProblem SoftmaxMixer::Problem(int64_t batch, int64_t queries, int64_t keys) const {
  return {.batch = batch,
          .queries = queries,
          .keys = keys,
          .heads = projections_.heads(),
          .kv_heads = projections_.kv_heads(),
          .head_dim = projections_.head_width(),
          .scale = 1.0 / std::sqrt(static_cast<double>(projections_.head_width())),
          .causal = causal_,
          .window = window_};
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
  WEFT_ASSIGN_OR_RETURN(a->heads, projections_.NewHeads(device, shape));
  WEFT_ASSIGN_OR_RETURN(a->o, NewTensor(device, dtype, a->heads.q.shape()));
  WEFT_ASSIGN_OR_RETURN(
      a->lse, NewTensor(device, device.sum_dtype(), {batch, projections_.heads(), tokens}));
  return a;
}

absl::Status SoftmaxMixer::Forward(const Pass& pass, const Tensor& x, MixerActivations& activations,
                                   const Tensor& residual, Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, /*first_position=*/0, a.heads));
  a.problem.dropout = DropoutIn(pass, dropout_, layer_);
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxForward(pass.stream, a.problem, a.heads.q, a.heads.k,
                                               a.heads.v, pass.valid, a.o, a.lse));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status SoftmaxMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                    const Tensor& x, MixerActivations& activations,
                                    const Tensor& dy, Tensor& dx) const {
  const auto& a = static_cast<const Activations&>(activations);
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(a.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Heads d, projections_.TakeHeads(pass, {x.dim(0), x.dim(1)}));
  WEFT_RETURN_IF_ERROR(projections_.MergeBackward(pass, gradients, a.o, dy, d_o));
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxBackward(pass.stream, a.problem, a.heads.q, a.heads.k,
                                                a.heads.v, pass.valid, a.o, a.lse, d_o, d.q, d.k,
                                                d.v));
  return projections_.ProjectBackward(pass, gradients, x, /*first_position=*/0, d, dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> SoftmaxMixer::NewState(Device& device,
                                                                   int64_t max_tokens) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<State>();
  WEFT_ASSIGN_OR_RETURN(state->cache, KeyValueCache::New(projections_, device, max_tokens));
  for (Tensor* tensor : {&state->q, &state->o}) {
    WEFT_ASSIGN_OR_RETURN(
        *tensor, NewTensor(device, dtype, {1, 1, projections_.heads(), projections_.head_width()}));
  }
  WEFT_ASSIGN_OR_RETURN(state->lse,
                        NewTensor(device, device.sum_dtype(), {1, projections_.heads(), 1}));
  return state;
}

absl::Status SoftmaxMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                  const Tensor& residual, Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  WEFT_RETURN_IF_ERROR(state.cache.Append(pass, projections_, x, state.q));
  WEFT_RETURN_IF_ERROR(kernels::SoftmaxForward(
      pass.stream, Problem(/*batch=*/1, /*queries=*/1, state.cache.tokens()), state.q,
      state.cache.keys(), state.cache.values(), /*valid=*/Tensor(), state.o, state.lse));
  return projections_.Merge(pass, state.o, residual, y);
}

}  // namespace weft::worker

#include "worker/model/mixers/linear_attention/linear_attention_mixer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {

using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

// B batch, T tokens, H heads, D head width.
struct LinearAttentionMixer::Activations final : MixerActivations {
  kernels::LinearAttentionProblem problem;
  Heads heads;
  Tensor o;  // [B, T, H, D]
  kernels::LinearAttentionSaved saved;
};

struct LinearAttentionMixer::State final : MixerState {
  Heads heads;    // of one token
  Tensor o;       // [1, 1, H, D]
  Tensor memory;  // [1, H, state]
};

LinearAttentionMixer::LinearAttentionMixer(const LinearAttentionOptions& options,
                                           const MixerPlace& place, absl::string_view prefix,
                                           ParameterLayout& layout)
    : options_(options), causal_(place.causal), projections_(options.heads, place, prefix, layout) {
  const int64_t rows = options.features.rows;
  if (rows == 0) return;
  const int64_t width = projections_.head_width();
  features_ = layout.AddConstant(absl::StrCat(prefix, ".features"), {rows, width},
                                 [layer = place.layer, kind = options.rows, rows, width](
                                     uint64_t seed, absl::Span<double> into) {
                                   const std::vector<double> matrix = kernels::FeatureMatrix(
                                       seed, static_cast<uint32_t>(layer), kind, rows, width);
                                   std::copy(matrix.begin(), matrix.end(), into.begin());
                                 });
}

int64_t LinearAttentionMixer::MatmulFlopsPerToken() const {
  return projections_.MatmulFlopsPerToken();
}

kernels::LinearAttentionProblem LinearAttentionMixer::Problem(PassShape shape) const {
  return {.batch = shape.batch,
          .tokens = shape.tokens,
          .heads = projections_.heads(),
          .key_dim = projections_.head_width(),
          .value_dim = projections_.head_width(),
          .features = options_.features,
          .causal = causal_,
          .guard = options_.guard,
          .guard_epsilon = options_.guard_epsilon};
}

kernels::LinearAttentionInputs LinearAttentionMixer::Inputs(const Pass& pass,
                                                            const Heads& heads) const {
  return {.q = heads.q,
          .k = heads.k,
          .v = heads.v,
          .projection = features_ ? pass.weights[*features_] : Tensor(),
          .valid = pass.valid};
}

absl::Status LinearAttentionMixer::Supports(const Device& device, PassShape shape) const {
  return kernels::Supports(device, Problem(shape));
}

absl::StatusOr<std::unique_ptr<MixerActivations>> LinearAttentionMixer::NewActivations(
    Device& device, PassShape shape) const {
  auto a = std::make_unique<Activations>();
  a->problem = Problem(shape);
  WEFT_ASSIGN_OR_RETURN(a->heads, projections_.NewHeads(device, shape));
  WEFT_ASSIGN_OR_RETURN(a->o, NewTensor(device, device.compute_dtype(), a->heads.q.shape()));
  WEFT_ASSIGN_OR_RETURN(a->saved, kernels::NewLinearAttentionSaved(device, a->problem));
  return a;
}

absl::Status LinearAttentionMixer::Forward(const Pass& pass, const Tensor& x,
                                           MixerActivations& activations, const Tensor& residual,
                                           Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, pass.first_position, a.heads));
  Tensor no_final_state;
  WEFT_RETURN_IF_ERROR(kernels::LinearAttentionForward(
      pass.stream, a.problem, Inputs(pass, a.heads), Tensor(), a.o, no_final_state, a.saved));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status LinearAttentionMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                            const Tensor& x, MixerActivations& activations,
                                            const Tensor& dy, Tensor& dx) const {
  return Backward(pass, gradients, x, static_cast<const Activations&>(activations), dy, Tensor(),
                  dx);
}

absl::Status LinearAttentionMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                            const Tensor& x, const Activations& a, const Tensor& dy,
                                            Tensor d_state, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(a.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Heads d, projections_.TakeHeads(pass, {x.dim(0), x.dim(1)}));
  WEFT_RETURN_IF_ERROR(projections_.MergeBackward(pass, gradients, a.o, dy, d_o));
  WEFT_RETURN_IF_ERROR(kernels::LinearAttentionBackward(pass.stream, a.problem,
                                                        Inputs(pass, a.heads), a.o, a.saved, d_o,
                                                        d_state, d.q, d.k, d.v, d_state));
  return projections_.ProjectBackward(pass, gradients, x, pass.first_position, d, dx);
}

absl::Status LinearAttentionMixer::SupportsSlices(int64_t /*slice_length*/) const {
  if (causal_) return absl::OkStatus();
  return absl::UnimplementedError("every token sees every other: slices have no order");
}

bool LinearAttentionMixer::CanUndo() const {
  return options_.features.feature != kernels::Feature::kExponential;
}

std::vector<BoundaryPart> LinearAttentionMixer::BoundaryParts() const {
  return {{.shape = {1, projections_.heads(), kernels::LinearAttentionStateSize(Problem({}))}}};
}

absl::Status LinearAttentionMixer::ForwardSlice(const Pass& pass, const Tensor& x, SliceStep step,
                                                Boundary& boundary, MixerActivations& activations,
                                                const Tensor& residual, Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  Tensor& state = boundary.front();
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, pass.first_position, a.heads));
  const kernels::LinearAttentionInputs inputs = Inputs(pass, a.heads);
  if (step == SliceStep::kUndo) {
    WEFT_RETURN_IF_ERROR(kernels::LinearAttentionUndo(pass.stream, a.problem, inputs, state));
  }
  const bool advances = step == SliceStep::kAdvance;
  Tensor final_state = advances ? state : Tensor();
  kernels::LinearAttentionSaved nothing;
  WEFT_RETURN_IF_ERROR(kernels::LinearAttentionForward(pass.stream, a.problem, inputs, state, a.o,
                                                       final_state, advances ? nothing : a.saved));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status LinearAttentionMixer::BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                                 const Tensor& x, const Boundary& /*before*/,
                                                 MixerActivations& activations, const Tensor& dy,
                                                 Boundary& gradient, Tensor& dx) const {
  return Backward(pass, gradients, x, static_cast<const Activations&>(activations), dy,
                  gradient.front(), dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> LinearAttentionMixer::NewState(
    Device& device, int64_t /*max_tokens*/) const {
  const PassShape one = {.batch = 1, .tokens = 1};
  auto state = std::make_unique<State>();
  WEFT_ASSIGN_OR_RETURN(state->heads, projections_.NewHeads(device, one));
  WEFT_ASSIGN_OR_RETURN(state->o,
                        NewTensor(device, device.compute_dtype(), state->heads.q.shape()));
  WEFT_ASSIGN_OR_RETURN(
      state->memory,
      NewTensor(device, device.sum_dtype(),
                {1, projections_.heads(), kernels::LinearAttentionStateSize(Problem(one))}));
  return state;
}

absl::Status LinearAttentionMixer::Decode(const Pass& pass, const Tensor& x,
                                          MixerState& mixer_state, const Tensor& residual,
                                          Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, pass.first_position, state.heads));
  kernels::LinearAttentionSaved nothing;
  WEFT_RETURN_IF_ERROR(kernels::LinearAttentionForward(
      pass.stream, Problem({.batch = 1, .tokens = 1}), Inputs(pass, state.heads), state.memory,
      state.o, state.memory, nothing));
  return projections_.Merge(pass, state.o, residual, y);
}

}  // namespace weft::worker

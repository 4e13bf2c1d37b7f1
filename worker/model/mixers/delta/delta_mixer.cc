#include "worker/model/mixers/delta/delta_mixer.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/delta/delta.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/l2_norm/l2_norm.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/short_conv/short_conv.h"
#include "kernels/ops/sigmoid/sigmoid.h"
#include "kernels/ops/silu/silu.h"
#include "kernels/ops/swiglu/swiglu.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

namespace {

// Inside the square root of the L2 norm, so that a zero row stays zero.
constexpr double kL2Epsilon = 1e-6;

}  // namespace

// B batch, T tokens, H heads, D head_dim, C width = H D.
struct DeltaMixer::Activations final : MixerActivations {
  kernels::DeltaProblem problem;
  Tensor q_projected, k_projected, v_projected;  // [B, T, C] before the convolution
  Tensor q, k, v;                                // [B, T, H, D] as the recurrence takes them
  Tensor q_inverse_norm, k_inverse_norm;         // [B T H]
  Tensor beta;                                   // [B, T, H]
  kernels::DeltaSaved recurrence;
  Tensor o;               // [B, T, H, D]
  Tensor o_rstd;          // [B T H]
  Tensor normalised;      // [B, T, H, D] the norm of o
  Tensor gate_in, gated;  // [B, T, C], with an output gate only
};

struct DeltaMixer::State final : MixerState {
  Activations step;  // of one token
  // [1, W, C] each: the convolution's last W inputs; the newest, row W-1, is the step's projection.
  Tensor q_window, k_window, v_window;
  Histories histories;  // rows 0 to W-2 of the windows
  Tensor memory;        // S [1, H, D, D]
};

DeltaMixer::DeltaMixer(const DeltaMixerConfig& config, const MixerPlace& place,
                       absl::string_view prefix, ParameterLayout& layout)
    : config_(config),
      width_(place.width),
      head_dim_(place.width / config.heads),
      norm_epsilon_(place.norm_epsilon),
      q_(AddBranch(place, prefix, "q", layout)),
      k_(AddBranch(place, prefix, "k", layout)),
      v_(AddBranch(place, prefix, "v", layout)),
      beta_(AddProjection(place, prefix, "beta", config.heads, layout)) {
  if (config_.output_gate) {
    gate_.emplace(AddProjection(place, prefix, "gate", width_, layout));
  }
  norm_weight_ = layout.AddNorm(absl::StrCat(prefix, ".output_norm.weight"), head_dim_);
  if (place.output_projection) {
    output_.emplace(absl::StrCat(prefix, ".output"), width_, width_, place.output_bias, layout);
  }
}

Linear DeltaMixer::AddProjection(const MixerPlace& place, absl::string_view prefix,
                                 absl::string_view name, int64_t out, ParameterLayout& layout) {
  return Linear(absl::StrCat(prefix, ".", name), place.width, out, place.projection_bias, layout);
}

DeltaMixer::Branch DeltaMixer::AddBranch(const MixerPlace& place, absl::string_view prefix,
                                         absl::string_view name, ParameterLayout& layout) const {
  Branch branch{.projection = AddProjection(place, prefix, name, width_, layout),
                .taps = std::nullopt};
  if (convolves()) {
    branch.taps = layout.AddWeight(absl::StrCat(prefix, ".", name, "_convolution.weight"),
                                   {width_, config_.convolution_taps});
  }
  return branch;
}

int64_t DeltaMixer::MatmulFlopsPerToken() const {
  return q_.projection.FlopsPerRow() + k_.projection.FlopsPerRow() + v_.projection.FlopsPerRow() +
         beta_.FlopsPerRow() + (gate_ ? gate_->FlopsPerRow() : 0) +
         (output_ ? output_->FlopsPerRow() : 0);
}

absl::Status DeltaMixer::Supports(const Device& device, PassShape shape) const {
  return kernels::Supports(device, kernels::DeltaProblem{.batch = shape.batch,
                                                         .tokens = shape.tokens,
                                                         .heads = config_.heads,
                                                         .key_dim = head_dim_,
                                                         .value_dim = head_dim_});
}

absl::Status DeltaMixer::Allocate(Device& device, PassShape shape, Activations& a) const {
  const kernels::DType dtype = device.compute_dtype();
  const int64_t heads = config_.heads;
  const kernels::Shape by_head = {shape.batch, shape.tokens, heads, head_dim_};
  const kernels::Shape per_head = {shape.batch * shape.tokens * heads};
  a.problem = {.batch = shape.batch,
               .tokens = shape.tokens,
               .heads = heads,
               .key_dim = head_dim_,
               .value_dim = head_dim_};
  for (Tensor* tensor : {&a.q, &a.k, &a.v, &a.o, &a.normalised}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, by_head));
  }
  for (Tensor* tensor : {&a.q_inverse_norm, &a.k_inverse_norm, &a.o_rstd}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, per_head));
  }
  WEFT_ASSIGN_OR_RETURN(a.beta, NewTensor(device, dtype, {shape.batch, shape.tokens, heads}));
  if (config_.output_gate) {
    for (Tensor* tensor : {&a.gate_in, &a.gated}) {
      WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {shape.batch, shape.tokens, width_}));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MixerActivations>> DeltaMixer::NewActivations(
    Device& device, PassShape shape) const {
  auto activations = std::make_unique<Activations>();
  WEFT_RETURN_IF_ERROR(Allocate(device, shape, *activations));
  for (Tensor* tensor :
       {&activations->q_projected, &activations->k_projected, &activations->v_projected}) {
    WEFT_ASSIGN_OR_RETURN(
        *tensor, NewTensor(device, device.compute_dtype(), {shape.batch, shape.tokens, width_}));
  }
  WEFT_ASSIGN_OR_RETURN(activations->recurrence,
                        kernels::NewDeltaSaved(device, activations->problem));
  return activations;
}

absl::Status DeltaMixer::BranchForward(const Pass& pass, const Branch& branch, const Tensor& x,
                                       const Tensor& history, Tensor& projected, Tensor& y) const {
  WEFT_RETURN_IF_ERROR(branch.projection.Forward(pass, x, projected));
  if (!branch.taps) return kernels::SiluForward(pass.stream, projected, y);
  return kernels::ShortConvForward(pass.stream, projected, pass.weights[*branch.taps], history, y);
}

absl::Status DeltaMixer::BranchBackward(const Pass& pass, const ParameterBlock& gradients,
                                        const Branch& branch, const Tensor& x,
                                        const Tensor& projected, const Tensor& dy,
                                        Accumulate accumulate, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_projected, pass.scratch.Take(projected.shape()));
  if (branch.taps) {
    Tensor d_taps = gradients[*branch.taps];
    Tensor no_history;
    WEFT_RETURN_IF_ERROR(kernels::ShortConvBackward(pass.stream, projected,
                                                    pass.weights[*branch.taps], Tensor(), dy,
                                                    d_projected, no_history, d_taps));
  } else {
    WEFT_RETURN_IF_ERROR(kernels::SiluBackward(pass.stream, projected, dy, d_projected));
  }
  return branch.projection.Backward(pass, gradients, x, d_projected, accumulate, dx);
}

absl::Status DeltaMixer::BeforeRecurrence(const Pass& pass, const Tensor& x,
                                          const Histories& histories, Activations& saved) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor activated, pass.scratch.Take(x.shape()));
  const Tensor activated_by_head = activated.Reshaped(saved.q.shape());
  const double query_scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));

  WEFT_RETURN_IF_ERROR(BranchForward(pass, q_, x, histories.q, saved.q_projected, activated));
  WEFT_RETURN_IF_ERROR(kernels::L2NormForward(pass.stream, activated_by_head, kL2Epsilon,
                                              query_scale, saved.q, saved.q_inverse_norm));
  WEFT_RETURN_IF_ERROR(BranchForward(pass, k_, x, histories.k, saved.k_projected, activated));
  WEFT_RETURN_IF_ERROR(kernels::L2NormForward(pass.stream, activated_by_head, kL2Epsilon, 1.0,
                                              saved.k, saved.k_inverse_norm));
  Tensor v = saved.v.Reshaped(x.shape());
  WEFT_RETURN_IF_ERROR(BranchForward(pass, v_, x, histories.v, saved.v_projected, v));

  WEFT_ASSIGN_OR_RETURN(Tensor logits, pass.scratch.Take(saved.beta.shape()));
  WEFT_RETURN_IF_ERROR(beta_.Forward(pass, x, logits));
  return kernels::SigmoidForward(pass.stream, logits, beta_scale(), saved.beta);
}

absl::Status DeltaMixer::AfterRecurrence(const Pass& pass, const Tensor& x, Activations& saved,
                                         Tensor& y) const {
  WEFT_RETURN_IF_ERROR(kernels::RmsNormForward(pass.stream, saved.o, pass.weights[norm_weight_],
                                               norm_epsilon_, saved.normalised, saved.o_rstd));
  Tensor merged = saved.normalised.Reshaped(x.shape());
  if (gate_) {
    WEFT_RETURN_IF_ERROR(gate_->Forward(pass, x, saved.gate_in));
    WEFT_RETURN_IF_ERROR(kernels::SwigluForward(pass.stream, saved.gate_in, merged, saved.gated));
    merged = saved.gated;
  }
  return output_ ? output_->Forward(pass, merged, y) : kernels::Copy(pass.stream, merged, y);
}

absl::Status DeltaMixer::Forward(const Pass& pass, const Tensor& x, MixerActivations& activations,
                                 Tensor& y) const {
  auto& saved = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(BeforeRecurrence(pass, x, Histories{}, saved));
  Tensor no_final_state;
  WEFT_RETURN_IF_ERROR(kernels::DeltaForward(pass.stream, saved.problem, saved.q, saved.k, saved.v,
                                             saved.beta, Tensor(), saved.o, no_final_state,
                                             saved.recurrence));
  return AfterRecurrence(pass, x, saved, y);
}

absl::Status DeltaMixer::AfterRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                                 const Tensor& x, Activations& saved,
                                                 const Tensor& dy, Tensor& d_o, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_merged, pass.scratch.Take(x.shape()));
  const Tensor normalised = saved.normalised.Reshaped(x.shape());
  if (output_) {
    WEFT_RETURN_IF_ERROR(output_->Backward(pass, gradients, gate_ ? saved.gated : normalised, dy,
                                           Accumulate::kNo, d_merged));
  } else {
    WEFT_RETURN_IF_ERROR(kernels::Copy(pass.stream, dy, d_merged));
  }
  Tensor d_normalised = d_merged;
  if (gate_) {
    WEFT_ASSIGN_OR_RETURN(Tensor d_gate, pass.scratch.Take(x.shape()));
    WEFT_RETURN_IF_ERROR(kernels::SwigluBackward(pass.stream, saved.gate_in, normalised, d_merged,
                                                 d_gate, d_normalised));
    WEFT_RETURN_IF_ERROR(gate_->Backward(pass, gradients, x, d_gate, Accumulate::kNo, dx));
  }
  Tensor d_norm_weight = gradients[norm_weight_];
  return kernels::RmsNormBackward(pass.stream, saved.o, pass.weights[norm_weight_], saved.o_rstd,
                                  d_normalised.Reshaped(saved.o.shape()), d_o, Accumulate::kNo,
                                  d_norm_weight);
}

absl::Status DeltaMixer::BeforeRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                                  const Tensor& x, Activations& saved, Tensor& dq,
                                                  Tensor& dk, const Tensor& dv, const Tensor& dbeta,
                                                  Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  const double query_scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  WEFT_ASSIGN_OR_RETURN(Tensor d_activated, pass.scratch.Take(saved.q.shape()));
  const Tensor d_activated_flat = d_activated.Reshaped(x.shape());

  WEFT_RETURN_IF_ERROR(kernels::L2NormBackward(pass.stream, saved.q, saved.q_inverse_norm,
                                               query_scale, dq, d_activated));
  const Accumulate to_gate = gate_ ? Accumulate::kYes : Accumulate::kNo;
  WEFT_RETURN_IF_ERROR(
      BranchBackward(pass, gradients, q_, x, saved.q_projected, d_activated_flat, to_gate, dx));
  WEFT_RETURN_IF_ERROR(
      kernels::L2NormBackward(pass.stream, saved.k, saved.k_inverse_norm, 1.0, dk, d_activated));
  WEFT_RETURN_IF_ERROR(BranchBackward(pass, gradients, k_, x, saved.k_projected, d_activated_flat,
                                      Accumulate::kYes, dx));
  WEFT_RETURN_IF_ERROR(BranchBackward(pass, gradients, v_, x, saved.v_projected,
                                      dv.Reshaped(x.shape()), Accumulate::kYes, dx));

  WEFT_ASSIGN_OR_RETURN(Tensor d_logits, pass.scratch.Take(saved.beta.shape()));
  WEFT_RETURN_IF_ERROR(
      kernels::SigmoidBackward(pass.stream, saved.beta, beta_scale(), dbeta, d_logits));
  return beta_.Backward(pass, gradients, x, d_logits, Accumulate::kYes, dx);
}

absl::Status DeltaMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                  const Tensor& x, MixerActivations& activations, const Tensor& dy,
                                  Tensor& dx) const {
  auto& saved = static_cast<Activations&>(activations);
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(saved.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dq, pass.scratch.Take(saved.q.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dk, pass.scratch.Take(saved.k.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dv, pass.scratch.Take(saved.v.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor dbeta, pass.scratch.Take(saved.beta.shape()));
  WEFT_RETURN_IF_ERROR(AfterRecurrenceBackward(pass, gradients, x, saved, dy, d_o, dx));
  Tensor no_initial_state;
  WEFT_RETURN_IF_ERROR(kernels::DeltaBackward(pass.stream, saved.problem, saved.q, saved.k,
                                              saved.beta, saved.recurrence, d_o, Tensor(), dq, dk,
                                              dv, dbeta, no_initial_state));
  return BeforeRecurrenceBackward(pass, gradients, x, saved, dq, dk, dv, dbeta, dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> DeltaMixer::NewState(Device& device,
                                                                 int64_t /*max_tokens*/) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<State>();
  WEFT_RETURN_IF_ERROR(Allocate(device, {.batch = 1, .tokens = 1}, state->step));
  WEFT_ASSIGN_OR_RETURN(state->memory,
                        NewTensor(device, dtype, {1, config_.heads, head_dim_, head_dim_}));
  const int64_t rows = convolves() ? config_.convolution_taps : 1;
  const auto add_window = [&](Tensor& window, Tensor& history, Tensor& newest) -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(window, NewTensor(device, dtype, {1, rows, width_}));
    if (rows > 1) history = window.Part(0, {1, rows - 1, width_});
    newest = window.Part((rows - 1) * width_, {1, 1, width_});
    return absl::OkStatus();
  };
  WEFT_RETURN_IF_ERROR(add_window(state->q_window, state->histories.q, state->step.q_projected));
  WEFT_RETURN_IF_ERROR(add_window(state->k_window, state->histories.k, state->step.k_projected));
  WEFT_RETURN_IF_ERROR(add_window(state->v_window, state->histories.v, state->step.v_projected));
  return state;
}

absl::Status DeltaMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  Activations& step = state.step;
  WEFT_RETURN_IF_ERROR(BeforeRecurrence(pass, x, state.histories, step));
  WEFT_RETURN_IF_ERROR(kernels::DeltaForward(pass.stream, step.problem, step.q, step.k, step.v,
                                             step.beta, state.memory, step.o, state.memory,
                                             step.recurrence));
  for (Tensor* window : {&state.q_window, &state.k_window, &state.v_window}) {
    for (int64_t row = 0; row + 1 < window->dim(1); ++row) {
      Tensor older = window->Part(row * width_, {width_});
      WEFT_RETURN_IF_ERROR(
          kernels::Copy(pass.stream, window->Part((row + 1) * width_, {width_}), older));
    }
  }
  return AfterRecurrence(pass, x, step, y);
}

}  // namespace weft::worker

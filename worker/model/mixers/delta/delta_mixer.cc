#include "worker/model/mixers/delta/delta_mixer.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/delta/delta.h"
#include "kernels/ops/conv_norm/conv_norm.h"
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

// Row `row` of one sequence [1, T, C].
Tensor RowOf(const Tensor& sequence, int64_t row) {
  return sequence.Part(row * sequence.dim(2), {sequence.dim(2)});
}

// The history [1, W - 1, C] of the next token, oldest first, from that of the first token of
// `inputs` [1, T, C].
absl::Status AdvanceHistory(kernels::Stream& stream, const Tensor& inputs, const Tensor& history) {
  const int64_t tokens = inputs.dim(1);
  const int64_t rows = history.dim(1);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t from = row + tokens;  // counted from the oldest row of the history
    Tensor to = RowOf(history, row);
    WEFT_RETURN_IF_ERROR(
        kernels::Copy(stream, from < rows ? RowOf(history, from) : RowOf(inputs, from - rows), to));
  }
  return absl::OkStatus();
}

// The backward pass of AdvanceHistory: adds the gradient of the history after the tokens to
// `d_history`, that of the history before them, and to `d_inputs`; then d_history takes its place.
absl::Status HistoryBackward(kernels::Stream& stream, Tensor gradient, const Tensor& d_history,
                             const Tensor& d_inputs) {
  const int64_t tokens = d_inputs.dim(1);
  const int64_t rows = d_history.dim(1);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t from = row + tokens;
    Tensor to = from < rows ? RowOf(d_history, from) : RowOf(d_inputs, from - rows);
    WEFT_RETURN_IF_ERROR(kernels::Add(stream, to, RowOf(gradient, row), to));
  }
  return kernels::Copy(stream, d_history, gradient);
}

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
  Activations step;     // of one token
  Histories histories;  // of the convolutions, as far as there are any
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

double DeltaMixer::query_scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim_)); }

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
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, device.sum_dtype(), per_head));
  }
  for (Tensor* tensor : {&a.q_projected, &a.k_projected, &a.v_projected}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {shape.batch, shape.tokens, width_}));
  }
  WEFT_ASSIGN_OR_RETURN(a.beta,
                        NewTensor(device, device.sum_dtype(), {shape.batch, shape.tokens, heads}));
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

absl::Status DeltaMixer::NormedBranchForward(const Pass& pass, const Branch& branch,
                                             const Tensor& x, const Tensor& history, double scale,
                                             Tensor& projected, Tensor& y,
                                             Tensor& inverse_norm) const {
  if (branch.taps) {
    WEFT_RETURN_IF_ERROR(branch.projection.Forward(pass, x, projected));
    return kernels::ConvNormForward(pass.stream, projected, pass.weights[*branch.taps], history,
                                    kL2Epsilon, scale, y, inverse_norm);
  }
  Tensor activated = y.Reshaped(projected.shape());
  WEFT_RETURN_IF_ERROR(BranchForward(pass, branch, x, history, projected, activated));
  return kernels::L2NormForward(pass.stream, y, kL2Epsilon, scale, y, inverse_norm);
}

absl::Status DeltaMixer::ProjectionBackward(const Pass& pass, const ParameterBlock& gradients,
                                            const Branch& branch, const Tensor& x, const Past& past,
                                            const Tensor& d_history, Tensor& d_projected,
                                            Accumulate accumulate, Tensor& dx) const {
  if (past.gradient.present()) {
    WEFT_RETURN_IF_ERROR(HistoryBackward(pass.stream, past.gradient, d_history, d_projected));
  }
  return branch.projection.Backward(pass, gradients, x, d_projected, accumulate, dx);
}

absl::Status DeltaMixer::BranchBackward(const Pass& pass, const ParameterBlock& gradients,
                                        const Branch& branch, const Tensor& x,
                                        const Tensor& projected, const Past& past, const Tensor& dy,
                                        Accumulate accumulate, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_projected, pass.scratch.Take(projected.shape()));
  Tensor d_history;
  if (past.gradient.present()) {
    WEFT_ASSIGN_OR_RETURN(d_history, pass.scratch.Take(past.gradient.shape()));
  }
  if (branch.taps) {
    Tensor d_taps = gradients[*branch.taps];
    WEFT_RETURN_IF_ERROR(kernels::ShortConvBackward(pass.stream, projected,
                                                    pass.weights[*branch.taps], past.history, dy,
                                                    d_projected, d_history, d_taps));
  } else {
    WEFT_RETURN_IF_ERROR(kernels::SiluBackward(pass.stream, projected, dy, d_projected));
  }
  return ProjectionBackward(pass, gradients, branch, x, past, d_history, d_projected, accumulate,
                            dx);
}

absl::Status DeltaMixer::NormedBranchBackward(const Pass& pass, const ParameterBlock& gradients,
                                              const Branch& branch, const Tensor& x,
                                              const Tensor& projected, const Past& past,
                                              double scale, const Tensor& y,
                                              const Tensor& inverse_norm, const Tensor& dy,
                                              Accumulate accumulate, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_activated, pass.scratch.Take(projected.shape()));
  if (!branch.taps) {
    Tensor by_head = d_activated.Reshaped(y.shape());
    WEFT_RETURN_IF_ERROR(kernels::L2NormBackward(pass.stream, y, inverse_norm, scale, dy, by_head));
    return BranchBackward(pass, gradients, branch, x, projected, past, d_activated, accumulate, dx);
  }
  WEFT_ASSIGN_OR_RETURN(Tensor d_projected, pass.scratch.Take(projected.shape()));
  Tensor d_history;
  if (past.gradient.present()) {
    WEFT_ASSIGN_OR_RETURN(d_history, pass.scratch.Take(past.gradient.shape()));
  }
  Tensor d_taps = gradients[*branch.taps];
  WEFT_RETURN_IF_ERROR(kernels::ConvNormBackward(pass.stream, projected, pass.weights[*branch.taps],
                                                 past.history, scale, y, inverse_norm, dy,
                                                 d_activated, d_projected, d_history, d_taps));
  return ProjectionBackward(pass, gradients, branch, x, past, d_history, d_projected, accumulate,
                            dx);
}

absl::Status DeltaMixer::BeforeRecurrence(const Pass& pass, const Tensor& x,
                                          const Histories& histories, Activations& saved) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_RETURN_IF_ERROR(NormedBranchForward(pass, q_, x, histories.q, query_scale(),
                                           saved.q_projected, saved.q, saved.q_inverse_norm));
  WEFT_RETURN_IF_ERROR(NormedBranchForward(pass, k_, x, histories.k, /*scale=*/1.0,
                                           saved.k_projected, saved.k, saved.k_inverse_norm));
  Tensor v = saved.v.Reshaped(x.shape());
  WEFT_RETURN_IF_ERROR(BranchForward(pass, v_, x, histories.v, saved.v_projected, v));

  WEFT_ASSIGN_OR_RETURN(Tensor logits, pass.scratch.Take(saved.beta.shape()));
  WEFT_RETURN_IF_ERROR(beta_.Forward(pass, x, logits));
  return kernels::SigmoidForward(pass.stream, logits, beta_scale(), saved.beta);
}

absl::Status DeltaMixer::AfterRecurrence(const Pass& pass, const Tensor& x, Activations& saved,
                                         const Tensor& residual, Tensor& y) const {
  WEFT_RETURN_IF_ERROR(kernels::RmsNormForward(pass.stream, saved.o, pass.weights[norm_weight_],
                                               norm_epsilon_, saved.normalised, saved.o_rstd));
  Tensor merged = saved.normalised.Reshaped(x.shape());
  if (gate_) {
    WEFT_RETURN_IF_ERROR(gate_->Forward(pass, x, saved.gate_in));
    WEFT_RETURN_IF_ERROR(kernels::SwigluForward(pass.stream, saved.gate_in, merged, saved.gated));
    merged = saved.gated;
  }
  if (output_) return output_->Forward(pass, merged, residual, y);
  return residual.present() ? kernels::Add(pass.stream, residual, merged, y)
                            : kernels::Copy(pass.stream, merged, y);
}

absl::Status DeltaMixer::Forward(const Pass& pass, const Tensor& x, MixerActivations& activations,
                                 const Tensor& residual, Tensor& y) const {
  auto& saved = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(BeforeRecurrence(pass, x, Histories{}, saved));
  Tensor no_final_state;
  WEFT_RETURN_IF_ERROR(kernels::DeltaForward(pass.stream, saved.problem, saved.q, saved.k, saved.v,
                                             saved.beta, Tensor(), saved.o, no_final_state,
                                             saved.recurrence));
  return AfterRecurrence(pass, x, saved, residual, y);
}

absl::Status DeltaMixer::AfterRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                                 const Tensor& x, Activations& saved,
                                                 const Tensor& dy, Tensor& d_o, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_merged, pass.scratch.Take(x.shape()));
  const Tensor normalised = saved.normalised.Reshaped(x.shape());
  if (output_) {
    WEFT_RETURN_IF_ERROR(output_->BackwardButBias(pass, gradients, gate_ ? saved.gated : normalised,
                                                  dy, Accumulate::kNo, d_merged));
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
  Tensor d_norm_weight = gradients[norm_weight_], no_sums;
  return kernels::RmsNormBackward(pass.stream, saved.o, pass.weights[norm_weight_], saved.o_rstd,
                                  d_normalised.Reshaped(saved.o.shape()), d_o, Accumulate::kNo,
                                  d_norm_weight, no_sums);
}

absl::Status DeltaMixer::BeforeRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                                  const Tensor& x, Activations& saved,
                                                  const Histories& histories,
                                                  const Histories& d_histories,
                                                  RecurrenceGradients& d, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  const Accumulate to_gate = gate_ ? Accumulate::kYes : Accumulate::kNo;
  WEFT_RETURN_IF_ERROR(NormedBranchBackward(pass, gradients, q_, x, saved.q_projected,
                                            {histories.q, d_histories.q}, query_scale(), saved.q,
                                            saved.q_inverse_norm, d.q, to_gate, dx));
  WEFT_RETURN_IF_ERROR(NormedBranchBackward(pass, gradients, k_, x, saved.k_projected,
                                            {histories.k, d_histories.k}, /*scale=*/1.0, saved.k,
                                            saved.k_inverse_norm, d.k, Accumulate::kYes, dx));
  WEFT_RETURN_IF_ERROR(BranchBackward(pass, gradients, v_, x, saved.v_projected,
                                      {histories.v, d_histories.v}, d.v.Reshaped(x.shape()),
                                      Accumulate::kYes, dx));

  WEFT_ASSIGN_OR_RETURN(Tensor d_logits, pass.scratch.Take(saved.beta.shape()));
  WEFT_RETURN_IF_ERROR(
      kernels::SigmoidBackward(pass.stream, saved.beta, beta_scale(), d.beta, d_logits));
  return beta_.Backward(pass, gradients, x, d_logits, Accumulate::kYes, dx);
}

absl::Status DeltaMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                  const Tensor& x, MixerActivations& activations, const Tensor& dy,
                                  Tensor& dx) const {
  return Backward(pass, gradients, x, static_cast<Activations&>(activations), {}, {}, dy, dx);
}

absl::Status DeltaMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                  const Tensor& x, Activations& saved, const Boundary& before,
                                  const Boundary& gradient, const Tensor& dy, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(saved.o.shape()));
  RecurrenceGradients d;
  WEFT_ASSIGN_OR_RETURN(d.q, pass.scratch.Take(saved.q.shape()));
  WEFT_ASSIGN_OR_RETURN(d.k, pass.scratch.Take(saved.k.shape()));
  WEFT_ASSIGN_OR_RETURN(d.v, pass.scratch.Take(saved.v.shape()));
  WEFT_ASSIGN_OR_RETURN(d.beta, pass.scratch.Take(saved.beta.shape(), saved.beta.dtype()));
  WEFT_RETURN_IF_ERROR(AfterRecurrenceBackward(pass, gradients, x, saved, dy, d_o, dx));
  Tensor d_state = gradient.empty() ? Tensor() : gradient.front();
  WEFT_RETURN_IF_ERROR(kernels::DeltaBackward(pass.stream, saved.problem, saved.q, saved.k,
                                              saved.beta, saved.recurrence, d_o, d_state, d.q, d.k,
                                              d.v, d.beta, d_state));
  return BeforeRecurrenceBackward(pass, gradients, x, saved, HistoriesOf(before),
                                  HistoriesOf(gradient), d, dx);
}

absl::Status DeltaMixer::SupportsSlices(int64_t /*slice_length*/) const { return absl::OkStatus(); }

std::vector<BoundaryPart> DeltaMixer::BoundaryParts() const {
  std::vector<BoundaryPart> parts = {{.shape = {1, config_.heads, head_dim_, head_dim_}}};
  if (config_.convolution_taps > 1) {
    parts.resize(4, {.shape = {1, config_.convolution_taps - 1, width_}, .is_sum = false});
  }
  return parts;
}

DeltaMixer::Histories DeltaMixer::HistoriesOf(const Boundary& boundary) const {
  if (boundary.size() < 4) return {};
  return {.q = boundary[1], .k = boundary[2], .v = boundary[3]};
}

absl::Status DeltaMixer::ForwardSlice(const Pass& pass, const Tensor& x, SliceStep step,
                                      Boundary& boundary, MixerActivations& activations,
                                      const Tensor& residual, Tensor& y) const {
  if (step == SliceStep::kUndo) return absl::UnimplementedError("delta cannot undo a slice");
  auto& saved = static_cast<Activations&>(activations);
  Histories histories = HistoriesOf(boundary);
  WEFT_RETURN_IF_ERROR(BeforeRecurrence(pass, x, histories, saved));
  const bool advances = step == SliceStep::kAdvance;
  Tensor final_state = advances ? boundary.front() : Tensor();
  kernels::DeltaSaved nothing;
  WEFT_RETURN_IF_ERROR(kernels::DeltaForward(pass.stream, saved.problem, saved.q, saved.k, saved.v,
                                             saved.beta, boundary.front(), saved.o, final_state,
                                             advances ? nothing : saved.recurrence));
  if (advances && histories.q.present()) {
    WEFT_RETURN_IF_ERROR(AdvanceHistory(pass.stream, saved.q_projected, histories.q));
    WEFT_RETURN_IF_ERROR(AdvanceHistory(pass.stream, saved.k_projected, histories.k));
    WEFT_RETURN_IF_ERROR(AdvanceHistory(pass.stream, saved.v_projected, histories.v));
  }
  return AfterRecurrence(pass, x, saved, residual, y);
}

absl::Status DeltaMixer::BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                       const Tensor& x, const Boundary& before,
                                       MixerActivations& activations, const Tensor& dy,
                                       Boundary& gradient, Tensor& dx) const {
  return Backward(pass, gradients, x, static_cast<Activations&>(activations), before, gradient, dy,
                  dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> DeltaMixer::NewState(Device& device,
                                                                 int64_t /*max_tokens*/) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<State>();
  WEFT_RETURN_IF_ERROR(Allocate(device, {.batch = 1, .tokens = 1}, state->step));
  WEFT_ASSIGN_OR_RETURN(state->memory, NewTensor(device, device.sum_dtype(),
                                                 {1, config_.heads, head_dim_, head_dim_}));
  if (config_.convolution_taps > 1) {
    for (Tensor* tensor : {&state->histories.q, &state->histories.k, &state->histories.v}) {
      WEFT_ASSIGN_OR_RETURN(*tensor,
                            NewTensor(device, dtype, {1, config_.convolution_taps - 1, width_}));
    }
  }
  return state;
}

absl::Status DeltaMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                const Tensor& residual, Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  Activations& step = state.step;
  WEFT_RETURN_IF_ERROR(BeforeRecurrence(pass, x, state.histories, step));
  WEFT_RETURN_IF_ERROR(kernels::DeltaForward(pass.stream, step.problem, step.q, step.k, step.v,
                                             step.beta, state.memory, step.o, state.memory,
                                             step.recurrence));
  for (const auto& [inputs, history] : {std::pair(&step.q_projected, &state.histories.q),
                                        std::pair(&step.k_projected, &state.histories.k),
                                        std::pair(&step.v_projected, &state.histories.v)}) {
    if (!history->present()) continue;
    WEFT_RETURN_IF_ERROR(AdvanceHistory(pass.stream, *inputs, *history));
  }
  return AfterRecurrence(pass, x, step, residual, y);
}

}  // namespace weft::worker

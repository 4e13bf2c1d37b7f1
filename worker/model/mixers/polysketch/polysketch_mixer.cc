#include "worker/model/mixers/polysketch/polysketch_mixer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::PolysketchGradients;
using kernels::PolysketchInputs;
using kernels::PolysketchProblem;
using kernels::PolysketchSaved;
using kernels::PolysketchState;
using kernels::PolysketchWeights;
using kernels::Tensor;

// B batch, T tokens, H heads, D head width, r sketch size.
struct PolysketchMixer::Activations final : MixerActivations {
  PolysketchProblem problem;
  Side q, k;
  Tensor v;  // [B, T, H, D]
  Tensor o;  // [B, T, H, D]
  PolysketchSaved saved;
};

struct PolysketchMixer::State final : MixerState {
  int64_t max_tokens = 0;
  int64_t tokens = 0;
  // Keys that are not in `past`: those of the unfinished block; all without sketches, one at a time
  // without powers. Their norms and features lie in rows [0, pending).
  int64_t pending = 0;
  Side q;           // of one token
  Side k;           // of the newest token; normed and phi are rows of `keys` and `features`
  Tensor keys;      // [1, room, H, D]
  Tensor features;  // [1, room, H, r]
  Tensor values;    // [1, room, H, D]
  PolysketchState past;
  Tensor o;  // [1, 1, H, D]
};

PolysketchMixer::PolysketchMixer(const PolysketchMixerConfig& config, const MixerPlace& place,
                                 absl::string_view prefix, ParameterLayout& layout)
    : config_(config), causal_(place.causal), projections_(HeadsOf(config), place, prefix, layout) {
  const int64_t width = projections_.head_width();
  const auto add_norm = [&](std::optional<const Norm>& norm, absl::string_view name) {
    norm.emplace(NormKind::kLayer, absl::StrCat(prefix, name), width, place.norm_epsilon, layout);
  };
  if (config_.norm == PolysketchNorm::kShared) add_norm(q_norm_, ".norm");
  if (config_.norm == PolysketchNorm::kSeparate) {
    add_norm(q_norm_, ".q_norm");
    add_norm(k_norm_, ".k_norm");
  }
  if (config_.mode != PolysketchMode::kPolynomial) {
    sketch_.emplace(config_, place, width, absl::StrCat(prefix, ".sketch"), layout);
  }
}

int64_t PolysketchMixer::MatmulFlopsPerToken() const {
  const int64_t sketch = sketch_ ? 2 * projections_.heads() * sketch_->FlopsPerRow() : 0;
  return projections_.MatmulFlopsPerToken() + sketch;
}

PolysketchProblem PolysketchMixer::Problem(int64_t batch, int64_t queries, int64_t keys) const {
  const PolysketchWeights weights = !sketch_                ? PolysketchWeights::kExact
                                    : IsMixed(config_.mode) ? PolysketchWeights::kMixed
                                                            : PolysketchWeights::kSketched;
  const int64_t width = projections_.head_width();
  const double kappa = HasPowers(config_.mode) ? static_cast<double>(width) : 1.0;
  return {.weights = weights,
          .batch = batch,
          .queries = queries,
          .keys = keys,
          .heads = projections_.heads(),
          .head_dim = width,
          .sketch_dim = sketch_ ? config_.sketch_size : 0,
          .degree = config_.degree,
          .block = config_.block,
          .causal = causal_,
          .c0 = config_.c0,
          .kappa = config_.kappa == 0.0 ? kappa : config_.kappa};
}

absl::Status PolysketchMixer::Supports(const Device& device, PassShape shape) const {
  if (sketch_) WEFT_RETURN_IF_ERROR(sketch_->Supports(device));
  return kernels::Supports(device, Problem(shape.batch, shape.tokens, shape.tokens));
}

absl::Status PolysketchMixer::Allocate(Device& device, Side& side) const {
  const kernels::DType dtype = device.compute_dtype();
  const kernels::Shape& shape = side.raw.shape();
  side.normed = side.raw;
  if (q_norm_) {
    WEFT_ASSIGN_OR_RETURN(side.normed, NewTensor(device, dtype, shape));
    WEFT_ASSIGN_OR_RETURN(side.statistics, q_norm_->NewStatistics(device, shape.rows()));
  }
  if (sketch_) {
    WEFT_ASSIGN_OR_RETURN(
        side.phi,
        NewTensor(device, dtype, {shape.dim(0), shape.dim(1), shape.dim(2), config_.sketch_size}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MixerActivations>> PolysketchMixer::NewActivations(
    Device& device, PassShape shape) const {
  auto a = std::make_unique<Activations>();
  a->problem = Problem(shape.batch, shape.tokens, shape.tokens);
  WEFT_ASSIGN_OR_RETURN(const Heads heads, projections_.NewHeads(device, shape));
  a->q.raw = heads.q;
  a->k.raw = heads.k;
  a->v = heads.v;
  for (Side* side : {&a->q, &a->k}) {
    WEFT_RETURN_IF_ERROR(Allocate(device, *side));
    if (!sketch_) continue;
    WEFT_ASSIGN_OR_RETURN(side->sketch, sketch_->NewSaved(device, side->raw.shape().rows()));
  }
  WEFT_ASSIGN_OR_RETURN(a->o, NewTensor(device, device.compute_dtype(), a->v.shape()));
  WEFT_ASSIGN_OR_RETURN(a->saved, kernels::NewPolysketchSaved(device, a->problem));
  return a;
}

// ---- Forward and backward

absl::Status PolysketchMixer::Prepare(const Pass& pass, const Norm* norm, Side& side) const {
  if (norm != nullptr) {
    WEFT_RETURN_IF_ERROR(norm->Forward(pass, side.raw, side.statistics, side.normed));
  }
  if (!sketch_) return absl::OkStatus();
  return sketch_->Forward(pass, learned() ? side.raw : side.normed, side.phi, side.sketch);
}

absl::Status PolysketchMixer::PrepareBackward(const Pass& pass, const ParameterBlock& gradients,
                                              const Norm* norm, const Side& side, Side& d) const {
  // Without powers the kernel gave no gradient of the normed side.
  const Accumulate after_kernel = HasPowers(config_.mode) ? Accumulate::kYes : Accumulate::kNo;
  if (sketch_ && !learned()) {
    WEFT_RETURN_IF_ERROR(sketch_->Backward(pass, gradients, side.normed, side.phi, side.sketch,
                                           d.phi, after_kernel, d.normed));
  }
  if (norm != nullptr) {
    WEFT_RETURN_IF_ERROR(norm->Backward(pass, gradients, side.raw, side.statistics, d.normed,
                                        Accumulate::kNo, d.raw));
  }
  if (!learned()) return absl::OkStatus();
  return sketch_->Backward(pass, gradients, side.raw, side.phi, side.sketch, d.phi, after_kernel,
                           d.raw);
}

PolysketchInputs PolysketchMixer::Inputs(const Side& q, const Side& k, const Tensor& v) const {
  PolysketchInputs inputs{.q = {}, .k = {}, .phi_q = q.phi, .phi_k = k.phi, .v = v, .valid = {}};
  if (HasPowers(config_.mode)) {
    inputs.q = q.normed;
    inputs.k = k.normed;
  }
  return inputs;
}

absl::Status PolysketchMixer::Prepare(const Pass& pass, const Tensor& x, Activations& a) const {
  Heads heads{.q = a.q.raw, .k = a.k.raw, .v = a.v};
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, pass.first_position, heads));
  WEFT_RETURN_IF_ERROR(Prepare(pass, q_norm(), a.q));
  return Prepare(pass, k_norm(), a.k);
}

absl::Status PolysketchMixer::Forward(const Pass& pass, const Tensor& x,
                                      MixerActivations& activations, const Tensor& residual,
                                      Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_RETURN_IF_ERROR(Prepare(pass, x, a));
  PolysketchInputs inputs = Inputs(a.q, a.k, a.v);
  inputs.valid = pass.valid;
  PolysketchState unwanted;
  WEFT_RETURN_IF_ERROR(kernels::PolysketchForward(pass.stream, a.problem, inputs, /*initial=*/{},
                                                  a.o, unwanted, a.saved));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status PolysketchMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                       const Tensor& x, MixerActivations& activations,
                                       const Tensor& dy, Tensor& dx) const {
  return Backward(pass, gradients, x, /*before=*/{}, static_cast<const Activations&>(activations),
                  dy, /*gradient=*/{}, dx);
}

absl::Status PolysketchMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                       const Tensor& x, const PolysketchState& before,
                                       const Activations& a, const Tensor& dy,
                                       PolysketchState gradient, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(a.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Heads d, projections_.TakeHeads(pass, {x.dim(0), x.dim(1)}));
  Side d_q{.raw = d.q, .normed = d.q, .statistics = {}, .phi = {}, .sketch = {}};
  Side d_k{.raw = d.k, .normed = d.k, .statistics = {}, .phi = {}, .sketch = {}};
  if (sketch_) {
    WEFT_ASSIGN_OR_RETURN(d_q.phi, pass.scratch.Take(a.q.phi.shape()));
    WEFT_ASSIGN_OR_RETURN(d_k.phi, pass.scratch.Take(a.k.phi.shape()));
  }
  WEFT_RETURN_IF_ERROR(projections_.MergeBackward(pass, gradients, a.o, dy, d_o));
  PolysketchInputs inputs = Inputs(a.q, a.k, a.v);
  inputs.valid = pass.valid;
  PolysketchGradients slopes{.q = {}, .k = {}, .phi_q = d_q.phi, .phi_k = d_k.phi, .v = d.v};
  if (HasPowers(config_.mode)) {
    slopes.q = d_q.normed;
    slopes.k = d_k.normed;
  }
  WEFT_RETURN_IF_ERROR(kernels::PolysketchBackward(pass.stream, a.problem, inputs, before, a.o,
                                                   a.saved, d_o, gradient, slopes, gradient));
  WEFT_RETURN_IF_ERROR(PrepareBackward(pass, gradients, q_norm(), a.q, d_q));
  WEFT_RETURN_IF_ERROR(PrepareBackward(pass, gradients, k_norm(), a.k, d_k));
  return projections_.ProjectBackward(pass, gradients, x, pass.first_position, d, dx);
}

// ---- Slices

absl::Status PolysketchMixer::SupportsSlices(int64_t /*slice_length*/) const {
  if (!causal_)
    return absl::UnimplementedError("every token sees every other: slices have no order");
  if (!sketch_) {
    return absl::UnimplementedError(
        "it computes the power of every pair: its past is no state of fixed size");
  }
  if (IsMixed(config_.mode)) {
    return absl::UnimplementedError(
        "the pairs of a block are computed one by one: between slices, its past is more than a "
        "state of fixed size");
  }
  return absl::OkStatus();
}

std::vector<BoundaryPart> PolysketchMixer::BoundaryParts() const {
  const int64_t heads = projections_.heads();
  const int64_t size = config_.sketch_size;
  return {{.shape = {1, heads, kernels::SelfProducts(size), projections_.head_width()}},
          {.shape = {1, heads, size, size}}};
}

absl::Status PolysketchMixer::ForwardSlice(const Pass& pass, const Tensor& x, SliceStep step,
                                           Boundary& boundary, MixerActivations& activations,
                                           const Tensor& residual, Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  PolysketchState state{.values = boundary[0], .mass = boundary[1]};
  WEFT_RETURN_IF_ERROR(Prepare(pass, x, a));
  PolysketchInputs inputs = Inputs(a.q, a.k, a.v);
  inputs.valid = pass.valid;
  if (step == SliceStep::kUndo) {
    WEFT_RETURN_IF_ERROR(kernels::PolysketchUndo(pass.stream, a.problem, inputs, state));
  }
  const bool advances = step == SliceStep::kAdvance;
  PolysketchState after = advances ? state : PolysketchState();
  PolysketchSaved nothing;
  WEFT_RETURN_IF_ERROR(kernels::PolysketchForward(pass.stream, a.problem, inputs, state, a.o, after,
                                                  advances ? nothing : a.saved));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status PolysketchMixer::BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                            const Tensor& x, const Boundary& before,
                                            MixerActivations& activations, const Tensor& dy,
                                            Boundary& gradient, Tensor& dx) const {
  return Backward(pass, gradients, x, {.values = before[0], .mass = before[1]},
                  static_cast<const Activations&>(activations), dy,
                  {.values = gradient[0], .mass = gradient[1]}, dx);
}

// ---- Decoding

absl::StatusOr<std::unique_ptr<MixerState>> PolysketchMixer::NewState(Device& device,
                                                                      int64_t max_tokens) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<State>();
  state->max_tokens = max_tokens;
  const int64_t room = !sketch_                ? max_tokens
                       : IsMixed(config_.mode) ? std::min(config_.block, max_tokens)
                                               : 1;
  const int64_t heads = projections_.heads();
  const int64_t width = projections_.head_width();
  for (Tensor* tensor : {&state->keys, &state->values}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {1, room, heads, width}));
  }
  WEFT_ASSIGN_OR_RETURN(state->q.raw, NewTensor(device, dtype, {1, 1, heads, width}));
  WEFT_ASSIGN_OR_RETURN(state->k.raw, NewTensor(device, dtype, {1, 1, heads, width}));
  WEFT_RETURN_IF_ERROR(Allocate(device, state->q));
  WEFT_RETURN_IF_ERROR(Allocate(device, state->k));
  WEFT_ASSIGN_OR_RETURN(state->o, NewTensor(device, dtype, {1, 1, heads, width}));
  if (!sketch_) return state;
  WEFT_ASSIGN_OR_RETURN(state->features,
                        NewTensor(device, dtype, {1, room, heads, config_.sketch_size}));
  WEFT_ASSIGN_OR_RETURN(state->past, kernels::NewPolysketchState(device, Problem(1, 1, 1)));
  return state;
}

absl::Status PolysketchMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                     const Tensor& residual, Tensor& y) const {
  auto& s = static_cast<State&>(mixer_state);
  if (s.tokens == s.max_tokens) {
    return absl::OutOfRangeError(absl::StrCat("the text is longer than the ", s.tokens,
                                              " tokens that its state was made for"));
  }
  const auto row = [&](const Tensor& all) {
    const kernels::Shape one = {1, 1, all.dim(2), all.dim(3)};
    return all.Part(s.pending * one.count(), one);
  };
  Heads heads{.q = s.q.raw, .k = s.k.raw, .v = row(s.values)};
  if (q_norm_) {
    s.k.normed = row(s.keys);
  } else {
    heads.k = s.k.raw = s.k.normed = row(s.keys);
  }
  if (sketch_) s.k.phi = row(s.features);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, s.tokens, heads));
  WEFT_RETURN_IF_ERROR(Prepare(pass, q_norm(), s.q));
  WEFT_RETURN_IF_ERROR(Prepare(pass, k_norm(), s.k));
  ++s.tokens;
  ++s.pending;

  const auto seen = [&](const Tensor& all) {
    return all.Part(0, {1, s.pending, all.dim(2), all.dim(3)});
  };
  Side keys;
  keys.normed = seen(s.keys);
  if (sketch_) keys.phi = seen(s.features);
  const PolysketchProblem problem = Problem(/*batch=*/1, /*queries=*/1, s.pending);
  PolysketchSaved unsaved;
  WEFT_RETURN_IF_ERROR(kernels::PolysketchForward(
      pass.stream, problem, Inputs(s.q, keys, seen(s.values)), s.past, s.o, s.past, unsaved));
  const bool folded = problem.weights == PolysketchWeights::kSketched ||
                      (problem.weights == PolysketchWeights::kMixed && s.pending == config_.block);
  if (folded) s.pending = 0;
  return projections_.Merge(pass, s.o, residual, y);
}

}  // namespace weft::worker

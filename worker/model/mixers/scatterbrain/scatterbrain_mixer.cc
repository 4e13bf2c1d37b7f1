#include "worker/model/mixers/scatterbrain/scatterbrain_mixer.h"

#include <algorithm>
#include <cmath>

#include "common/base/status_macros.h"
#include "worker/model/mixers/attention_draws.h"

namespace weft::worker {

using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

// B batch, T tokens, H heads, D head width.
struct ScatterbrainMixer::Activations final : MixerActivations {
  kernels::ScatterbrainProblem problem;
  Heads heads;
  kernels::HashBucketTensors buckets;  // absent without a hash support
  Tensor o;                            // [B, T, H, D]
  kernels::ScatterbrainSaved saved;
};

struct ScatterbrainMixer::State final : MixerState {
  kernels::ScatterbrainProblem problem;  // of the longest text
  Heads heads;                           // of one token
  Tensor o;                              // [1, 1, H, D]
  kernels::ScatterbrainState memory;
};

namespace {

// The random blocks of a layer are the same in every job, so that a text may be decoded without
// knowing how the weights came about.
constexpr uint64_t kLayoutSeed = 0;

ParameterIndex AddFeatures(const ScatterbrainMixerConfig& config, int64_t features, int64_t layer,
                           int64_t width, absl::string_view prefix, ParameterLayout& layout) {
  const int64_t rows = config.hyperbolic ? features / 2 : features;
  return layout.AddConstant(
      absl::StrCat(prefix, ".features"), {rows, width},
      [layer, kind = config.rows, rows, width](uint64_t seed, absl::Span<double> into) {
        const std::vector<double> matrix =
            kernels::FeatureMatrix(seed, static_cast<uint32_t>(layer), kind, rows, width);
        std::copy(matrix.begin(), matrix.end(), into.begin());
      });
}

}  // namespace

ScatterbrainMixer::ScatterbrainMixer(const ScatterbrainMixerConfig& config, const MixerPlace& place,
                                     absl::string_view prefix, ParameterLayout& layout)
    : config_(config),
      causal_(place.causal),
      layer_(place.layer),
      dropout_(place.attention_dropout),
      feature_count_(FeaturesOf(config, place)),
      projections_(HeadsOf(config), place, prefix, layout),
      features_(
          AddFeatures(config, feature_count_, layer_, projections_.head_width(), prefix, layout)) {}

int64_t ScatterbrainMixer::MatmulFlopsPerToken() const {
  return projections_.MatmulFlopsPerToken();
}

absl::StatusOr<kernels::ScatterbrainProblem> ScatterbrainMixer::Problem(PassShape shape) const {
  const int64_t width = projections_.head_width();
  kernels::ScatterbrainProblem problem{.batch = shape.batch,
                                       .queries = shape.tokens,
                                       .keys = shape.tokens,
                                       .heads = projections_.heads(),
                                       .key_dim = width,
                                       .value_dim = width,
                                       .scale = 1.0 / std::sqrt(static_cast<double>(width)),
                                       .causal = causal_,
                                       .features = feature_count_,
                                       .hyperbolic = config_.hyperbolic,
                                       .epsilon = config_.feature_epsilon,
                                       .dropped = config_.dropped};
  if (const auto* window = std::get_if<ScatterbrainWindow>(&config_.support)) {
    problem.support = kernels::WindowSupport{window->width};
  } else if (const auto* hash = std::get_if<ScatterbrainHash>(&config_.support)) {
    problem.support = kernels::HashSupport{hash->rounds, hash->bucket, hash->bucket};
  } else if (const auto* blocks = std::get_if<kernels::BlockPattern>(&config_.support)) {
    const kernels::DrawSite site = {.tag = kernels::RandomTag::kHashProjections,
                                    .layer = static_cast<uint32_t>(layer_)};
    kernels::BlockSupport support;
    WEFT_ASSIGN_OR_RETURN(
        support.layout,
        kernels::NewBlockLayout(*blocks, shape.tokens, shape.tokens, causal_, kLayoutSeed, site));
    problem.support = support;
  }
  return problem;
}

absl::Status ScatterbrainMixer::Supports(const Device& device, PassShape shape) const {
  WEFT_ASSIGN_OR_RETURN(const kernels::ScatterbrainProblem problem, Problem(shape));
  return kernels::Supports(device, problem);
}

absl::StatusOr<std::unique_ptr<MixerActivations>> ScatterbrainMixer::NewActivations(
    Device& device, PassShape shape) const {
  auto a = std::make_unique<Activations>();
  WEFT_ASSIGN_OR_RETURN(a->problem, Problem(shape));
  WEFT_ASSIGN_OR_RETURN(a->heads, projections_.NewHeads(device, shape));
  WEFT_ASSIGN_OR_RETURN(a->o, NewTensor(device, device.compute_dtype(), a->heads.q.shape()));
  WEFT_ASSIGN_OR_RETURN(a->saved, kernels::NewScatterbrainSaved(device, a->problem));
  if (std::holds_alternative<kernels::HashSupport>(a->problem.support)) {
    WEFT_ASSIGN_OR_RETURN(a->buckets, kernels::NewHashBuckets(device, a->problem));
  }
  return a;
}

// All sequences of a step share the projections, however the batch is cut.
absl::Status ScatterbrainMixer::Hash(const Pass& pass, Activations& a) const {
  const auto* hash = std::get_if<kernels::HashSupport>(&a.problem.support);
  if (hash == nullptr) return absl::OkStatus();
  const kernels::DrawSite site = {.tag = pass.draws.training ? kernels::RandomTag::kHashProjections
                                                             : kernels::RandomTag::kEvaluation,
                                  .step = static_cast<uint32_t>(pass.draws.step),
                                  .layer = static_cast<uint32_t>(layer_)};
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor projections, pass.scratch.Take({hash->rounds, a.problem.key_dim + 2},
                                                              pass.stream.device().sum_dtype()));
  WEFT_RETURN_IF_ERROR(
      kernels::DrawHashProjections(pass.stream, a.problem, pass.draws.seed, site, projections));
  return kernels::HashBuckets(pass.stream, a.problem, a.heads.q, a.heads.k, projections, pass.valid,
                              a.buckets);
}

kernels::ScatterbrainOperands ScatterbrainMixer::Operands(const Pass& pass,
                                                          const Activations& a) const {
  return {.q = a.heads.q,
          .k = a.heads.k,
          .v = a.heads.v,
          .w = pass.weights[features_],
          .valid = pass.valid,
          .buckets = a.buckets};
}

absl::Status ScatterbrainMixer::Forward(const Pass& pass, const Tensor& x,
                                        MixerActivations& activations, const Tensor& residual,
                                        Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  a.problem.dropout = DropoutIn(pass, dropout_, layer_);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, /*first_position=*/0, a.heads));
  WEFT_RETURN_IF_ERROR(Hash(pass, a));
  WEFT_RETURN_IF_ERROR(
      kernels::ScatterbrainForward(pass.stream, a.problem, Operands(pass, a), a.o, a.saved));
  return projections_.Merge(pass, a.o, residual, y);
}

absl::Status ScatterbrainMixer::Backward(const Pass& pass, const ParameterBlock& gradients,
                                         const Tensor& x, MixerActivations& activations,
                                         const Tensor& dy, Tensor& dx) const {
  const auto& a = static_cast<const Activations&>(activations);
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(a.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Heads d, projections_.TakeHeads(pass, {x.dim(0), x.dim(1)}));
  WEFT_RETURN_IF_ERROR(projections_.MergeBackward(pass, gradients, a.o, dy, d_o));
  WEFT_RETURN_IF_ERROR(kernels::ScatterbrainBackward(pass.stream, a.problem, Operands(pass, a), a.o,
                                                     a.saved, d_o, d.q, d.k, d.v));
  return projections_.ProjectBackward(pass, gradients, x, /*first_position=*/0, d, dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> ScatterbrainMixer::NewState(Device& device,
                                                                        int64_t max_tokens) const {
  const PassShape one_token = {.batch = 1, .tokens = 1};
  auto state = std::make_unique<State>();
  WEFT_ASSIGN_OR_RETURN(state->problem, Problem({.batch = 1, .tokens = max_tokens}));
  WEFT_ASSIGN_OR_RETURN(state->memory, kernels::NewScatterbrainState(device, state->problem));
  WEFT_ASSIGN_OR_RETURN(state->heads, projections_.NewHeads(device, one_token));
  WEFT_ASSIGN_OR_RETURN(state->o,
                        NewTensor(device, device.compute_dtype(), state->heads.q.shape()));
  return state;
}

absl::Status ScatterbrainMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                                       const Tensor& residual, Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, state.memory.tokens, state.heads));
  WEFT_RETURN_IF_ERROR(kernels::ScatterbrainDecode(pass.stream, state.problem, state.heads.q,
                                                   state.heads.k, state.heads.v,
                                                   pass.weights[features_], state.memory, state.o));
  return projections_.Merge(pass, state.o, residual, y);
}

}  // namespace weft::worker

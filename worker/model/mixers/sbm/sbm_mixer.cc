#include "worker/model/mixers/sbm/sbm_mixer.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/model/mixers/attention_draws.h"
#include "worker/model/mixers/key_value_cache.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::SbmClusterModel;
using kernels::SbmMemberships;
using kernels::SbmProblem;
using kernels::Shape;
using kernels::Tensor;

// B batch, T tokens, H heads, D head width, K clusters.
struct SbmMixer::Activations final : MixerActivations {
  SbmProblem problem;
  kernels::SbmSaved saved;  // q and k rotated
};

struct SbmMixer::State final : MixerState {
  KeyValueCache cache;
  Tensor q, o;                 // [1, 1, H, D]
  Tensor lse;                  // [1, H, 1]
  SbmMemberships memberships;  // of one query and of as many keys as there is room for
  kernels::SbmGraph graph;     // likewise
};

SbmMixer::Indexes SbmMixer::AddClusterModel(const SbmMixerConfig& config, int64_t width,
                                            absl::string_view prefix, ParameterLayout& layout) {
  const Initialisation linear = TorchInitialisation(width);
  // He's rule, which takes the clusters and channels of a head for its inputs.
  const double deviation = std::sqrt(2.0 / static_cast<double>(config.clusters * width));
  return {
      .w1 = layout.AddWeight(absl::StrCat(prefix, ".map.hidden.weight"), {width, width}, linear),
      .b1 = layout.AddBias(absl::StrCat(prefix, ".map.hidden.bias"), width, linear),
      .w2 = layout.AddWeight(absl::StrCat(prefix, ".map.output.weight"), {width, width}, linear),
      .b2 = layout.AddBias(absl::StrCat(prefix, ".map.output.bias"), width, linear),
      .clusters = layout.AddWeight(absl::StrCat(prefix, ".clusters"),
                                   {config.heads, config.clusters, width},
                                   {.kind = Initialisation::Kind::kNormal, .scale = deviation})};
}

SbmMixer::SbmMixer(const SbmMixerConfig& config, const MixerPlace& place, absl::string_view prefix,
                   ParameterLayout& layout)
    : config_(config),
      causal_(place.causal),
      layer_(place.layer),
      dropout_(place.attention_dropout),
      density_weight_(config.density_weight / static_cast<double>(place.layers)),
      projections_(HeadsOf(config), place, prefix, layout),
      parameters_(AddClusterModel(config, projections_.head_width(), prefix, layout)) {}

int64_t SbmMixer::MatmulFlopsPerToken() const {
  const int64_t width = projections_.head_width();
  const int64_t membership = 2 * (2 * width * width + width * config_.clusters);
  return projections_.MatmulFlopsPerToken() + 2 * projections_.heads() * membership;
}

SbmProblem SbmMixer::Problem(int64_t batch, int64_t queries, int64_t keys) const {
  const int64_t width = projections_.head_width();
  return {.batch = batch,
          .queries = queries,
          .keys = keys,
          .heads = projections_.heads(),
          .head_dim = width,
          .clusters = config_.clusters,
          .scale = 1.0 / std::sqrt(static_cast<double>(width)),
          .causal = causal_,
          .sampler = config_.sampler,
          .exploration = config_.exploration,
          .straight_through = config_.straight_through,
          .clip = config_.clip};
}

SbmClusterModel SbmMixer::ClusterModel(const ParameterBlock& block) const {
  return {.w1 = block[parameters_.w1],
          .w2 = block[parameters_.w2],
          .b1 = block[parameters_.b1],
          .b2 = block[parameters_.b2],
          .clusters = block[parameters_.clusters]};
}

kernels::SbmDraws SbmMixer::Draws(const Pass& pass) const {
  return {.seed = pass.draws.seed,
          .step = static_cast<uint32_t>(pass.draws.step),
          .layer = static_cast<uint32_t>(layer_),
          .first_sequence = pass.draws.first_sequence,
          .training = pass.draws.training};
}

absl::Status SbmMixer::Supports(const Device& device, PassShape shape) const {
  return kernels::Supports(device, Problem(shape.batch, shape.tokens, shape.tokens));
}

absl::StatusOr<std::unique_ptr<MixerActivations>> SbmMixer::NewActivations(Device& device,
                                                                           PassShape shape) const {
  const kernels::DType dtype = device.compute_dtype();
  const kernels::DType sums = device.sum_dtype();
  const auto [batch, tokens] = shape;
  const int64_t heads = projections_.heads();
  auto a = std::make_unique<Activations>();
  a->problem = Problem(batch, tokens, tokens);
  WEFT_ASSIGN_OR_RETURN(const Heads projected, projections_.NewHeads(device, shape));
  a->saved.q = projected.q;
  a->saved.k = projected.k;
  a->saved.v = projected.v;
  WEFT_ASSIGN_OR_RETURN(a->saved.o, NewTensor(device, dtype, projected.q.shape()));
  WEFT_ASSIGN_OR_RETURN(a->saved.lse, NewTensor(device, sums, {batch, heads, tokens}));
  for (Tensor* side : {&a->saved.memberships.query, &a->saved.memberships.key}) {
    WEFT_ASSIGN_OR_RETURN(*side, NewTensor(device, sums, {batch, heads, tokens, config_.clusters}));
  }
  WEFT_ASSIGN_OR_RETURN(a->saved.memberships.affinity,
                        NewTensor(device, sums, {heads, config_.clusters, config_.clusters}));
  WEFT_ASSIGN_OR_RETURN(a->saved.graph, kernels::NewSbmGraph(device, a->problem));
  return a;
}

absl::Status SbmMixer::Forward(const Pass& pass, const Tensor& x, MixerActivations& activations,
                               const Tensor& residual, Tensor& y) const {
  auto& a = static_cast<Activations&>(activations);
  kernels::SbmSaved& s = a.saved;
  a.problem.dropout = DropoutIn(pass, dropout_, layer_);
  a.problem.density_gradient =
      density_weight_ / static_cast<double>(a.problem.heads * pass.step_sequences);
  s.valid = pass.valid;
  Heads heads{.q = s.q, .k = s.k, .v = s.v};
  WEFT_RETURN_IF_ERROR(projections_.Project(pass, x, /*first_position=*/0, heads));
  const SbmClusterModel model = ClusterModel(pass.weights);
  WEFT_RETURN_IF_ERROR(kernels::SbmMembershipForward(pass.stream, s.q, model, s.memberships.query));
  WEFT_RETURN_IF_ERROR(kernels::SbmMembershipForward(pass.stream, s.k, model, s.memberships.key));
  WEFT_RETURN_IF_ERROR(
      kernels::SbmAffinityForward(pass.stream, model.clusters, s.memberships.affinity));
  WEFT_RETURN_IF_ERROR(kernels::SbmSampleGraph(pass.stream, a.problem, Draws(pass), s.memberships,
                                               s.valid, s.graph));
  if (pass.metrics != nullptr) {
    pass.metrics->Add({.name = std::string(kGraphDensity), .layer = layer_}, s.graph.density,
                      a.problem.density_gradient);
  }
  WEFT_RETURN_IF_ERROR(
      kernels::SbmForward(pass.stream, a.problem, s.q, s.k, s.v, s.graph, s.o, s.lse));
  return projections_.Merge(pass, s.o, residual, y);
}

absl::Status SbmMixer::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                                MixerActivations& activations, const Tensor& dy, Tensor& dx) const {
  const auto& a = static_cast<const Activations&>(activations);
  const kernels::SbmSaved& s = a.saved;
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_o, pass.scratch.Take(s.o.shape()));
  WEFT_ASSIGN_OR_RETURN(Heads d, projections_.TakeHeads(pass, {x.dim(0), x.dim(1)}));
  SbmMemberships d_memberships;
  WEFT_ASSIGN_OR_RETURN(d_memberships.query, pass.scratch.Take(s.memberships.query.shape(),
                                                               s.memberships.query.dtype()));
  WEFT_ASSIGN_OR_RETURN(d_memberships.key,
                        pass.scratch.Take(s.memberships.key.shape(), s.memberships.key.dtype()));
  WEFT_ASSIGN_OR_RETURN(d_memberships.affinity, pass.scratch.Take(s.memberships.affinity.shape(),
                                                                  s.memberships.affinity.dtype()));
  WEFT_RETURN_IF_ERROR(projections_.MergeBackward(pass, gradients, s.o, dy, d_o));
  WEFT_RETURN_IF_ERROR(
      kernels::SbmBackward(pass.stream, a.problem, s, d_o, d.q, d.k, d.v, d_memberships));
  const SbmClusterModel model = ClusterModel(pass.weights);
  SbmClusterModel d_model = ClusterModel(gradients);
  WEFT_RETURN_IF_ERROR(kernels::SbmMembershipBackward(pass.stream, s.q, model, s.memberships.query,
                                                      d_memberships.query, d.q, Accumulate::kYes,
                                                      d_model));
  WEFT_RETURN_IF_ERROR(kernels::SbmMembershipBackward(pass.stream, s.k, model, s.memberships.key,
                                                      d_memberships.key, d.k, Accumulate::kYes,
                                                      d_model));
  WEFT_RETURN_IF_ERROR(kernels::SbmAffinityBackward(pass.stream, model.clusters,
                                                    s.memberships.affinity, d_memberships.affinity,
                                                    d_model.clusters));
  return projections_.ProjectBackward(pass, gradients, x, /*first_position=*/0, d, dx);
}

absl::StatusOr<std::unique_ptr<MixerState>> SbmMixer::NewState(Device& device,
                                                               int64_t max_tokens) const {
  const kernels::DType dtype = device.compute_dtype();
  const kernels::DType sums = device.sum_dtype();
  const int64_t heads = projections_.heads();
  auto state = std::make_unique<State>();
  WEFT_ASSIGN_OR_RETURN(state->cache, KeyValueCache::New(projections_, device, max_tokens));
  for (Tensor* tensor : {&state->q, &state->o}) {
    WEFT_ASSIGN_OR_RETURN(*tensor,
                          NewTensor(device, dtype, {1, 1, heads, projections_.head_width()}));
  }
  WEFT_ASSIGN_OR_RETURN(state->lse, NewTensor(device, sums, {1, heads, 1}));
  WEFT_ASSIGN_OR_RETURN(state->memberships.query,
                        NewTensor(device, sums, {1, heads, 1, config_.clusters}));
  WEFT_ASSIGN_OR_RETURN(state->memberships.key,
                        NewTensor(device, sums, {1, heads, max_tokens, config_.clusters}));
  WEFT_ASSIGN_OR_RETURN(state->memberships.affinity,
                        NewTensor(device, sums, {heads, config_.clusters, config_.clusters}));
  WEFT_ASSIGN_OR_RETURN(
      state->graph, kernels::NewSbmGraph(device, Problem(/*batch=*/1, /*queries=*/1, max_tokens)));
  return state;
}

absl::Status SbmMixer::Decode(const Pass& pass, const Tensor& x, MixerState& mixer_state,
                              const Tensor& residual, Tensor& y) const {
  auto& state = static_cast<State&>(mixer_state);
  WEFT_RETURN_IF_ERROR(state.cache.Append(pass, projections_, x, state.q));
  const int64_t tokens = state.cache.tokens();
  const SbmProblem problem = Problem(/*batch=*/1, /*queries=*/1, tokens);
  const Tensor keys = state.cache.keys();
  const SbmClusterModel model = ClusterModel(pass.weights);
  SbmMemberships memberships = state.memberships;
  memberships.key = state.memberships.key.Part(0, {1, problem.heads, tokens, config_.clusters});
  WEFT_RETURN_IF_ERROR(
      kernels::SbmMembershipForward(pass.stream, state.q, model, memberships.query));
  WEFT_RETURN_IF_ERROR(kernels::SbmMembershipForward(pass.stream, keys, model, memberships.key));
  WEFT_RETURN_IF_ERROR(
      kernels::SbmAffinityForward(pass.stream, model.clusters, memberships.affinity));
  kernels::SbmGraph graph = state.graph;
  graph.bits = graph.bits.Part(0, {1, problem.heads, 1, (tokens + 63) / 64 * 2});
  if (graph.copies.present()) {
    graph.copies = graph.copies.Part(0, {1, problem.heads, 1, (tokens + 3) / 4});
  }
  WEFT_RETURN_IF_ERROR(kernels::SbmSampleGraph(pass.stream, problem, Draws(pass), memberships,
                                               /*valid=*/{}, graph));
  WEFT_RETURN_IF_ERROR(kernels::SbmForward(pass.stream, problem, state.q, keys,
                                           state.cache.values(), graph, state.o, state.lse));
  return projections_.Merge(pass, state.o, residual, y);
}

}  // namespace weft::worker

#include "worker/model/trunk.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

Trunk::Trunk(const ModelConfig& config, ParameterLayout& layout)
    : width_(config.width), mixers_(config.layers), embedding_(config, layout) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    blocks_.push_back(std::make_unique<const Block>(config, i, absl::StrCat("layers.", i), layout));
  }
  end_of_layers_ = layout.block_count();
  if (config.final_norm) {
    final_norm_.emplace(config.norm, "final_norm", width_, config.norm_epsilon, layout);
  }
}

absl::Status Trunk::Supports(const Device& device, PassShape shape) const {
  WEFT_RETURN_IF_ERROR(embedding_.CheckLength(shape.tokens));
  shape.tokens += embedding_.leading_tokens();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    WEFT_RETURN_IF_ERROR(Annotate(blocks_[i]->mixer().Supports(device, shape),
                                  absl::StrCat("layer ", i, " (", NameOf(mixers_[i]), ")")));
  }
  return absl::OkStatus();
}

absl::StatusOr<TrunkActivations> Trunk::NewActivations(Device& device, PassShape shape) const {
  const kernels::DType dtype = device.compute_dtype();
  TrunkActivations a;
  WEFT_ASSIGN_OR_RETURN(a.embedding, embedding_.NewActivations(device, shape.tokens));
  shape.tokens += embedding_.leading_tokens();
  const kernels::Shape stream = {shape.batch, shape.tokens, width_};
  for (const auto& block : blocks_) {
    WEFT_ASSIGN_OR_RETURN(BlockActivations activations, block->NewActivations(device, shape));
    a.blocks.push_back(std::move(activations));
  }
  for (size_t i = 0; i <= blocks_.size(); ++i) {
    WEFT_ASSIGN_OR_RETURN(Tensor residual, NewTensor(device, dtype, stream));
    a.residual.push_back(std::move(residual));
  }
  a.out = a.residual.back();
  if (final_norm_) {
    WEFT_ASSIGN_OR_RETURN(a.out, NewTensor(device, dtype, stream));
    WEFT_ASSIGN_OR_RETURN(a.statistics,
                          final_norm_->NewStatistics(device, shape.batch * shape.tokens));
  }
  WEFT_ASSIGN_OR_RETURN(a.gradient, NewTensor(device, dtype, stream));
  return a;
}

absl::Status Trunk::Forward(const Pass& pass, const Tensor& tokens, BlockForwards blocks,
                            TrunkActivations& a) const {
  WEFT_RETURN_IF_ERROR(embedding_.Forward(pass, tokens, a.embedding, a.residual.front()));
  for (size_t i = 0; i < blocks_.size(); ++i) WEFT_RETURN_IF_ERROR(blocks(i));
  return absl::OkStatus();
}

absl::Status Trunk::FinalNorm(const Pass& pass, TrunkActivations& a) const {
  if (!final_norm_) return absl::OkStatus();
  return final_norm_->Forward(pass, a.residual.back(), a.statistics, a.out);
}

absl::Status Trunk::Forward(const Pass& pass, const Tensor& tokens, TrunkActivations& a) const {
  WEFT_RETURN_IF_ERROR(Forward(
      pass, tokens,
      [&](size_t i) {
        return blocks_[i]->Forward(pass, a.residual[i], a.blocks[i], a.residual[i + 1]);
      },
      a));
  return FinalNorm(pass, a);
}

absl::Status Trunk::Backward(const Pass& pass, const ParameterBlock& gradients,
                             const Tensor& tokens, BlockBackwards blocks, TrunkActivations& a,
                             OnReady on_ready) const {
  if (final_norm_) {
    WEFT_RETURN_IF_ERROR(final_norm_->Backward(pass, gradients, a.residual.back(), a.statistics,
                                               a.gradient, Accumulate::kNo, a.gradient));
  }
  if (end_of_layers_ < gradients.layout().block_count()) on_ready(end_of_layers_);
  for (size_t i = blocks_.size(); i-- > 0;) WEFT_RETURN_IF_ERROR(blocks(i));
  WEFT_RETURN_IF_ERROR(embedding_.Backward(pass, gradients, tokens, a.gradient));
  on_ready(0);
  return absl::OkStatus();
}

absl::Status Trunk::Backward(const Pass& pass, const ParameterBlock& gradients,
                             const Tensor& tokens, TrunkActivations& a, OnReady on_ready) const {
  return Backward(
      pass, gradients, tokens,
      [&](size_t i) {
        return blocks_[i]->Backward(pass, gradients, a.residual[i], a.blocks[i], a.gradient,
                                    on_ready);
      },
      a, on_ready);
}

absl::Status Trunk::SupportsSlices(int64_t slice_length) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const absl::StatusOr<const SlicedMixer*> mixer = blocks_[i]->sliced_mixer();
    const absl::Status status =
        mixer.ok() ? (*mixer)->SupportsSlices(slice_length) : mixer.status();
    WEFT_RETURN_IF_ERROR(
        Annotate(status, absl::StrCat("layer ", i, " (", NameOf(mixers_[i]), ")")));
  }
  return absl::OkStatus();
}

const SlicedMixer& Trunk::sliced_mixer(size_t layer) const {
  const absl::StatusOr<const SlicedMixer*> mixer = blocks_[layer]->sliced_mixer();
  WEFT_CHECK_MSG(mixer.ok(), mixer.status().ToString());
  return **mixer;
}

absl::Status Trunk::ForwardSlice(const Pass& pass, const Tensor& tokens, SliceStep step,
                                 std::vector<Boundary>& boundaries, TrunkActivations& a) const {
  WEFT_RETURN_IF_ERROR(Forward(
      pass, tokens,
      [&](size_t i) {
        const bool replays = step == SliceStep::kUndo && !sliced_mixer(i).CanUndo();
        return blocks_[i]->ForwardSlice(pass, a.residual[i], replays ? SliceStep::kReplay : step,
                                        boundaries[i], a.blocks[i], a.residual[i + 1]);
      },
      a));
  return FinalNorm(pass, a);
}

absl::Status Trunk::BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                  const Tensor& tokens, const std::vector<Boundary>& before,
                                  TrunkActivations& a, std::vector<Boundary>& boundary_gradients,
                                  OnReady on_ready) const {
  return Backward(
      pass, gradients, tokens,
      [&](size_t i) {
        return blocks_[i]->BackwardSlice(pass, gradients, a.residual[i], before[i], a.blocks[i],
                                         boundary_gradients[i], a.gradient, on_ready);
      },
      a, on_ready);
}

absl::StatusOr<TrunkState> Trunk::NewState(Device& device, int64_t max_tokens) const {
  WEFT_RETURN_IF_ERROR(embedding_.CheckLength(max_tokens));
  const kernels::DType dtype = device.compute_dtype();
  TrunkState state;
  WEFT_ASSIGN_OR_RETURN(state.embedding, embedding_.NewActivations(device, /*tokens=*/1));
  for (const auto& block : blocks_) {
    WEFT_ASSIGN_OR_RETURN(BlockState block_state, block->NewState(device, max_tokens));
    state.blocks.push_back(std::move(block_state));
  }
  for (Tensor* tensor : {&state.residual, &state.next_residual}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {1, 1, width_}));
  }
  if (final_norm_) {
    WEFT_ASSIGN_OR_RETURN(state.statistics, final_norm_->NewStatistics(device, /*rows=*/1));
  }
  return state;
}

absl::Status Trunk::Decode(const Pass& pass, const Tensor& token, TrunkState& state) const {
  Pass here = pass;
  here.first_position = state.position;
  WEFT_RETURN_IF_ERROR(embedding_.Forward(here, token, state.embedding, state.residual));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    WEFT_RETURN_IF_ERROR(
        blocks_[i]->Decode(here, state.residual, state.blocks[i], state.next_residual));
    std::swap(state.residual, state.next_residual);
  }
  ++state.position;
  if (!final_norm_) return absl::OkStatus();
  return final_norm_->Forward(here, state.residual, state.statistics, state.residual);
}

int64_t Trunk::MatmulFlopsPerToken() const {
  int64_t flops = 0;
  for (const auto& block : blocks_) flops += block->MatmulFlopsPerToken();
  return flops;
}

std::vector<MetricName> Trunk::metrics() const {
  std::vector<MetricName> names;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const absl::string_view name : MetricsOf(mixers_[i])) {
      names.push_back({.name = std::string(name), .layer = static_cast<int64_t>(i)});
    }
  }
  return names;
}

}  // namespace weft::worker

#include "worker/model/mixers/head_projections.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/rotary/rotary.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Shape;
using kernels::Tensor;

namespace {

int64_t KvHeads(const HeadOptions& options) {
  return options.kv_heads == 0 ? options.heads : options.kv_heads;
}

int64_t HeadWidth(const HeadOptions& options, const MixerPlace& place) {
  return options.head_width == 0 ? place.width / options.heads : options.head_width;
}

}  // namespace

void CheckHeads(const HeadOptions& options, const MixerPlace& place, absl::string_view layer,
                Problems& problems) {
  problems.Require(options.head_width >= 0,
                   absl::StrCat(layer, ".head_width is ", options.head_width,
                                " and must be positive, or 0 for width / heads"));
  if (options.head_width == 0) {
    CheckHeads(options.heads, place.width, layer, problems);
  } else {
    problems.Require(options.heads >= 1,
                     absl::StrCat(layer, ".heads is ", options.heads, " and must be positive"));
  }
  if (options.heads < 1 || options.head_width < 0) return;
  problems.Require(options.kv_heads >= 0 && options.heads % KvHeads(options) == 0,
                   absl::StrCat(layer, ".kv_heads is ", options.kv_heads,
                                " and must divide the heads ", options.heads));
  const int64_t head_width = HeadWidth(options, place);
  problems.Require(options.rotary_base == 0.0 || options.rotary_base > 1.0,
                   absl::StrCat(layer, ".rotary_base is ", options.rotary_base,
                                " and must be above 1, or 0 for no rotary positions"));
  problems.Require(
      options.rotary_base == 0.0 || head_width % 2 == 0,
      absl::StrCat(layer, ": the head width ", head_width, " must be even for rotary positions"));
  problems.Require(place.output_projection || options.heads * head_width == place.width,
                   absl::StrCat(layer, ": without an output projection the ", options.heads,
                                " heads of ", head_width, " must fill the width ", place.width));
}

HeadProjections::HeadProjections(const HeadOptions& options, const MixerPlace& place,
                                 absl::string_view prefix, ParameterLayout& layout)
    : heads_(options.heads),
      kv_heads_(KvHeads(options)),
      head_width_(HeadWidth(options, place)),
      rotary_base_(options.rotary_base),
      key_bias_cancels_(options.scores_meet_in_softmax && rotary_base_ == 0.0),
      q_(absl::StrCat(prefix, ".q"), place.width, heads_ * head_width_, place.projection_bias,
         layout),
      k_(absl::StrCat(prefix, ".k"), place.width, kv_heads_ * head_width_, place.projection_bias,
         layout),
      v_(absl::StrCat(prefix, ".v"), place.width, kv_heads_ * head_width_, place.projection_bias,
         layout) {
  if (place.output_projection) {
    output_.emplace(absl::StrCat(prefix, ".output"), heads_ * head_width_, place.width,
                    place.output_bias, layout);
  }
}

int64_t HeadProjections::MatmulFlopsPerToken() const {
  return q_.FlopsPerRow() + k_.FlopsPerRow() + v_.FlopsPerRow() +
         (output_ ? output_->FlopsPerRow() : 0);
}

absl::StatusOr<Heads> HeadProjections::NewHeads(kernels::Device& device, PassShape shape) const {
  const Shape kv = {shape.batch, shape.tokens, kv_heads_, head_width_};
  Heads heads;
  WEFT_ASSIGN_OR_RETURN(heads.q,
                        kernels::NewTensor(device, device.compute_dtype(),
                                           {shape.batch, shape.tokens, heads_, head_width_}));
  WEFT_ASSIGN_OR_RETURN(heads.k, kernels::NewTensor(device, device.compute_dtype(), kv));
  WEFT_ASSIGN_OR_RETURN(heads.v, kernels::NewTensor(device, device.compute_dtype(), kv));
  return heads;
}

absl::StatusOr<Heads> HeadProjections::TakeHeads(const Pass& pass, PassShape shape) const {
  const Shape kv = {shape.batch, shape.tokens, kv_heads_, head_width_};
  Heads heads;
  WEFT_ASSIGN_OR_RETURN(heads.q,
                        pass.scratch.Take({shape.batch, shape.tokens, heads_, head_width_}));
  WEFT_ASSIGN_OR_RETURN(heads.k, pass.scratch.Take(kv));
  WEFT_ASSIGN_OR_RETURN(heads.v, pass.scratch.Take(kv));
  return heads;
}

absl::Status HeadProjections::Project(const Pass& pass, const Tensor& x, int64_t first_position,
                                      Heads& heads) const {
  WEFT_RETURN_IF_ERROR(q_.Forward(pass, x, heads.q));
  WEFT_RETURN_IF_ERROR(k_.Forward(pass, x, heads.k));
  WEFT_RETURN_IF_ERROR(v_.Forward(pass, x, heads.v));
  if (rotary_base_ == 0.0) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(
      kernels::RotaryForward(pass.stream, heads.q, rotary_base_, first_position, heads.q));
  return kernels::RotaryForward(pass.stream, heads.k, rotary_base_, first_position, heads.k);
}

absl::Status HeadProjections::ProjectBackward(const Pass& pass, const ParameterBlock& gradients,
                                              const Tensor& x, int64_t first_position, Heads& d,
                                              Tensor& dx) const {
  if (rotary_base_ != 0.0) {
    for (Tensor* tensor : {&d.q, &d.k}) {
      WEFT_RETURN_IF_ERROR(
          kernels::RotaryBackward(pass.stream, *tensor, rotary_base_, first_position, *tensor));
    }
  }
  WEFT_RETURN_IF_ERROR(q_.Backward(pass, gradients, x, d.q, Accumulate::kNo, dx));
  if (key_bias_cancels_) {
    WEFT_RETURN_IF_ERROR(k_.BackwardButBias(pass, gradients, x, d.k, Accumulate::kYes, dx));
  } else {
    WEFT_RETURN_IF_ERROR(k_.Backward(pass, gradients, x, d.k, Accumulate::kYes, dx));
  }
  return v_.Backward(pass, gradients, x, d.v, Accumulate::kYes, dx);
}

absl::Status HeadProjections::Merge(const Pass& pass, const Tensor& o, const Tensor& residual,
                                    Tensor& y) const {
  if (output_) return output_->Forward(pass, o, residual, y);
  const Tensor merged = o.Reshaped(y.shape());
  return residual.present() ? kernels::Add(pass.stream, residual, merged, y)
                            : kernels::Copy(pass.stream, merged, y);
}

absl::Status HeadProjections::MergeBackward(const Pass& pass, const ParameterBlock& gradients,
                                            const Tensor& o, const Tensor& dy, Tensor& d_o) const {
  if (!output_) return kernels::Copy(pass.stream, dy, d_o);
  return output_->BackwardButBias(pass, gradients, o, dy, Accumulate::kNo, d_o);
}

}  // namespace weft::worker

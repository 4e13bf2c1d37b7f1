#include "worker/model/parameter_layout.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::worker {
namespace {

// The standard deviation of a standard normal that is cut at two.
constexpr double kCutDeviation = 0.87962566103423978;

Initialisation ByScheme(WeightScheme scheme, double in, double out) {
  using Kind = Initialisation::Kind;
  switch (scheme) {
    case WeightScheme::kNormal:
      return {.kind = Kind::kNormal, .scale = 0.02};
    case WeightScheme::kTorch:
      return {.kind = Kind::kUniform, .scale = 1.0 / std::sqrt(in)};
    case WeightScheme::kLecun:
      return {.kind = Kind::kTruncatedNormal, .scale = 1.0 / (std::sqrt(in) * kCutDeviation)};
    case WeightScheme::kXavierUniform:
      return {.kind = Kind::kUniform, .scale = std::sqrt(6.0 / (in + out))};
  }
  return {};
}

}  // namespace

Initialisation LecunInitialisation(int64_t in) {
  return ByScheme(WeightScheme::kLecun, static_cast<double>(in), /*out=*/0);
}

Initialisation TorchInitialisation(int64_t in) {
  return ByScheme(WeightScheme::kTorch, static_cast<double>(in), /*out=*/0);
}

ParameterIndex ParameterLayout::AddWeight(absl::string_view name, const kernels::Shape& shape) {
  const auto out = static_cast<double>(shape.dim(0));
  const double in = static_cast<double>(shape.count()) / out;
  return AddWeight(name, shape, ByScheme(scheme_, in, out));
}

ParameterIndex ParameterLayout::AddWeight(absl::string_view name, const kernels::Shape& shape,
                                          Initialisation initialisation) {
  return Add(
      {.name = std::string(name), .shape = shape, .initialisation = std::move(initialisation)});
}

ParameterIndex ParameterLayout::AddBias(absl::string_view name, int64_t width, int64_t in) {
  Initialisation initialisation{.kind = Initialisation::Kind::kFill, .scale = 0.0};
  if (scheme_ == WeightScheme::kTorch) {
    initialisation = ByScheme(scheme_, static_cast<double>(in), static_cast<double>(width));
  }
  return AddBias(name, width, std::move(initialisation));
}

ParameterIndex ParameterLayout::AddBias(absl::string_view name, int64_t width,
                                        Initialisation initialisation) {
  return Add({.name = std::string(name),
              .shape = {width},
              .initialisation = std::move(initialisation),
              .weight_decay = false});
}

ParameterIndex ParameterLayout::AddConstant(absl::string_view name, const kernels::Shape& shape,
                                            GivenValues values) {
  return Add({.name = std::string(name),
              .shape = shape,
              .initialisation = {.kind = Initialisation::Kind::kGiven, .given = std::move(values)},
              .weight_decay = false,
              .trained = false});
}

ParameterIndex ParameterLayout::AddNorm(absl::string_view name, int64_t width) {
  return Add({.name = std::string(name),
              .shape = {width},
              .initialisation = {.kind = Initialisation::Kind::kFill, .scale = 1.0},
              .weight_decay = false});
}

ParameterIndex ParameterLayout::AddNormShift(absl::string_view name, int64_t width) {
  return Add({.name = std::string(name),
              .shape = {width},
              .initialisation = {.kind = Initialisation::Kind::kFill, .scale = 0.0},
              .weight_decay = false});
}

ParameterIndex ParameterLayout::Add(Parameter parameter) {
  for (const Parameter& other : parameters_)
    WEFT_CHECK_MSG(other.name != parameter.name, other.name);
  parameter.offset = block_count_;
  const int64_t end = parameter.offset + parameter.shape.count();
  block_count_ = (end + kAlignment - 1) / kAlignment * kAlignment;
  parameters_.push_back(std::move(parameter));
  return ParameterIndex(static_cast<int64_t>(parameters_.size()) - 1);
}

const Parameter& ParameterLayout::operator[](ParameterIndex index) const {
  WEFT_CHECK(index.value() >= 0 && index.value() < static_cast<int64_t>(parameters_.size()));
  return parameters_[static_cast<size_t>(index.value())];
}

int64_t ParameterLayout::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters_) {
    if (parameter.trained) count += parameter.shape.count();
  }
  return count;
}

ParameterBlock::ParameterBlock(const ParameterLayout& layout, kernels::Tensor block)
    : layout_(&layout), block_(std::move(block)) {
  WEFT_CHECK_MSG(block_.count() == layout.block_count(),
                 absl::StrCat(block_.ToString(), " for a layout of ", layout.block_count()));
}

kernels::Tensor ParameterBlock::operator[](ParameterIndex index) const {
  const Parameter& parameter = (*layout_)[index];
  return block_.Part(parameter.offset, parameter.shape);
}

}  // namespace weft::worker

#include "worker/model/parameter_layout.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::worker {

ParameterIndex ParameterLayout::AddWeight(absl::string_view name, const kernels::Shape& shape) {
  return Add({.name = std::string(name), .shape = shape});
}

ParameterIndex ParameterLayout::AddNorm(absl::string_view name, int64_t width) {
  return Add({.name = std::string(name),
              .shape = {width},
              .initialisation = Initialisation::kOne,
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
  for (const Parameter& parameter : parameters_) count += parameter.shape.count();
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

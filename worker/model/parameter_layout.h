// All parameters of a model lie in one flat block, in a fixed order; gradients and optimizer state
// are blocks of the same layout. One block is what makes the exchange, the optimizer, the
// checkpoint and the hash of the weights independent of the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/strong_int.h"
#include "kernels/tensor/tensor.h"

namespace weft::worker {

using ParameterIndex = StrongInt<struct ParameterIndexTag>;

enum class Initialisation : uint8_t { kNormal, kOne };

struct Parameter {
  std::string name;  // unique; the name in checkpoints, for example "layers.0.mixer.q.weight"
  kernels::Shape shape;
  int64_t offset = 0;  // of the first element in the flat block
  Initialisation initialisation = Initialisation::kNormal;
  bool weight_decay = true;  // norm weights are not decayed
};

class ParameterLayout {
 public:
  // Every parameter starts at a multiple of this many elements (64 bytes of f32). The elements
  // between two parameters are zero for ever: their gradient is zero.
  static constexpr int64_t kAlignment = 16;

  // A matrix of a projection, a convolution or an embedding: Normal initialisation, decayed.
  ParameterIndex AddWeight(absl::string_view name, const kernels::Shape& shape);
  // The weight of a norm: ones, not decayed.
  ParameterIndex AddNorm(absl::string_view name, int64_t width);

  [[nodiscard]] absl::Span<const Parameter> parameters() const { return parameters_; }
  [[nodiscard]] const Parameter& operator[](ParameterIndex index) const;
  // Elements of the flat block, gaps included.
  [[nodiscard]] int64_t block_count() const { return block_count_; }
  // Elements that are trained.
  [[nodiscard]] int64_t parameter_count() const;

 private:
  ParameterIndex Add(Parameter parameter);

  std::vector<Parameter> parameters_;
  int64_t block_count_ = 0;
};

// A flat block seen through its layout. A value of two handles; the layout outlives it.
class ParameterBlock {
 public:
  ParameterBlock(const ParameterLayout& layout, kernels::Tensor block);

  // The tensor of one parameter, sharing the block's memory.
  [[nodiscard]] kernels::Tensor operator[](ParameterIndex index) const;
  [[nodiscard]] const kernels::Tensor& block() const { return block_; }
  [[nodiscard]] const ParameterLayout& layout() const { return *layout_; }

 private:
  const ParameterLayout* layout_;
  kernels::Tensor block_;
};

}  // namespace weft::worker

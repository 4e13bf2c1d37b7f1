// All parameters of a model lie in one flat block, in a fixed order; gradients and optimizer state
// are blocks of the same layout. One block is what makes the exchange, the optimizer, the
// checkpoint and the hash of the weights independent of the model.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/strong_int.h"
#include "kernels/tensor/tensor.h"

namespace weft::worker {

using ParameterIndex = StrongInt<struct ParameterIndexTag>;

// Values that follow from the job's seed alone: `into` has the parameter's elements, row-major.
using GivenValues = std::function<void(uint64_t seed, absl::Span<double> into)>;

// What a parameter is before the first step.
struct Initialisation {
  enum class Kind : uint8_t {
    kFill,             // every element is `scale`
    kNormal,           // standard deviation `scale`
    kTruncatedNormal,  // standard deviation `scale` before cutting at two of them
    kUniform,          // in (-scale, scale)
    kGiven,            // what `given` writes
  };
  Kind kind = Kind::kNormal;
  double scale = 0.02;
  GivenValues given = nullptr;
};

// How the weights of linear maps begin; papers differ. In and out are the map's widths.
enum class WeightScheme : uint8_t {
  kNormal,         // standard deviation 0.02
  kTorch,          // uniform within 1/sqrt(in), biases too: what PyTorch's linear layers do
  kLecun,          // normal, cut at two deviations, variance 1/in after the cut: Flax's layers
  kXavierUniform,  // uniform within sqrt(6 / (in + out))
};

// kLecun for the weight of a linear map with `in` inputs: for maps that begin so whatever scheme
// the model has.
Initialisation LecunInitialisation(int64_t in);
// Likewise kTorch, for weights and biases.
Initialisation TorchInitialisation(int64_t in);

struct Parameter {
  std::string name;  // unique; the name in checkpoints, for example "layers.0.mixer.q.weight"
  kernels::Shape shape;
  int64_t offset = 0;  // of the first element in the flat block
  Initialisation initialisation = {};
  bool weight_decay = true;  // norm weights and biases are not decayed
  // A constant is kept and saved with the weights, but its gradient is always zero.
  bool trained = true;
};

class ParameterLayout {
 public:
  // Every parameter starts at a multiple of this many elements (64 bytes of f32). The elements
  // between two parameters are zero for ever: their gradient is zero.
  static constexpr int64_t kAlignment = 16;

  explicit ParameterLayout(WeightScheme scheme = WeightScheme::kNormal) : scheme_(scheme) {}

  // The weight [out, in] of a linear map or a convolution, initialised by the scheme; decayed.
  ParameterIndex AddWeight(absl::string_view name, const kernels::Shape& shape);
  // A weight with an initialisation of its own; decayed.
  ParameterIndex AddWeight(absl::string_view name, const kernels::Shape& shape,
                           Initialisation initialisation);
  // The bias of a linear map with `in` inputs: zeros (in scheme kTorch as the weight); not decayed.
  ParameterIndex AddBias(absl::string_view name, int64_t width, int64_t in);
  // A bias with an initialisation of its own; not decayed.
  ParameterIndex AddBias(absl::string_view name, int64_t width, Initialisation initialisation);
  // The weight of a norm: ones, not decayed.
  ParameterIndex AddNorm(absl::string_view name, int64_t width);
  // What a LayerNorm adds: zeros in every scheme, not decayed.
  ParameterIndex AddNormShift(absl::string_view name, int64_t width);
  // Values that are drawn once and kept: random features, sketches.
  ParameterIndex AddConstant(absl::string_view name, const kernels::Shape& shape,
                             GivenValues values);

  [[nodiscard]] absl::Span<const Parameter> parameters() const { return parameters_; }
  [[nodiscard]] const Parameter& operator[](ParameterIndex index) const;
  // Elements of the flat block, gaps included.
  [[nodiscard]] int64_t block_count() const { return block_count_; }
  // Elements that are trained: gaps and constants are not.
  [[nodiscard]] int64_t parameter_count() const;

 private:
  ParameterIndex Add(Parameter parameter);

  const WeightScheme scheme_;
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

// SlicedMixer: a mixer whose past is a state of fixed size, so that a sequence can be computed
// slice by slice with the activations of one slice: Likhosherstov et al. 2021, "Sub-linear memory:
// how to make performers SLiM", section 3. What passes from a slice to the next is a boundary, and
// back from it, the gradient of a boundary.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/mixers/mixer.h"

namespace weft::worker {

// What one tensor of a boundary is.
struct BoundaryPart {
  kernels::Shape shape;
  // Of the device's sum type, as states are; else of its compute type, as activations are.
  bool is_sum = true;
};

// Of one layer and one sequence; zeros stand before its first token. Or its gradient.
using Boundary = std::vector<kernels::Tensor>;

// What a forward pass over a slice does to the boundary.
enum class SliceStep : uint8_t {
  kAdvance,  // from before the slice to after it; no backward pass follows
  kReplay,   // before the slice, and stays there
  kUndo,     // from after the slice to before it, first of all; then as kReplay
};

class SlicedMixer : public Mixer {
 public:
  // OK, or why slices of this length are not possible.
  [[nodiscard]] virtual absl::Status SupportsSlices(int64_t slice_length) const = 0;
  // Whether kUndo is possible; else whoever needs a boundary again keeps a copy.
  [[nodiscard]] virtual bool CanUndo() const = 0;
  [[nodiscard]] virtual std::vector<BoundaryPart> BoundaryParts() const = 0;

  // x [1, T, C] -> y, the tokens of a slice that begins at pass.first_position; else as Forward.
  virtual absl::Status ForwardSlice(const Pass& pass, const kernels::Tensor& x, SliceStep step,
                                    Boundary& boundary, MixerActivations& activations,
                                    const kernels::Tensor& residual, kernels::Tensor& y) const = 0;
  // As Backward, after kReplay or kUndo. `before` is the boundary before the slice; `gradient` that
  // of the boundary after the slice, then of the one before it.
  virtual absl::Status BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                     const kernels::Tensor& x, const Boundary& before,
                                     MixerActivations& activations, const kernels::Tensor& dy,
                                     Boundary& gradient, kernels::Tensor& dx) const = 0;
};

// The mixer that NewMixer made of `config`, when it is of that kind; kUnimplemented, saying why
// not, else.
absl::StatusOr<const SlicedMixer*> AsSliced(const MixerConfig& config, const Mixer& mixer);

}  // namespace weft::worker

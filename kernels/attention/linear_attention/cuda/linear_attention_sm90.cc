#include "kernels/attention/linear_attention/cuda/linear_attention_sm90.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "common/base/status_macros.h"
#include "kernels/attention/linear_attention/cuda/linear_sm90.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

sm90::LinearSm90Shape Sm90ShapeOf(const LinearAttentionProblem& p) {
  return sm90::LinearSm90ShapeOf(static_cast<int>(p.batch), static_cast<int>(p.tokens),
                                 static_cast<int>(p.heads), static_cast<int>(p.key_dim));
}
// The same for the passes that both paths have.
LinearCudaShape SharedShapeOf(const LinearAttentionProblem& p, const sm90::LinearSm90Shape& shape) {
  LinearCudaShape shared = LinearShapeOf(p);
  shared.segment_tokens = shape.segment_chunks * sm90::kLinearChunk;
  return shared;
}
int64_t StateBytes(const sm90::LinearSm90Shape& shape) {
  return int64_t{shape.batch} * shape.heads * shape.segments * shape.StateSize() * 4;
}

// The states before the segments, and after the last one where that is wanted.
absl::Status MakeStates(const CudaLaunch& on, const LinearAttentionProblem& p,
                        const sm90::LinearSm90Shape& shape, const LinearAttentionInputs& inputs,
                        const Tensor& initial_state, float* states, const Tensor& final_state) {
  if (shape.segments == 1 && !final_state.present()) {
    const auto bytes = static_cast<size_t>(StateBytes(shape));
    return CudaStatus(initial_state.present() ? cudaMemcpyAsync(states, Sums(initial_state), bytes,
                                                                cudaMemcpyDeviceToDevice, on.stream)
                                              : cudaMemsetAsync(states, 0, bytes, on.stream),
                      "linear attention: states");
  }
  // What the last segment adds is in the final state alone.
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sm90::LinearSums({.shape = shape,
                                   .map = CudaFeatureMapOf(p.features),
                                   .x = Elements(inputs.k),
                                   .y = Elements(inputs.v),
                                   .valid = Valid(inputs),
                                   .count = shape.segments - (final_state.present() ? 0 : 1),
                                   .parts = states},
                                  on.stream),
                 "linear attention: sums"));
  return CudaStatus(LaunchStates(on, {.shape = SharedShapeOf(p, shape),
                                      .initial = Sums(initial_state),
                                      .parts = states,
                                      .final = Sums(final_state)}),
                    "linear attention: states");
}

// The gradients of the states after the segments, in sums.parts, and of the initial one.
absl::Status MakeStateGradients(const CudaLaunch& on, const LinearAttentionProblem& p,
                                const sm90::LinearSm90Shape& shape, sm90::LinearSm90Sums sums,
                                const Tensor& d_final_state, const Tensor& d_initial_state) {
  // What the first segment adds is in the gradient of the initial state alone.
  sums.first = d_initial_state.present() ? 0 : 1;
  sums.count = shape.segments - sums.first;
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sm90::LinearSums(sums, on.stream), "linear attention: sums of slopes"));
  return CudaStatus(LaunchStateGradients(on, {.shape = SharedShapeOf(p, shape),
                                              .initial = Sums(d_final_state),
                                              .parts = sums.parts,
                                              .final = Sums(d_initial_state)}),
                    "linear attention: gradients of states");
}

}  // namespace

CudaFeatureMap CudaFeatureMapOf(const FeatureMap& map) {
  const auto feature = [&] {
    switch (map.feature) {
      case Feature::kSquare:
        return CudaFeature::kSquare;
      case Feature::kRelu:
        return CudaFeature::kRelu;
      case Feature::kElu1:
        return CudaFeature::kElu1;
      case Feature::kMagnitude:
        return CudaFeature::kMagnitude;
      case Feature::kExponential:
        break;
    }
    return CudaFeature::kExponential;
  };
  return {.feature = feature(),
          .rows = static_cast<int>(map.rows),
          .both_signs = map.both_signs,
          .scale = static_cast<float>(map.scale),
          .floor = static_cast<float>(map.floor)};
}

LinearCudaShape LinearShapeOf(const LinearAttentionProblem& p) {
  return {.batch = static_cast<int>(p.batch),
          .tokens = static_cast<int>(p.tokens),
          .heads = static_cast<int>(p.heads),
          .key_dim = static_cast<int>(p.key_dim),
          .value_dim = static_cast<int>(p.value_dim),
          .features = static_cast<int>(FeatureCount(p.features, p.key_dim)),
          .causal = p.causal};
}

bool CoveredBySm90(const Device& device, const LinearAttentionProblem& p) {
  return device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90") && p.causal && p.tokens > 0 &&
         p.features.rows == 0 && p.features.scale == 1.0 && p.key_dim == p.value_dim &&
         (p.key_dim == 64 || p.key_dim == 128);
}

int64_t LinearAttentionSegmentsSm90(const LinearAttentionProblem& p) {
  return Sm90ShapeOf(p).segments;
}

absl::Status LinearAttentionForwardSm90(Stream& stream, const LinearAttentionProblem& p,
                                        const LinearAttentionInputs& inputs,
                                        const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                        LinearAttentionSaved& saved) {
  CudaStream& cuda = AsCudaStream(stream);
  const CudaLaunch& on = cuda.launch();
  const sm90::LinearSm90Shape shape = Sm90ShapeOf(p);
  const CudaFeatureMap map = CudaFeatureMapOf(p.features);
  std::optional<CudaScratch> scratch;
  float* states = Sums(saved.states);
  if (states == nullptr) {
    WEFT_ASSIGN_OR_RETURN(CudaScratch space, cuda.Scratch(StateBytes(shape)));
    states = space.data<float>();
    scratch.emplace(std::move(space));
  }
  WEFT_RETURN_IF_ERROR(MakeStates(on, p, shape, inputs, initial_state, states, final_state));
  return CudaStatus(sm90::LinearForward({.shape = shape,
                                         .map = map,
                                         .q = Elements(inputs.q),
                                         .k = Elements(inputs.k),
                                         .v = Elements(inputs.v),
                                         .valid = Valid(inputs),
                                         .states = states,
                                         .lift_small = p.guard == DenominatorGuard::kLiftSmall,
                                         .guard_epsilon = static_cast<float>(p.guard_epsilon),
                                         .o = Elements(o),
                                         .denominators = Sums(saved.denominators)},
                                        on.stream),
                    "linear attention: outputs");
}

absl::Status LinearAttentionBackwardSm90(Stream& stream, const LinearAttentionProblem& p,
                                         const LinearAttentionInputs& inputs, const Tensor& o,
                                         const LinearAttentionSaved& saved, const Tensor& d_o,
                                         const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                         Tensor& d_v, Tensor& d_initial_state) {
  CudaStream& cuda = AsCudaStream(stream);
  const CudaLaunch& on = cuda.launch();
  const sm90::LinearSm90Shape shape = Sm90ShapeOf(p);
  const CudaFeatureMap map = CudaFeatureMapOf(p.features);
  const int64_t rows = p.batch * p.heads * p.tokens;
  WEFT_ASSIGN_OR_RETURN(const CudaScratch row_space, cuda.Scratch(2 * rows * 4));
  auto* const inverse = row_space.data<float>();
  float* const slopes = inverse + rows;
  WEFT_RETURN_IF_ERROR(CudaStatus(sm90::LinearRowSlopes({.shape = shape,
                                                         .o = Elements(o),
                                                         .d_o = Elements(d_o),
                                                         .denominators = Sums(saved.denominators),
                                                         .inverse = inverse,
                                                         .slopes = slopes},
                                                        on.stream),
                                  "linear attention: slopes"));
  // With one segment, the gradient of the state after it is that of the final state.
  const float* gradients = Sums(d_final_state);
  std::optional<CudaScratch> space;
  if (shape.segments > 1 || d_initial_state.present()) {
    WEFT_ASSIGN_OR_RETURN(CudaScratch made, cuda.Scratch(StateBytes(shape)));
    gradients = made.data<float>();
    WEFT_RETURN_IF_ERROR(MakeStateGradients(on, p, shape,
                                            {.shape = shape,
                                             .map = map,
                                             .x = Elements(inputs.q),
                                             .y = Elements(d_o),
                                             .inverse = inverse,
                                             .slopes = slopes,
                                             .parts = made.data<float>()},
                                            d_final_state, d_initial_state));
    space.emplace(std::move(made));
  }
  const sm90::LinearSm90Backward args{.shape = shape,
                                      .map = map,
                                      .q = Elements(inputs.q),
                                      .k = Elements(inputs.k),
                                      .v = Elements(inputs.v),
                                      .d_o = Elements(d_o),
                                      .valid = Valid(inputs),
                                      .inverse = inverse,
                                      .slopes = slopes,
                                      .states = Sums(saved.states),
                                      .gradients = gradients,
                                      .d_q = Elements(d_q),
                                      .d_k = Elements(d_k),
                                      .d_v = Elements(d_v)};
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sm90::LinearQueryGradients(args, on.stream), "linear attention: queries"));
  return CudaStatus(sm90::LinearKeyGradients(args, on.stream), "linear attention: keys");
}

absl::Status LinearAttentionUndoSm90(Stream& stream, const LinearAttentionProblem& p,
                                     const LinearAttentionInputs& inputs, Tensor& state) {
  CudaStream& cuda = AsCudaStream(stream);
  const sm90::LinearSm90Shape shape = Sm90ShapeOf(p);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch parts, cuda.Scratch(StateBytes(shape)));
  WEFT_RETURN_IF_ERROR(CudaStatus(sm90::LinearSums({.shape = shape,
                                                    .map = CudaFeatureMapOf(p.features),
                                                    .x = Elements(inputs.k),
                                                    .y = Elements(inputs.v),
                                                    .valid = Valid(inputs),
                                                    .count = shape.segments,
                                                    .parts = parts.data<float>()},
                                                   cuda.launch().stream),
                                  "linear attention: sums"));
  return CudaStatus(
      LaunchSubtract(cuda.launch(), SharedShapeOf(p, shape), parts.data<float>(), Sums(state)),
      "linear attention: undo");
}

}  // namespace weft::kernels

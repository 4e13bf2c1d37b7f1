// Linear attention of the exponential features of a projection, on Hopper (projected_sm90.h).
#include <utility>

#include "absl/strings/match.h"
#include "common/base/status_macros.h"
#include "kernels/attention/linear_attention/cuda/linear_attention_sm90.h"
#include "kernels/attention/linear_attention/cuda/projected_sm90.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

using Bf16 = __nv_bfloat16;

sm90::LinearSm90Shape ProjectedShape(const LinearAttentionProblem& p) {
  return sm90::ProjectedShapeOf(static_cast<int>(p.batch), static_cast<int>(p.tokens),
                                static_cast<int>(p.heads), static_cast<int>(p.value_dim));
}

// Working space of a call, cut from `carver`.
struct Space {
  Space(CudaCarver& carver, const sm90::LinearSm90Shape& shape) {
    const int64_t heads = int64_t{shape.batch} * shape.heads;
    const int64_t rows = heads * shape.tokens;
    q = carver.Take<Bf16>(rows * shape.features);
    k = carver.Take<Bf16>(rows * shape.features);
    levels.segments = carver.Take<float>(heads * (shape.Chunks() + 1));
    for (float** array : {&levels.key, &levels.running, &levels.weight, &levels.fading}) {
      *array = carver.Take<float>(rows);
    }
    states = carver.Take<float>(heads * shape.segments * shape.StateSize());
  }

  Bf16* q;  // features [B, T, H, 256]
  Bf16* k;
  LinearLevels levels;  // in segments of a chunk
  float* states;        // [B, H, segments, state]
};

struct BackwardSpace : Space {
  BackwardSpace(CudaCarver& carver, const sm90::LinearSm90Shape& shape) : Space(carver, shape) {
    const int64_t rows = int64_t{shape.batch} * shape.heads * shape.tokens;
    d_f = carver.Take<Bf16>(rows * shape.features);
    for (float** array :
         {&slopes.inverse, &slopes.slopes, &slopes.faded_inverse, &slopes.faded_slopes}) {
      *array = carver.Take<float>(rows);
    }
  }

  Bf16* d_f;  // of q, then of k
  LinearSlopes slopes;
};

template <typename T>
struct Owned {
  CudaScratch memory;
  T space;
};
template <typename T>
absl::StatusOr<Owned<T>> Cut(CudaStream& stream, const sm90::LinearSm90Shape& shape) {
  CudaCarver counter(nullptr);
  const T counted(counter, shape);
  WEFT_ASSIGN_OR_RETURN(CudaScratch memory, stream.Scratch(counter.used()));
  CudaCarver carver(memory.template data<uint8_t>());
  T space(carver, shape);
  return Owned<T>{std::move(memory), space};
}

// One call, for both directions. Launches are in stream order; the first error stays.
class Call {
 public:
  Call(Stream& stream, const LinearAttentionProblem& p, const LinearAttentionInputs& inputs)
      : on_(AsCudaStream(stream).launch()), p_(p), inputs_(inputs), shape_(ProjectedShape(p)) {}

  [[nodiscard]] absl::Status status() const { return status_; }

  void Check(cudaError_t error) {
    if (status_.ok()) status_ = CudaStatus(error, "linear attention of projected features");
  }
  [[nodiscard]] cudaStream_t stream() const { return on_.stream; }
  [[nodiscard]] const sm90::LinearSm90Shape& shape() const { return shape_; }

  [[nodiscard]] sm90::ProjectedRows Rows(const Tensor& x, bool keys) const {
    return {.batch = shape_.batch,
            .tokens = shape_.tokens,
            .heads = shape_.heads,
            .dim = static_cast<int>(p_.key_dim),
            .scale = static_cast<float>(p_.features.scale),
            .floor = static_cast<float>(p_.features.floor),
            .x = Elements(x),
            .projection = Elements(inputs_.projection),
            .valid = keys ? Valid(inputs_) : nullptr};
  }

  // Features and levels. `start` holds states `stride` apart, of which the first of each head says
  // where levels begin.
  void Features(const Space& space, const float* start, int64_t stride, bool known) {
    Check(sm90::ProjectedFeatures(Rows(inputs_.q, false), space.q, nullptr, stream()));
    Check(sm90::ProjectedFeatures(Rows(inputs_.k, true), space.k, space.levels.key, stream()));
    Check(LaunchLevels(on_, SharedShape(1), start, stride, known, space.levels));
  }

  // From the first token on: what keys add to the state.
  [[nodiscard]] sm90::ProjectedPass Forwards(const LinearLevels& levels) const {
    sm90::ProjectedPass pass = Pass(levels, /*backwards=*/false);
    pass.factors[sm90::kRow] = levels.fading;
    pass.factors[sm90::kToken] = pass.factors[sm90::kTokenSum] = levels.weight;
    return pass;
  }
  // From the last token on: what queries add to the gradient of the state.
  [[nodiscard]] sm90::ProjectedPass Backwards(const LinearLevels& levels,
                                              const LinearSlopes& slopes) const {
    sm90::ProjectedPass pass = Pass(levels, /*backwards=*/true);
    pass.factors[sm90::kInverse] = slopes.inverse;
    pass.factors[sm90::kSlope] = slopes.slopes;
    pass.factors[sm90::kRow] = pass.factors[sm90::kRowSum] = levels.weight;
    pass.factors[sm90::kToken] = slopes.faded_inverse;
    pass.factors[sm90::kTokenSum] = slopes.faded_slopes;
    return pass;
  }

  // The states before the segments, and after the last one where that is wanted.
  void MakeStates(const Space& space, const Tensor& initial_state, float* states,
                  const Tensor& final_state);
  // Of the states after the segments, and of the initial one; null where there are none.
  const float* MakeStateGradients(const BackwardSpace& space, const sm90::ProjectedPass& pass,
                                  const Tensor& d_o, const Tensor& d_final_state,
                                  const Tensor& d_initial_state);

 private:
  [[nodiscard]] sm90::ProjectedPass Pass(const LinearLevels& levels, bool backwards) const {
    sm90::ProjectedPass pass{
        .shape = shape_, .backwards = backwards, .chunk_levels = levels.segments};
    pass.factors[sm90::kKeyLevel] = levels.key;
    pass.factors[sm90::kRunningLevel] = levels.running;
    return pass;
  }
  // For the passes that all paths have, in segments of so many chunks.
  [[nodiscard]] LinearCudaShape SharedShape(int chunks) const {
    LinearCudaShape shared = LinearShapeOf(p_);
    shared.segment_tokens = chunks * sm90::kLinearChunk;
    return shared;
  }

  const CudaLaunch& on_;
  const LinearAttentionProblem& p_;
  const LinearAttentionInputs& inputs_;
  const sm90::LinearSm90Shape shape_;
  absl::Status status_;
};

void Call::MakeStates(const Space& space, const Tensor& initial_state, float* states,
                      const Tensor& final_state) {
  if (shape_.segments == 1 && !final_state.present()) {
    const auto bytes =
        static_cast<size_t>(int64_t{shape_.batch} * shape_.heads * shape_.StateSize() * 4);
    Check(initial_state.present() ? cudaMemcpyAsync(states, Sums(initial_state), bytes,
                                                    cudaMemcpyDeviceToDevice, stream())
                                  : cudaMemsetAsync(states, 0, bytes, stream()));
    return;
  }
  // What the last segment adds is in the final state alone.
  Check(sm90::ProjectedSegmentSums({.pass = Forwards(space.levels),
                                    .f = space.k,
                                    .y = Elements(inputs_.v),
                                    .count = shape_.segments - (final_state.present() ? 0 : 1),
                                    .parts = states},
                                   stream()));
  Check(LaunchStates(on_, {.shape = SharedShape(shape_.segment_chunks),
                           .levels = space.levels.segments,
                           .level_tokens = sm90::kLinearChunk,
                           .initial = Sums(initial_state),
                           .parts = states,
                           .final = Sums(final_state)}));
}

const float* Call::MakeStateGradients(const BackwardSpace& space, const sm90::ProjectedPass& pass,
                                      const Tensor& d_o, const Tensor& d_final_state,
                                      const Tensor& d_initial_state) {
  // With one segment, the gradient of the state after it is that of the final state.
  if (shape_.segments == 1 && !d_initial_state.present()) return Sums(d_final_state);
  // What the first segment adds is in the gradient of the initial state alone.
  const int first = d_initial_state.present() ? 0 : 1;
  Check(sm90::ProjectedSegmentSums({.pass = pass,
                                    .f = space.q,
                                    .y = Elements(d_o),
                                    .first = first,
                                    .count = shape_.segments - first,
                                    .parts = space.states},
                                   stream()));
  Check(LaunchStateGradients(on_, {.shape = SharedShape(shape_.segment_chunks),
                                   .levels = space.levels.segments,
                                   .level_tokens = sm90::kLinearChunk,
                                   .initial = Sums(d_final_state),
                                   .parts = space.states,
                                   .final = Sums(d_initial_state)}));
  return space.states;
}

}  // namespace

bool CoveredByProjected(const Device& device, const LinearAttentionProblem& p) {
  const auto usual = [](int64_t dim) { return dim == 64 || dim == 128; };
  return device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90") && p.causal && p.tokens > 0 &&
         p.features.feature == Feature::kExponential && !p.features.both_signs &&
         p.features.scale > 0 && p.features.rows == sm90::kProjectedFeatures && usual(p.key_dim) &&
         usual(p.value_dim);
}

int64_t LinearAttentionSegmentsProjected(const LinearAttentionProblem& p) {
  return ProjectedShape(p).segments;
}

absl::Status LinearAttentionForwardProjected(Stream& stream, const LinearAttentionProblem& p,
                                             const LinearAttentionInputs& inputs,
                                             const Tensor& initial_state, Tensor& o,
                                             Tensor& final_state, LinearAttentionSaved& saved) {
  Call call(stream, p, inputs);
  WEFT_ASSIGN_OR_RETURN(const Owned<Space> owned, Cut<Space>(AsCudaStream(stream), call.shape()));
  Space space = owned.space;
  if (saved.levels.present()) space.levels.running = Sums(saved.levels);
  float* const states = saved.states.present() ? Sums(saved.states) : space.states;
  call.Features(space, Sums(initial_state), call.shape().StateSize(), /*known=*/false);
  call.MakeStates(space, initial_state, states, final_state);
  call.Check(sm90::ProjectedAttend({.pass = call.Forwards(space.levels),
                                    .rows = space.q,
                                    .columns = space.k,
                                    .y = Elements(inputs.v),
                                    .states = states,
                                    .lift_small = p.guard == DenominatorGuard::kLiftSmall,
                                    .guard_epsilon = static_cast<float>(p.guard_epsilon),
                                    .results = Elements(o),
                                    .denominators = Sums(saved.denominators)},
                                   call.stream()));
  return call.status();
}

absl::Status LinearAttentionBackwardProjected(Stream& stream, const LinearAttentionProblem& p,
                                              const LinearAttentionInputs& inputs, const Tensor& o,
                                              const LinearAttentionSaved& saved, const Tensor& d_o,
                                              const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                              Tensor& d_v, Tensor& d_initial_state) {
  Call call(stream, p, inputs);
  const sm90::LinearSm90Shape& shape = call.shape();
  WEFT_ASSIGN_OR_RETURN(const Owned<BackwardSpace> owned,
                        Cut<BackwardSpace>(AsCudaStream(stream), shape));
  BackwardSpace space = owned.space;
  space.levels.running = Sums(saved.levels);
  const LinearSlopes& slopes = space.slopes;
  call.Features(space, Sums(saved.states), shape.segments * shape.StateSize(), /*known=*/true);
  call.Check(sm90::LinearRowSlopes({.shape = shape,
                                    .o = Elements(o),
                                    .d_o = Elements(d_o),
                                    .denominators = Sums(saved.denominators),
                                    .fading = space.levels.fading,
                                    .inverse = slopes.inverse,
                                    .slopes = slopes.slopes,
                                    .faded_inverse = slopes.faded_inverse,
                                    .faded_slopes = slopes.faded_slopes},
                                   call.stream()));
  const sm90::ProjectedPass backwards = call.Backwards(space.levels, slopes);
  sm90::ProjectedPass forwards = call.Forwards(space.levels);
  forwards.factors[sm90::kInverse] = slopes.inverse;
  forwards.factors[sm90::kSlope] = slopes.slopes;
  forwards.factors[sm90::kRow] = slopes.faded_inverse;
  forwards.factors[sm90::kRowSum] = slopes.faded_slopes;
  const float* const gradients =
      call.MakeStateGradients(space, backwards, d_o, d_final_state, d_initial_state);
  call.Check(sm90::ProjectedAttend({.pass = backwards,
                                    .rows = space.k,
                                    .columns = space.q,
                                    .y = Elements(d_o),
                                    .states = gradients,
                                    .results = Elements(d_v)},
                                   call.stream()));
  call.Check(sm90::ProjectedDifferentiate({.pass = forwards,
                                           .x = Elements(d_o),
                                           .y = Elements(inputs.v),
                                           .features = space.k,
                                           .states = Sums(saved.states),
                                           .gradients = space.d_f},
                                          call.stream()));
  call.Check(sm90::ProjectedFeatureGradients(call.Rows(inputs.q, false), space.d_f, Elements(d_q),
                                             call.stream()));
  call.Check(sm90::ProjectedDifferentiate({.pass = backwards,
                                           .x = Elements(inputs.v),
                                           .y = Elements(d_o),
                                           .features = space.q,
                                           .states = gradients,
                                           .gradients = space.d_f},
                                          call.stream()));
  call.Check(sm90::ProjectedFeatureGradients(call.Rows(inputs.k, true), space.d_f, Elements(d_k),
                                             call.stream()));
  return call.status();
}

}  // namespace weft::kernels

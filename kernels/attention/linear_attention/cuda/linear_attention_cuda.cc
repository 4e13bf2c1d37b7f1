// Linear attention on a GPU: on a path for Hopper where one covers a problem, else on the portable
// one, whose tensors are turned into what its passes take here.
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/linear_attention/cuda/linear_attention_sm90.h"
#include "kernels/attention/linear_attention/cuda/portable_passes.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"

namespace weft::kernels {
namespace {

// One call: its shapes, its working space, and the passes that both directions have.
class Call {
 public:
  Call(Stream& stream, const LinearAttentionProblem& p, const LinearAttentionInputs& inputs)
      : cuda_(AsCudaStream(stream)),
        inputs_(inputs),
        shape_(LinearShapeOf(p)),
        map_(CudaFeatureMapOf(p.features)) {}

  [[nodiscard]] const LinearCudaShape& shape() const { return shape_; }
  [[nodiscard]] bool has_levels() const { return map_.feature == CudaFeature::kExponential; }
  [[nodiscard]] const float* segment_levels() const { return levels_.segments; }
  [[nodiscard]] const LinearLevels& levels() const { return levels_; }

  // Floats that live as long as the call. The first error stays in `status`.
  float* Space(int64_t floats) {
    absl::StatusOr<CudaScratch> space = cuda_.Scratch(floats * 4);
    if (!space.ok()) {
      status_.Update(space.status());
      return nullptr;
    }
    spaces_.push_back(*std::move(space));
    return spaces_.back().data<float>();
  }
  // `launch(on)` returns CUDA's error; not called after an error.
  template <typename Function>
  void Launch(const Function& launch) {
    if (ok()) status_.Update(CudaStatus(launch(cuda_.launch()), "linear attention"));
  }
  [[nodiscard]] bool ok() const { return status_.ok(); }
  [[nodiscard]] absl::Status status() const { return status_; }

  float* PerToken() { return Space(int64_t{shape_.AllHeads()} * shape_.tokens); }
  float* Parts() {
    return Space(int64_t{shape_.AllHeads()} * shape_.Segments() * shape_.StateSize());
  }
  float* FeatureSpace() { return Space(AllRows() * shape_.features); }

  // f of q or k. The products with the projection are overwritten by the next call.
  void Features(const Tensor& x, bool keys, float* f) {
    Project(x);
    if (!ok() || shape_.tokens == 0) return;
    float* levels = nullptr;
    if (has_levels()) {
      if (unused_levels_ == nullptr) unused_levels_ = PerToken();
      levels = keys ? levels_.key : unused_levels_;
    }
    if (!ok()) return;
    Launch([&](const CudaLaunch& on) {
      return LaunchFeatureForward(on, {.shape = Rows(),
                                       .map = map_,
                                       .x = x.address(),
                                       .projected = projected_,
                                       .valid = keys ? Valid() : nullptr,
                                       .f = f,
                                       .levels = levels});
    });
  }

  // d_f, of the features f of x, to d_x.
  void FeaturesBackward(const Tensor& x, bool keys, const float* f, const float* d_f, Tensor& d_x);

  // After the features of the keys. `running` is where m_i goes or, when it is known, comes from.
  void Levels(const float* start, int64_t stride, bool known, float* running) {
    if (!ok() || !has_levels()) return;
    levels_.running = running != nullptr ? running : PerToken();
    levels_.segments = Space(int64_t{shape_.AllHeads()} * (shape_.Segments() + 1));
    levels_.weight = PerToken();
    levels_.fading = PerToken();
    if (!ok()) return;
    Launch([&](const CudaLaunch& on) {
      return LaunchLevels(on, shape_, start, stride, known, levels_);
    });
  }
  void MakeKeyLevels() {
    if (has_levels()) levels_.key = PerToken();
  }

  void KeySums(const float* f, float* parts) {
    if (!ok()) return;
    Launch([&](const CudaLaunch& on) {
      return LaunchSegmentSums(on, {.shape = shape_,
                                    .f = f,
                                    .y = inputs_.v.address(),
                                    .weights = levels_.weight,
                                    .sum_weights = levels_.weight,
                                    .parts = parts});
    });
  }

 private:
  [[nodiscard]] int64_t AllRows() const {
    return int64_t{shape_.batch} * shape_.tokens * shape_.heads;
  }
  [[nodiscard]] FeatureRowsShape Rows() const {
    return {.batch = shape_.batch,
            .tokens = shape_.tokens,
            .heads = shape_.heads,
            .dim = shape_.key_dim,
            .features = shape_.features};
  }
  [[nodiscard]] const int32_t* Valid() const {
    return inputs_.valid.present() ? inputs_.valid.data<int32_t>() : nullptr;
  }
  void Project(const Tensor& x) {
    if (map_.rows == 0 || !ok()) return;
    if (projected_ == nullptr) projected_ = Space(AllRows() * map_.rows);
    if (!ok()) return;
    status_.Update(Run(cuda_, {.m = AllRows(),
                               .n = map_.rows,
                               .k = shape_.key_dim,
                               .a = x.address(),
                               .a_stride = shape_.key_dim,
                               .b = inputs_.projection.address(),
                               .b_stride = shape_.key_dim,
                               .b_transposed = true,
                               .d = projected_,
                               .d_stride = map_.rows}));
  }

  CudaStream& cuda_;
  const LinearAttentionInputs& inputs_;
  const LinearCudaShape shape_;
  const CudaFeatureMap map_;
  LinearLevels levels_;
  float* projected_ = nullptr;      // [B, T, H, rows]
  float* unused_levels_ = nullptr;  // of queries: they cancel
  float* d_projected_ = nullptr;
  float* d_direct_ = nullptr;
  std::vector<CudaScratch> spaces_;
  absl::Status status_;
};

void Call::FeaturesBackward(const Tensor& x, bool keys, const float* f, const float* d_f,
                            Tensor& d_x) {
  if (!has_levels()) Project(x);
  if (map_.rows > 0 && d_projected_ == nullptr) {
    d_projected_ = Space(AllRows() * map_.rows);
    d_direct_ = Space(AllRows() * shape_.key_dim);
  }
  if (!ok() || shape_.tokens == 0) return;
  Launch([&](const CudaLaunch& on) {
    return LaunchFeatureBackward(on, {.shape = Rows(),
                                      .map = map_,
                                      .x = x.address(),
                                      .projected = projected_,
                                      .valid = keys ? Valid() : nullptr,
                                      .f = f,
                                      .d_f = d_f,
                                      .d_x = d_x.address(),
                                      .d_projected = d_projected_,
                                      .d_direct = d_direct_});
  });
  if (map_.rows == 0) return;
  status_.Update(Run(cuda_, {.m = AllRows(),
                             .n = shape_.key_dim,
                             .k = map_.rows,
                             .a = d_projected_,
                             .a_stride = map_.rows,
                             .b = inputs_.projection.address(),
                             .b_stride = shape_.key_dim,
                             .d = d_direct_,
                             .d_stride = shape_.key_dim,
                             .beta = 1}));
  Launch([&](const CudaLaunch& on) {
    return LaunchRound(on, AllRows() * shape_.key_dim, d_direct_, d_x.address());
  });
}

// States before the segments, or of the whole, from the parts; in their place when there is an
// order.
void MakeStates(Call& call, const float* initial, float* parts, float* final, float* total) {
  if (call.shape().causal) {
    call.Launch([&](const CudaLaunch& on) {
      return LaunchStates(on, {.shape = call.shape(),
                               .levels = call.segment_levels(),
                               .initial = initial,
                               .parts = parts,
                               .final = final});
    });
  } else {
    call.Launch([&](const CudaLaunch& on) {
      return LaunchTotal(on, call.shape(), call.segment_levels(), parts, total);
    });
  }
}

}  // namespace

int64_t LinearAttentionSegmentsCuda(const Device& device, const LinearAttentionProblem& p) {
  if (CoveredBySm90(device, p)) return LinearAttentionSegmentsSm90(p);
  if (CoveredByProjected(device, p)) return LinearAttentionSegmentsProjected(p);
  return LinearShapeOf(p).Segments();
}

absl::Status LinearAttentionForwardCuda(Stream& stream, const LinearAttentionProblem& p,
                                        const LinearAttentionInputs& inputs,
                                        const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                        LinearAttentionSaved& saved) {
  if (CoveredBySm90(stream.device(), p)) {
    return LinearAttentionForwardSm90(stream, p, inputs, initial_state, o, final_state, saved);
  }
  if (CoveredByProjected(stream.device(), p)) {
    return LinearAttentionForwardProjected(stream, p, inputs, initial_state, o, final_state, saved);
  }
  Call call(stream, p, inputs);
  float* const q = call.FeatureSpace();
  float* const k = call.FeatureSpace();
  call.MakeKeyLevels();
  call.Features(inputs.q, /*keys=*/false, q);
  call.Features(inputs.k, /*keys=*/true, k);
  call.Levels(Sums(initial_state), call.shape().StateSize(), /*known=*/false, Sums(saved.levels));
  float* const kept = Sums(saved.states);
  float* const parts = call.shape().causal && kept != nullptr ? kept : call.Parts();
  float* states = parts;
  if (!call.shape().causal) {
    states =
        kept != nullptr ? kept : call.Space(call.shape().AllHeads() * call.shape().StateSize());
  }
  call.KeySums(k, parts);
  MakeStates(call, Sums(initial_state), parts, Sums(final_state), states);
  call.Launch([&](const CudaLaunch& on) {
    return LaunchLinearOutputs(on, {.shape = call.shape(),
                                    .levels = call.levels(),
                                    .q = q,
                                    .k = k,
                                    .v = inputs.v.address(),
                                    .states = states,
                                    .lift_small = p.guard == DenominatorGuard::kLiftSmall,
                                    .guard_epsilon = static_cast<float>(p.guard_epsilon),
                                    .o = o.address(),
                                    .denominators = Sums(saved.denominators)});
  });
  return call.status();
}

absl::Status LinearAttentionBackwardCuda(Stream& stream, const LinearAttentionProblem& p,
                                         const LinearAttentionInputs& inputs, const Tensor& o,
                                         const LinearAttentionSaved& saved, const Tensor& d_o,
                                         const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                         Tensor& d_v, Tensor& d_initial_state) {
  if (CoveredBySm90(stream.device(), p)) {
    return LinearAttentionBackwardSm90(stream, p, inputs, o, saved, d_o, d_final_state, d_q, d_k,
                                       d_v, d_initial_state);
  }
  if (CoveredByProjected(stream.device(), p)) {
    return LinearAttentionBackwardProjected(stream, p, inputs, o, saved, d_o, d_final_state, d_q,
                                            d_k, d_v, d_initial_state);
  }
  Call call(stream, p, inputs);
  const LinearCudaShape& shape = call.shape();
  float* const q = call.FeatureSpace();
  float* const k = call.FeatureSpace();
  float* const d_f = call.FeatureSpace();
  call.MakeKeyLevels();
  call.Features(inputs.q, /*keys=*/false, q);
  call.Features(inputs.k, /*keys=*/true, k);
  call.Levels(Sums(saved.states), shape.States() * shape.StateSize(), /*known=*/true,
              Sums(saved.levels));
  const LinearSlopes slopes{.inverse = call.PerToken(),
                            .slopes = call.PerToken(),
                            .faded_inverse = call.PerToken(),
                            .faded_slopes = call.PerToken()};
  float* const parts = call.Parts();
  float* const gradients = shape.causal ? parts : call.Space(shape.AllHeads() * shape.StateSize());
  if (!call.ok()) return call.status();
  call.Launch([&](const CudaLaunch& on) {
    return LaunchLinearSlopes(on, shape, o.address(), d_o.address(), Sums(saved.denominators),
                              call.levels().fading, slopes);
  });
  call.Launch([&](const CudaLaunch& on) {
    return LaunchSegmentSums(on, {.shape = shape,
                                  .f = q,
                                  .y = d_o.address(),
                                  .weights = slopes.faded_inverse,
                                  .sum_weights = slopes.faded_slopes,
                                  .parts = parts});
  });
  if (shape.causal) {
    call.Launch([&](const CudaLaunch& on) {
      return LaunchStateGradients(on, {.shape = shape,
                                       .levels = call.segment_levels(),
                                       .initial = Sums(d_final_state),
                                       .parts = parts,
                                       .final = Sums(d_initial_state)});
    });
  } else {
    call.Launch(
        [&](const CudaLaunch& on) { return LaunchTotal(on, shape, nullptr, parts, gradients); });
  }
  const LinearGradientsArgs args{.shape = shape,
                                 .levels = call.levels(),
                                 .slopes = slopes,
                                 .q = q,
                                 .k = k,
                                 .v = inputs.v.address(),
                                 .d_o = d_o.address(),
                                 .states = Sums(saved.states),
                                 .gradients = gradients};
  call.Launch([&](const CudaLaunch& on) { return LaunchQueryGradients(on, args, d_f); });
  call.FeaturesBackward(inputs.q, /*keys=*/false, q, d_f, d_q);
  call.Launch([&](const CudaLaunch& on) { return LaunchKeyGradients(on, args, d_f); });
  call.FeaturesBackward(inputs.k, /*keys=*/true, k, d_f, d_k);
  call.Launch([&](const CudaLaunch& on) { return LaunchValueGradients(on, args, d_v.address()); });
  return call.status();
}

absl::Status LinearAttentionUndoCuda(Stream& stream, const LinearAttentionProblem& p,
                                     const LinearAttentionInputs& inputs, Tensor& state) {
  if (CoveredBySm90(stream.device(), p)) {
    return LinearAttentionUndoSm90(stream, p, inputs, state);
  }
  Call call(stream, p, inputs);
  float* const k = call.FeatureSpace();
  float* const parts = call.Parts();
  call.Features(inputs.k, /*keys=*/true, k);
  call.KeySums(k, parts);
  call.Launch(
      [&](const CudaLaunch& on) { return LaunchSubtract(on, call.shape(), parts, Sums(state)); });
  return call.status();
}

}  // namespace weft::kernels

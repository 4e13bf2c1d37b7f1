#include "kernels/attention/linear_attention/cpu/chunk.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Levels are differences from it; that of nothing is anything.
float UnitOf(float level) { return level == kNothing ? 0.0F : level; }

}  // namespace

float LevelFactor(float level, float unit) {
  // In double, so that the last bit does not depend on the mathematics library.
  return level == unit ? 1.0F : static_cast<float>(std::exp(double{level} - double{UnitOf(unit)}));
}

void LinearState::Clear(bool has_levels) {
  std::fill_n(r, sums(), 0.0F);
  level = has_levels ? kNothing : 0.0F;
}

void LinearState::Load(const float* from, bool has_levels) {
  if (from == nullptr) return Clear(has_levels);
  if (from != r) std::copy_n(from, sums(), r);
  level = has_levels ? from[sums()] : 0.0F;
  const bool empty = std::all_of(z, z + features, [](float sum) { return sum == 0.0F; });
  if (has_levels && empty) level = kNothing;
}

void LinearState::Store(float* to) const {
  if (to == nullptr) return;
  if (to != r) std::copy_n(r, sums(), to);
  to[sums()] = UnitOf(level);
}

void LinearState::Scale(const VectorTable& vector, float factor) {
  if (factor != 1.0F) vector.scale(factor, r, r, sums());
}

void LinearState::Add(const VectorTable& vector, const LinearState& other) {
  const float highest = std::max(level, other.level);
  vector.combine(LevelFactor(level, highest), r, LevelFactor(other.level, highest), other.r, r,
                 sums());
  level = highest;
}

KeySpace::KeySpace(const LinearPass& pass, Carver& carver) {
  const int64_t n = pass.chunk_rows();
  k = carver.Take(n * pass.problem().key_dim);
  v = carver.Take(n * pass.problem().value_dim);
  f = carver.Take(n * pass.features().count());
  kept = carver.Take(n * pass.features().kept());
  levels = carver.Take(n);
  running = carver.Take(n);
  fading = carver.Take(n);
  weight = carver.Take(n);
  sums = carver.Take(pass.features().count());
}

void LinearHead::LoadKeys(int64_t t, int64_t n, const KeySpace& space) const {
  k.Load(t, n, space.k);
  v.Load(t, n, space.v);
  features.Forward(space.k, n, space.kept, space.f, space.levels);
  if (valid == nullptr) return;
  for (int64_t i = 0; i < n; ++i) {
    if (valid[t + i] != 0) continue;
    std::fill_n(space.f + i * features.count(), features.count(), 0.0F);
    space.levels[i] = kNothing;
  }
}

float LinearHead::RunLevels(float before, int64_t n, const KeySpace& space) const {
  if (!has_levels()) return 0.0F;
  float level = before;
  for (int64_t i = 0; i < n; ++i) {
    level = std::max(level, space.levels[i]);
    space.running[i] = level;
  }
  for (int64_t i = 0; i < n; ++i) {
    space.fading[i] = before - UnitOf(space.running[i]);
    space.weight[i] = space.levels[i] - UnitOf(level);
  }
  vector.exp(space.fading, space.fading, n);
  vector.exp(space.weight, space.weight, n);
  return level;
}

void LinearHead::LevelRow(const KeySpace& space, int64_t i, float* row) const {
  vector.exp_sum(1.0F, space.levels, UnitOf(space.running[i]), row, i + 1);
}

void LinearHead::Absorb(float level, int64_t n, const KeySpace& space, LinearState& state) const {
  const int64_t count = state.features;
  if (has_levels()) {
    state.Scale(vector, LevelFactor(state.level, level));
    for (int64_t i = 0; i < n; ++i) {
      float* const v_i = space.v + i * state.width;
      vector.scale(space.weight[i], v_i, v_i, state.width);
    }
  }
  Gemm(Transpose::kYes, Transpose::kNo, count, state.width, n, 1.0F, space.f, count, space.v,
       state.width, 1.0F, state.r, state.width);
  // The sum of the chunk first: many small terms added to a large sum one by one lose more.
  std::fill_n(space.sums, count, 0.0F);
  for (int64_t i = 0; i < n; ++i) {
    vector.axpy(has_levels() ? space.weight[i] : 1.0F, space.f + i * count, space.sums, count);
  }
  vector.add(state.z, space.sums, state.z, count);
  state.level = level;
}

LinearPass::LinearPass(CpuStream& cpu, const LinearAttentionProblem& problem,
                       const LinearAttentionInputs& inputs)
    : cpu_(cpu),
      problem_(problem),
      inputs_(inputs),
      features_(cpu.vector(), problem.features, problem.key_dim,
                inputs.projection.present() ? inputs.projection.data<float>() : nullptr),
      segments_(SegmentsOf(problem)) {}

int64_t LinearPass::chunk_rows() const {
  return std::min(problem_.chunk, std::max<int64_t>(problem_.tokens, 1));
}

HeadRows LinearPass::Rows(const Tensor& tensor, int64_t index) const {
  return {tensor, index / problem_.heads, index % problem_.heads};
}

LinearHead LinearPass::Head(int64_t index) const {
  const int32_t* valid = nullptr;
  if (inputs_.valid.present()) {
    valid = inputs_.valid.data<int32_t>() + index / problem_.heads * problem_.tokens;
  }
  return {problem_, cpu_.vector(), features_, Rows(inputs_.k, index), Rows(inputs_.v, index),
          valid};
}

float* LinearPass::State(const Tensor& tensor, int64_t index) const {
  return tensor.present() ? tensor.data<float>() + index * state_size() : nullptr;
}

void LinearPass::ForChunks(int64_t segment, absl::FunctionRef<void(int64_t, int64_t)> body) const {
  const int64_t first = segment * segments_.tokens;
  const int64_t last = std::min(first + segments_.tokens, problem_.tokens);
  for (int64_t t = first; t < last; t += problem_.chunk) {
    body(t, std::min(problem_.chunk, last - t));
  }
}

void LinearPass::ForChunksBackwards(int64_t segment,
                                    absl::FunctionRef<void(int64_t, int64_t)> body) const {
  const int64_t first = segment * segments_.tokens;
  const int64_t last = std::min(first + segments_.tokens, problem_.tokens);
  const int64_t chunks = (last - first + problem_.chunk - 1) / problem_.chunk;
  for (int64_t t = first + (chunks - 1) * problem_.chunk; t >= first; t -= problem_.chunk) {
    body(t, std::min(problem_.chunk, last - t));
  }
}

void LinearPass::SumSegments(int64_t count, float* parts) const {
  cpu_.ParallelFor(heads() * count, [&](int64_t task) {
    const LinearHead head = Head(task / count);
    const auto space = ThreadSpace<KeySpace>(*this);
    float* const part = parts + task * state_size();
    LinearState state(problem_, part);
    state.Clear(head.has_levels());
    ForChunks(task % count, [&](int64_t t, int64_t n) {
      head.LoadKeys(t, n, space);
      head.Absorb(head.RunLevels(state.level, n, space), n, space, state);
    });
    state.Store(part);
  });
}

}  // namespace weft::kernels

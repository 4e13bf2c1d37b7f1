#include "kernels/attention/polysketch/cpu/segments.h"

#include <algorithm>
#include <cmath>

namespace weft::kernels {
namespace {

// Walks that are worth having at once. Every further segment costs one more pass over its keys, so
// heads alone are used when there are as many.
constexpr int64_t kWalksWanted = 8;

constexpr int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

float* HeadOf(const Tensor& tensor, int64_t head) {
  return tensor.data<float>() + head * tensor.dim(2) * tensor.dim(3);
}

}  // namespace

SegmentPlan::SegmentPlan(const PolysketchProblem& problem)
    : heads(problem.batch * problem.heads), keys(problem.keys) {
  const int64_t all = std::max<int64_t>(problem.keys, 1);
  block_keys =
      problem.weights == PolysketchWeights::kExact ? all : std::min<int64_t>(problem.block, all);
  blocks = DivideUp(keys, block_keys);
  segment_blocks =
      DivideUp(std::max<int64_t>(blocks, 1),
               std::clamp<int64_t>(DivideUp(kWalksWanted, heads), 1, std::max<int64_t>(blocks, 1)));
  segments = std::max<int64_t>(DivideUp(blocks, segment_blocks), 1);
}

SegmentStates::SegmentStates(const SegmentedCall& call, Carver& carver)
    : values_(SelfProducts(call.problem.sketch_dim) * call.problem.head_dim),
      mass_(call.problem.sketch_dim * call.problem.sketch_dim),
      segments_(call.plan.segments),
      home_(segments_ == 1 ? call.home : PolysketchState{}),
      memory_(home_.values.present()
                  ? nullptr
                  : carver.Take(call.plan.heads * segments_ * (values_ + mass_))) {}

SketchState SegmentStates::At(int64_t head, int64_t segment) const {
  if (home_.values.present()) return {HeadOf(home_.values, head), HeadOf(home_.mass, head)};
  float* const first = memory_ + (head * segments_ + segment) * (values_ + mass_);
  return {first, first + values_};
}

void SegmentStates::Load(const PolysketchState& from, int64_t head, int64_t segment) const {
  if (!from.values.present()) return Clear(head, segment);
  const SketchState state = At(head, segment);
  if (HeadOf(from.values, head) != state.values) {
    std::copy_n(HeadOf(from.values, head), values_, state.values);
  }
  if (HeadOf(from.mass, head) != state.mass) {
    std::copy_n(HeadOf(from.mass, head), mass_, state.mass);
  }
}

void SegmentStates::Store(int64_t head, int64_t segment, PolysketchState& to) const {
  if (!to.values.present()) return;
  const SketchState state = At(head, segment);
  if (HeadOf(to.values, head) != state.values) {
    std::copy_n(state.values, values_, HeadOf(to.values, head));
  }
  if (HeadOf(to.mass, head) != state.mass) {
    std::copy_n(state.mass, mass_, HeadOf(to.mass, head));
  }
}

void SegmentStates::Clear(int64_t head, int64_t segment) const {
  const SketchState state = At(head, segment);
  std::fill_n(state.values, values_, 0.0F);
  std::fill_n(state.mass, mass_, 0.0F);
}

void SegmentStates::Add(const VectorTable& vector, int64_t head, int64_t from, int64_t to) const {
  const SketchState sum = At(head, to);
  const SketchState other = At(head, from);
  vector.add(sum.values, other.values, sum.values, values_);
  vector.add(sum.mass, other.mass, sum.mass, mass_);
}

NearPairs HeadCall::Near() const {
  const bool sketched = p.weights == PolysketchWeights::kSketched;
  const int squarings = sketched || p.degree == 2 ? 1 : p.degree == 4 ? 2 : 3;
  return {.vector = vector,
          .q = {sketched ? in.phi_q : in.q, b, h},
          .k = {sketched ? in.phi_k : in.k, b, h},
          .v = {in.v, b, h},
          .valid = valid,
          .offset = offset,
          .causal = p.causal,
          .squarings = squarings,
          .scale = sketched ? root : static_cast<float>(1.0 / p.kappa)};
}

void HeadCall::LoadQueryFeatures(int64_t first, int64_t count, float* phi) const {
  const HeadRows rows(in.phi_q, b, h);
  for (int64_t i = 0; i < count; ++i) {
    vector.scale(root, rows.Row(first + i), phi + i * rows.width, rows.width);
  }
}

void HeadCall::LoadKeyFeatures(int64_t first, int64_t count, float* phi) const {
  const HeadRows rows(in.phi_k, b, h);
  rows.Load(first, count, phi);
  if (valid == nullptr) return;
  for (int64_t j = 0; j < count; ++j) {
    if (valid[first + j] == 0) std::fill_n(phi + j * rows.width, rows.width, 0.0F);
  }
}

void FoldKeys(const HeadCall& call, const FoldSpace& space, TokenRange keys,
              const SketchState& state) {
  const SketchMachine machine(call.vector, space.sketch);
  ForPieces(keys, [&](int64_t first, int64_t count) {
    call.LoadKeyFeatures(first, count, space.phi);
    HeadRows(call.in.v, call.b, call.h).Load(first, count, space.v);
    machine.Add({count, space.phi, space.v, nullptr}, state);
  });
}

void SumKeys(CpuStream& cpu, const PolysketchProblem& p, const PolysketchInputs& in,
             const PolysketchState& initial, const SegmentPlan& plan, const SegmentStates& states) {
  const int64_t shift = p.causal ? 1 : 0;  // what a causal segment adds belongs to the next one
  cpu.ParallelFor(plan.heads * plan.segments, [&](int64_t index) {
    const int64_t head = index % plan.heads;
    const int64_t segment = index / plan.heads;
    if (p.causal && segment == 0) states.Load(initial, head, 0);
    if (segment + shift == plan.segments) return;
    states.Clear(head, segment + shift);
    FoldKeys(HeadCall(p, in, cpu.vector(), head), ThreadSpace<FoldSpace>(p),
             plan.KeysOfSegment(segment), states.At(head, segment + shift));
  });
  cpu.ParallelFor(plan.heads, [&](int64_t head) {
    for (int64_t segment = 1; segment < plan.segments; ++segment) {
      states.Add(cpu.vector(), head, p.causal ? segment - 1 : segment, p.causal ? segment : 0);
    }
  });
}

}  // namespace weft::kernels

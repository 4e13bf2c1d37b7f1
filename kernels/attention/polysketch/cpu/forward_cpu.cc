// The forward pass of polynomial attention, fp32. Within a block pairs are computed one by one (a
// tile of products, its powers, a product with the values); what came before the block is read from
// the state. Heads with many blocks are cut into segments: first the sum that each segment adds to
// the state, then their prefix sums, then all walks at once.
#include <algorithm>

#include "kernels/attention/polysketch/cpu/segments.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"

namespace weft::kernels {
namespace {

constexpr int64_t kRows = SketchSpace::kRows;
static_assert(kRows == kNearQueries);

struct ForwardSpace {
  ForwardSpace(const PolysketchProblem& p, Carver& carver)
      : fold(p, carver),
        near(std::max(p.head_dim, p.sketch_dim), p.head_dim, carver),
        num(carver.Take(kRows * p.head_dim)),
        near_mass(carver.Take(kRows)),
        far_mass(carver.Take(kRows)) {}

  FoldSpace fold;
  NearForwardSpace near;
  float* num;        // [rows, D]
  float* near_mass;  // [rows]
  float* far_mass;   // [rows]
};

// One head, its results, and the space of this thread.
struct ForwardHead {
  const HeadCall& call;
  const ForwardSpace& space;
  HeadRows o;
  float* total;  // [T]; null: not wanted
  float* far;    // [T]
};

ForwardHead HeadOf(const HeadCall& call, const ForwardSpace& space, const Tensor& o,
                   const PolysketchSaved& saved) {
  const int64_t row = (call.b * call.p.heads + call.h) * call.p.queries;
  const bool saves = saved.total.present();
  return {.call = call,
          .space = space,
          .o = {o, call.b, call.h},
          .total = saves ? saved.total.data<float>() + row : nullptr,
          .far = saves ? saved.far.data<float>() + row : nullptr};
}

// At most kRows queries: what they read from the state (null: nothing is there), what from pairs
// with `keys`, and the quotient.
void ForwardQueries(const ForwardHead& head, int64_t first, int64_t count, const SketchState* state,
                    TokenRange keys) {
  const HeadCall& call = head.call;
  const ForwardSpace& space = head.space;
  const int64_t dim = call.p.head_dim;
  std::fill_n(space.near_mass, count, 0.0F);
  if (state != nullptr) {
    const SketchMachine machine(call.vector, space.fold.sketch);
    call.LoadQueryFeatures(first, count, space.fold.phi);
    machine.Read(count, space.fold.phi, *state, 0.0F, space.num);
    machine.ReadMass(count, space.fold.phi, *state, space.far_mass);
  } else {
    std::fill_n(space.num, count * dim, 0.0F);
    std::fill_n(space.far_mass, count, 0.0F);
  }
  if (keys.begin < keys.end) {
    NearForward(call.Near(), {first, count, keys.begin, keys.end}, space.near, space.num,
                space.near_mass);
  }
  const float c0 = static_cast<float>(call.p.c0) * call.root * call.root;
  for (int64_t i = 0; i < count; ++i) {
    const float far = std::max(space.far_mass[i], 0.0F);
    const float total = c0 + far + space.near_mass[i];
    call.vector.scale(total > 0 ? 1.0F / total : 0.0F, space.num + i * dim, head.o.Row(first + i),
                      dim);
    if (head.total == nullptr) continue;
    head.total[first + i] = total;
    head.far[first + i] = far;
  }
}

// The keys that queries [first, first + count) of a range of keys meet one by one.
TokenRange NearKeys(const HeadCall& call, TokenRange keys, int64_t first, int64_t count) {
  if (!call.p.causal) return keys;
  return {keys.begin, std::min(keys.end, call.offset + first + count)};
}

// All pairs: queries are independent of each other.
void ForwardExact(CpuStream& cpu, const PolysketchProblem& p, const PolysketchInputs& in, Tensor& o,
                  PolysketchSaved& saved) {
  const int64_t heads = p.batch * p.heads;
  const int64_t tiles = (p.queries + kRows - 1) / kRows;
  cpu.ParallelFor(heads * tiles, [&](int64_t index) {
    const auto space = ThreadSpace<ForwardSpace>(p);
    const HeadCall call(p, in, cpu.vector(), index % heads);
    // The last queries of a causal problem meet the most keys: they start first.
    const int64_t first = (tiles - 1 - index / heads) * kRows;
    const int64_t count = std::min(kRows, p.queries - first);
    ForwardQueries(HeadOf(call, space, o, saved), first, count, nullptr,
                   NearKeys(call, {0, p.keys}, first, count));
  });
}

// The blocks of one segment, one after the other.
void WalkSegment(const ForwardHead& head, const SegmentPlan& plan, int64_t segment,
                 bool state_is_zero, bool last_state_wanted, const SketchState& state) {
  const TokenRange blocks = plan.BlocksOfSegment(segment);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const TokenRange keys = plan.KeysOfBlock(block);
    ForPieces(head.call.QueriesOf(keys), [&](int64_t first, int64_t count) {
      ForwardQueries(head, first, count, state_is_zero ? nullptr : &state,
                     NearKeys(head.call, keys, first, count));
    });
    const bool read_again = block + 1 < blocks.end || last_state_wanted;
    if (!read_again || !Folds(head.call.p, keys)) continue;
    FoldKeys(head.call, head.space.fold, keys, state);
    state_is_zero = false;
  }
}

void ForwardCausal(CpuStream& cpu, const PolysketchProblem& p, const PolysketchInputs& in,
                   const PolysketchState& initial, Tensor& o, PolysketchState& final,
                   PolysketchSaved& saved) {
  const SegmentPlan plan(p);
  const bool final_wanted = final.values.present();
  // A state that nobody changes is read where it is, and one that is wanted grows where it stays.
  const PolysketchState& home = final_wanted || plan.blocks > 1 ? final : initial;
  const auto states = ThreadSpace<SegmentStates>(SegmentedCall{p, plan, home});
  if (plan.segments > 1) SumKeys(cpu, p, in, initial, plan, states);
  cpu.ParallelFor(plan.heads * plan.segments, [&](int64_t index) {
    const int64_t head = index % plan.heads;
    const int64_t segment = index / plan.heads;
    const bool last = segment + 1 == plan.segments;
    if (plan.segments == 1) states.Load(initial, head, 0);
    const auto space = ThreadSpace<ForwardSpace>(p);
    const HeadCall call(p, in, cpu.vector(), head);
    WalkSegment(HeadOf(call, space, o, saved), plan, segment,
                segment == 0 && !initial.values.present(), last && final_wanted,
                states.At(head, segment));
    if (last) states.Store(head, segment, final);
  });
}

// Sketched weights over all keys: everything is in the state.
void ForwardWhole(CpuStream& cpu, const PolysketchProblem& p, const PolysketchInputs& in, Tensor& o,
                  PolysketchSaved& saved) {
  const SegmentPlan plan(p);
  const PolysketchState nowhere;
  const auto states = ThreadSpace<SegmentStates>(SegmentedCall{p, plan, nowhere});
  SumKeys(cpu, p, in, nowhere, plan, states);
  const int64_t tiles = (p.queries + kRows - 1) / kRows;
  cpu.ParallelFor(plan.heads * tiles, [&](int64_t index) {
    const auto space = ThreadSpace<ForwardSpace>(p);
    const HeadCall call(p, in, cpu.vector(), index % plan.heads);
    const int64_t first = index / plan.heads * kRows;
    const SketchState state = states.At(index % plan.heads, 0);
    ForwardQueries(HeadOf(call, space, o, saved), first, std::min(kRows, p.queries - first), &state,
                   {0, 0});
  });
}

}  // namespace

absl::Status PolysketchForwardCpu(Stream& stream, const PolysketchProblem& p,
                                  const PolysketchInputs& inputs, const PolysketchState& initial,
                                  Tensor& o, PolysketchState& final, PolysketchSaved& saved) {
  CpuStream& cpu = AsCpuStream(stream);
  if (p.weights == PolysketchWeights::kExact) {
    ForwardExact(cpu, p, inputs, o, saved);
  } else if (p.causal) {
    ForwardCausal(cpu, p, inputs, initial, o, final, saved);
  } else {
    ForwardWhole(cpu, p, inputs, o, saved);
  }
  return absl::OkStatus();
}

absl::Status PolysketchUndoCpu(Stream& stream, const PolysketchProblem& p,
                               const PolysketchInputs& inputs, PolysketchState& state) {
  CpuStream& cpu = AsCpuStream(stream);
  PolysketchProblem whole = p;
  whole.causal = false;  // so that the sum of all keys lies in the first state
  const SegmentPlan plan(whole);
  const PolysketchState nowhere;
  const auto states = ThreadSpace<SegmentStates>(SegmentedCall{whole, plan, nowhere});
  SumKeys(cpu, whole, inputs, nowhere, plan, states);
  cpu.ParallelFor(plan.heads, [&](int64_t head) {
    const SketchState sum = states.At(head, 0);
    const int64_t values = state.values.dim(2) * state.values.dim(3);
    const int64_t mass = state.mass.dim(2) * state.mass.dim(3);
    cpu.vector().axpy(-1.0F, sum.values, state.values.data<float>() + head * values, values);
    cpu.vector().axpy(-1.0F, sum.mass, state.mass.data<float>() + head * mass, mass);
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

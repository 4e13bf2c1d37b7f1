// The backward pass of polynomial attention, fp32. With w_ij the weights, dL/dw_ij = (d_o_i . v_j -
// d_o_i . o_i) / Z_i for every pair, near or far. A walk forwards makes the states S, E again and
// gives the gradients of queries and of all near pairs; a walk backwards carries the gradients of
// the states, which are sums over later queries just as the states are sums over earlier keys, and
// gives those of far keys and values. Segments as in the forward pass.
#include <algorithm>

#include "kernels/attention/polysketch/cpu/segments.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"

namespace weft::kernels {
namespace {

constexpr int64_t kRows = SketchSpace::kRows;

struct BackwardSpace {
  BackwardSpace(const PolysketchProblem& p, Carver& carver)
      : width(p.weights == PolysketchWeights::kSketched ? p.sketch_dim : p.head_dim),
        fold(p, carver),
        near(width, p.head_dim, carver),
        d_num(carver.Take(kRows * p.head_dim)),
        d_den(carver.Take(kRows)),
        d_far(carver.Take(kRows)),
        d_q(carver.Take(kRows * width)),
        d_phi(carver.Take(kRows * p.sketch_dim)),
        d_v(carver.Take(kRows * p.head_dim)),
        near_d_k(carver.Take(SegmentPlan(p).block_keys * width)),
        near_d_v(carver.Take(SegmentPlan(p).block_keys * p.head_dim)) {}

  int64_t width;  // of the rows whose products near pairs take
  FoldSpace fold;
  NearBackwardSpace near;
  float* d_num;     // [rows, D]: gradients of the numerators
  float* d_den;     // [rows]: and of the near denominators
  float* d_far;     // [rows]: and of the far ones
  float* d_q;       // [rows, width]
  float* d_phi;     // [rows, r]
  float* d_v;       // [rows, D]
  float* near_d_k;  // [block, width]
  float* near_d_v;  // [block, D]
};

// What a backward pass is given and gives, for all heads.
struct BackwardCall {
  CpuStream& cpu;
  const PolysketchProblem& p;
  const PolysketchInputs& in;
  const Tensor& o;
  const PolysketchSaved& saved;
  const Tensor& d_o;
  const PolysketchGradients& gradients;
};

// One head of it, and the space of this thread.
class BackwardHead {
 public:
  BackwardHead(const BackwardCall& whole, int64_t head, const BackwardSpace& space)
      : call_(whole.p, whole.in, whole.cpu.vector(), head),
        space_(space),
        machine_(call_.vector, space.fold.sketch),
        o_(whole.o, call_.b, call_.h),
        d_o_(whole.d_o, call_.b, call_.h),
        total_(whole.saved.total.data<float>() + head * whole.p.queries),
        far_(whole.saved.far.data<float>() + head * whole.p.queries),
        gradients_(whole.gradients) {}

  [[nodiscard]] const HeadCall& call() const { return call_; }

  // d_num, d_den, d_far of at most kRows queries.
  void LoadQuerySlopes(int64_t first, int64_t count) const;
  // P += what these queries ask of the state before them; and their features are in fold.phi.
  void FoldQueries(TokenRange queries, const SketchState& d_state) const;
  // Gradients of the queries of one block and of its near pairs; `state` null: nothing came before.
  void BlockForwards(TokenRange keys, const SketchState* state) const;
  // Gradients of the keys of one block through the state after it; null: nobody reads it.
  void BlockBackwards(TokenRange keys, const SketchState* d_state) const;
  // Gradients of keys that meet nobody one by one, to which BlockBackwards adds.
  void ClearKeys(TokenRange keys) const;
  // Gradients of queries that read everything from the state.
  void QueriesOfWhole(int64_t first, int64_t count, const SketchState& state) const;

 private:
  [[nodiscard]] bool sketched() const { return call_.p.weights == PolysketchWeights::kSketched; }
  [[nodiscard]] HeadRows Rows(const Tensor& tensor) const { return {tensor, call_.b, call_.h}; }
  // d_phi of queries whose slopes are loaded, or zero.
  void FarQueries(int64_t first, int64_t count, const SketchState* state) const;

  HeadCall call_;
  const BackwardSpace& space_;
  SketchMachine machine_;
  HeadRows o_;
  HeadRows d_o_;
  const float* total_;  // [T]
  const float* far_;    // [T]
  const PolysketchGradients& gradients_;
};

void BackwardHead::LoadQuerySlopes(int64_t first, int64_t count) const {
  const int64_t dim = call_.p.head_dim;
  for (int64_t i = 0; i < count; ++i) {
    const float* const d_o = d_o_.Row(first + i);
    const float total = total_[first + i];
    const float inverse = total > 0 ? 1.0F / total : 0.0F;
    call_.vector.scale(inverse, d_o, space_.d_num + i * dim, dim);
    space_.d_den[i] = -inverse * call_.vector.dot(d_o, o_.Row(first + i), dim);
    space_.d_far[i] = far_[first + i] > 0 ? space_.d_den[i] : 0.0F;
  }
}

void BackwardHead::FoldQueries(TokenRange queries, const SketchState& d_state) const {
  ForPieces(queries, [&](int64_t first, int64_t count) {
    LoadQuerySlopes(first, count);
    call_.LoadQueryFeatures(first, count, space_.fold.phi);
    machine_.Add({count, space_.fold.phi, space_.d_num, space_.d_far}, d_state);
  });
}

void BackwardHead::FarQueries(int64_t first, int64_t count, const SketchState* state) const {
  const int64_t r = call_.p.sketch_dim;
  if (state == nullptr) {
    std::fill_n(space_.d_phi, count * r, 0.0F);
    return;
  }
  call_.LoadQueryFeatures(first, count, space_.fold.phi);
  machine_.Slopes({count, space_.fold.phi, space_.d_num, space_.d_far}, *state, /*add=*/false,
                  space_.d_phi);
  call_.vector.scale(call_.root, space_.d_phi, space_.d_phi, count * r);
}

void BackwardHead::BlockForwards(TokenRange keys, const SketchState* state) const {
  const int64_t count_keys = keys.end - keys.begin;
  std::fill_n(space_.near_d_k, count_keys * space_.width, 0.0F);
  std::fill_n(space_.near_d_v, count_keys * call_.p.head_dim, 0.0F);
  const TokenRange queries =
      call_.p.causal ? call_.QueriesOf(keys) : TokenRange{0, call_.p.queries};
  ForPieces(queries, [&](int64_t first, int64_t count) {
    LoadQuerySlopes(first, count);
    const int64_t end =
        call_.p.causal ? std::min(keys.end, call_.offset + first + count) : keys.end;
    NearBackward(call_.Near(), {first, count, keys.begin, end}, space_.near, space_.d_num,
                 space_.d_den, space_.d_q, space_.near_d_k, space_.near_d_v);
    if (call_.p.weights != PolysketchWeights::kExact) FarQueries(first, count, state);
    if (sketched()) {
      call_.vector.add(space_.d_q, space_.d_phi, space_.d_phi, count * space_.width);
    } else {
      Rows(gradients_.q).Store(first, count, space_.d_q);
    }
    if (call_.p.weights != PolysketchWeights::kExact) {
      Rows(gradients_.phi_q).Store(first, count, space_.d_phi);
    }
  });
  Rows(sketched() ? gradients_.phi_k : gradients_.k).Store(keys.begin, count_keys, space_.near_d_k);
  Rows(gradients_.v).Store(keys.begin, count_keys, space_.near_d_v);
}

void BackwardHead::BlockBackwards(TokenRange keys, const SketchState* d_state) const {
  const HeadRows d_phi_rows = Rows(gradients_.phi_k);
  const HeadRows d_v_rows = Rows(gradients_.v);
  ForPieces(keys, [&](int64_t first, int64_t count) {
    if (sketched()) {
      d_phi_rows.Load(first, count, space_.d_phi);
    } else {
      std::fill_n(space_.d_phi, count * call_.p.sketch_dim, 0.0F);
    }
    if (d_state != nullptr) {
      call_.LoadKeyFeatures(first, count, space_.fold.phi);
      Rows(call_.in.v).Load(first, count, space_.fold.v);
      d_v_rows.Load(first, count, space_.d_v);
      machine_.Slopes({count, space_.fold.phi, space_.fold.v, nullptr}, *d_state, /*add=*/true,
                      space_.d_phi);
      machine_.Read(count, space_.fold.phi, *d_state, /*beta=*/1.0F, space_.d_v);
      d_v_rows.Store(first, count, space_.d_v);
    }
    d_phi_rows.Store(first, count, space_.d_phi);
  });
}

void BackwardHead::ClearKeys(TokenRange keys) const {
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    std::fill_n(Rows(gradients_.phi_k).Row(j), call_.p.sketch_dim, 0.0F);
    std::fill_n(Rows(gradients_.v).Row(j), call_.p.head_dim, 0.0F);
  }
}

void BackwardHead::QueriesOfWhole(int64_t first, int64_t count, const SketchState& state) const {
  LoadQuerySlopes(first, count);
  FarQueries(first, count, &state);
  Rows(gradients_.phi_q).Store(first, count, space_.d_phi);
}

// ---- All heads

// Exact weights: a head is one block.
void BackwardExact(const BackwardCall& whole) {
  const SegmentPlan plan(whole.p);
  whole.cpu.ParallelFor(plan.heads, [&](int64_t head) {
    const auto space = ThreadSpace<BackwardSpace>(whole.p);
    const BackwardHead backward(whole, head, space);
    backward.BlockForwards({0, whole.p.keys}, nullptr);
  });
}

struct BothStates {
  BothStates(const SegmentedCall& call, Carver& carver)
      : past(call, carver), d_later(call, carver) {}

  SegmentStates past;     // before each segment
  SegmentStates d_later;  // gradients of the states after each segment
};

// Causal: the gradient of the state after each segment becomes what later queries ask of it, from
// d_final at the end. Not causal: the first becomes what all queries ask.
void SumQueries(const BackwardCall& whole, const PolysketchState& d_final, const SegmentPlan& plan,
                const SegmentStates& d_states) {
  const bool causal = whole.p.causal;
  whole.cpu.ParallelFor(plan.heads * plan.segments, [&](int64_t index) {
    const int64_t head = index % plan.heads;
    const int64_t segment = index / plan.heads;
    const int64_t to = causal ? segment - 1 : segment;  // the segment that is asked
    if (causal && segment + 1 == plan.segments) d_states.Load(d_final, head, segment);
    if (to < 0) return;
    const auto space = ThreadSpace<BackwardSpace>(whole.p);
    const BackwardHead backward(whole, head, space);
    const int64_t share = (whole.p.queries + plan.segments - 1) / plan.segments;
    const TokenRange queries = causal
                                   ? backward.call().QueriesOf(plan.KeysOfSegment(segment))
                                   : TokenRange{std::min(segment * share, whole.p.queries),
                                                std::min((segment + 1) * share, whole.p.queries)};
    d_states.Clear(head, to);
    backward.FoldQueries(queries, d_states.At(head, to));
  });
  whole.cpu.ParallelFor(plan.heads, [&](int64_t head) {
    for (int64_t segment = plan.segments - 2; segment >= 0 && causal; --segment) {
      d_states.Add(whole.cpu.vector(), head, segment + 1, segment);
    }
    for (int64_t segment = 1; segment < plan.segments && !causal; ++segment) {
      d_states.Add(whole.cpu.vector(), head, segment, 0);
    }
  });
}

// Both walks over one segment of one head.
void WalkSegment(const BackwardHead& head, const SegmentPlan& plan, int64_t segment,
                 const BackwardSpace& space, bool has_initial, bool has_final,
                 const SketchState& state, const SketchState& d_state) {
  const PolysketchProblem& p = head.call().p;
  const TokenRange blocks = plan.BlocksOfSegment(segment);
  bool state_is_zero = segment == 0 && !has_initial;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const TokenRange keys = plan.KeysOfBlock(block);
    head.BlockForwards(keys, state_is_zero ? nullptr : &state);
    if (block + 1 == blocks.end) break;
    FoldKeys(head.call(), space.fold, keys, state);
    state_is_zero = false;
  }
  bool d_state_is_zero = segment + 1 == plan.segments && !has_final;
  for (int64_t block = blocks.end - 1; block >= blocks.begin; --block) {
    const TokenRange keys = plan.KeysOfBlock(block);
    head.BlockBackwards(keys, d_state_is_zero || !Folds(p, keys) ? nullptr : &d_state);
    head.FoldQueries(head.call().QueriesOf(keys), d_state);
    d_state_is_zero = false;
  }
}

void BackwardCausal(const BackwardCall& whole, const PolysketchState& initial,
                    const PolysketchState& d_final, PolysketchState& d_initial) {
  const SegmentPlan plan(whole.p);
  const PolysketchState nowhere;
  const auto states = ThreadSpace<BothStates>(SegmentedCall{whole.p, plan, nowhere});
  SumKeys(whole.cpu, whole.p, whole.in, initial, plan, states.past);
  SumQueries(whole, d_final, plan, states.d_later);
  whole.cpu.ParallelFor(plan.heads * plan.segments, [&](int64_t index) {
    const int64_t head = index % plan.heads;
    const int64_t segment = index / plan.heads;
    const auto space = ThreadSpace<BackwardSpace>(whole.p);
    WalkSegment(BackwardHead(whole, head, space), plan, segment, space, initial.values.present(),
                d_final.values.present(), states.past.At(head, segment),
                states.d_later.At(head, segment));
    if (segment == 0) states.d_later.Store(head, 0, d_initial);
  });
}

// Sketched weights over all keys.
void BackwardWhole(const BackwardCall& whole) {
  const SegmentPlan plan(whole.p);
  const PolysketchState nowhere;
  const auto states = ThreadSpace<BothStates>(SegmentedCall{whole.p, plan, nowhere});
  SumKeys(whole.cpu, whole.p, whole.in, nowhere, plan, states.past);
  SumQueries(whole, nowhere, plan, states.d_later);
  const int64_t query_tiles = (whole.p.queries + kRows - 1) / kRows;
  const int64_t key_tiles = (whole.p.keys + kRows - 1) / kRows;
  whole.cpu.ParallelFor(plan.heads * (query_tiles + key_tiles), [&](int64_t index) {
    const int64_t head = index % plan.heads;
    const int64_t tile = index / plan.heads;
    const auto space = ThreadSpace<BackwardSpace>(whole.p);
    const BackwardHead backward(whole, head, space);
    if (tile < query_tiles) {
      const int64_t first = tile * kRows;
      backward.QueriesOfWhole(first, std::min(kRows, whole.p.queries - first),
                              states.past.At(head, 0));
      return;
    }
    const int64_t first = (tile - query_tiles) * kRows;
    const TokenRange keys = {first, std::min(first + kRows, whole.p.keys)};
    backward.ClearKeys(keys);
    const SketchState d_state = states.d_later.At(head, 0);
    backward.BlockBackwards(keys, &d_state);
  });
}

}  // namespace

absl::Status PolysketchBackwardCpu(Stream& stream, const PolysketchProblem& p,
                                   const PolysketchInputs& inputs, const PolysketchState& initial,
                                   const Tensor& o, const PolysketchSaved& saved, const Tensor& d_o,
                                   const PolysketchState& d_final, PolysketchGradients& gradients,
                                   PolysketchState& d_initial) {
  const BackwardCall whole{AsCpuStream(stream), p, inputs, o, saved, d_o, gradients};
  if (p.weights == PolysketchWeights::kExact) {
    BackwardExact(whole);
  } else if (p.causal) {
    BackwardCausal(whole, initial, d_final, d_initial);
  } else {
    BackwardWhole(whole);
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

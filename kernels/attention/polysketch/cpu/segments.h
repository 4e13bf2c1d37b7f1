// How a call is cut for threads: the tokens of a head into blocks, the blocks into segments that
// are walked at the same time, each from a state that was summed beforehand. All sizes follow from
// the problem, so bits do not depend on threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/polysketch/cpu/near_pairs.h"
#include "kernels/attention/polysketch/cpu/sketch_state.h"
#include "kernels/attention/polysketch/polysketch.h"
#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels {

struct TokenRange {
  int64_t begin;
  int64_t end;
};

// Blocks and segments of the keys of one head.
struct SegmentPlan {
  explicit SegmentPlan(const PolysketchProblem& problem);

  [[nodiscard]] TokenRange KeysOfBlock(int64_t block) const {
    return {block * block_keys, std::min((block + 1) * block_keys, keys)};
  }
  [[nodiscard]] TokenRange KeysOfSegment(int64_t segment) const {
    return {std::min(segment * segment_blocks * block_keys, keys),
            std::min((segment + 1) * segment_blocks * block_keys, keys)};
  }
  [[nodiscard]] TokenRange BlocksOfSegment(int64_t segment) const {
    return {segment * segment_blocks, std::min((segment + 1) * segment_blocks, blocks)};
  }

  int64_t heads;  // of all sequences
  int64_t keys;
  int64_t block_keys;
  int64_t blocks;
  int64_t segment_blocks;
  int64_t segments;
};

// What SegmentStates are made for.
struct SegmentedCall {
  const PolysketchProblem& problem;
  const SegmentPlan& plan;
  // When there is one segment for each head: the tensors that its states live in, if present.
  const PolysketchState& home;
};

// One state for each segment of each head, in memory that the calling thread keeps.
class SegmentStates {
 public:
  SegmentStates(const SegmentedCall& call, Carver& carver);

  [[nodiscard]] SketchState At(int64_t head, int64_t segment) const;
  // From the state of a tensor pair, or zero when it is absent; and back, when it is present.
  void Load(const PolysketchState& from, int64_t head, int64_t segment) const;
  void Store(int64_t head, int64_t segment, PolysketchState& to) const;
  void Clear(int64_t head, int64_t segment) const;
  // State `to` += state `from`, of one head.
  void Add(const VectorTable& vector, int64_t head, int64_t from, int64_t to) const;

 private:
  int64_t values_;  // elements of S
  int64_t mass_;    // elements of E
  int64_t segments_;
  PolysketchState home_;
  float* memory_;  // [heads, segments, values and mass]
};

// One head of one sequence: its rows, and what its loops share.
struct HeadCall {
  HeadCall(const PolysketchProblem& problem, const PolysketchInputs& inputs,
           const VectorTable& vectors, int64_t index)
      : p(problem),
        in(inputs),
        vector(vectors),
        b(index / problem.heads),
        h(index % problem.heads),
        valid(inputs.valid.present() ? inputs.valid.data<int32_t>() + b * problem.keys : nullptr),
        offset(problem.keys - problem.queries),
        root(static_cast<float>(
            std::pow(problem.kappa, -0.5 * static_cast<double>(problem.degree)))) {}

  // Queries whose keys lie in `keys`, causal.
  [[nodiscard]] TokenRange QueriesOf(TokenRange keys) const {
    return {std::max<int64_t>(keys.begin - offset, 0), std::max<int64_t>(keys.end - offset, 0)};
  }
  // Pairs that are computed one by one.
  [[nodiscard]] NearPairs Near() const;
  // Features times `root`: products of queries with anything then carry kappa^-p.
  void LoadQueryFeatures(int64_t first, int64_t count, float* phi) const;
  // Features of keys, zero where nobody sees them: they leave nothing in a state.
  void LoadKeyFeatures(int64_t first, int64_t count, float* phi) const;

  const PolysketchProblem& p;
  const PolysketchInputs& in;
  const VectorTable& vector;
  int64_t b;
  int64_t h;
  const int32_t* valid;
  int64_t offset;  // the key of query 0, causal
  float root;      // kappa^(-p/2)
};

// Where rows are dense while they are added to a state.
struct FoldSpace {
  FoldSpace(const PolysketchProblem& p, Carver& carver)
      : sketch(p, carver),
        phi(carver.Take(SketchSpace::kRows * p.sketch_dim)),
        v(carver.Take(SketchSpace::kRows * p.head_dim)) {}

  SketchSpace sketch;
  float* phi;  // [rows, r]
  float* v;    // [rows, D]
};

// Adds keys to a state.
void FoldKeys(const HeadCall& call, const FoldSpace& space, TokenRange keys,
              const SketchState& state);

// Causal: each segment's state becomes what `initial` and the keys before the segment leave. Not
// causal: the first state becomes what all keys leave.
void SumKeys(CpuStream& cpu, const PolysketchProblem& p, const PolysketchInputs& in,
             const PolysketchState& initial, const SegmentPlan& plan, const SegmentStates& states);

// Whether the state after a block of keys holds them: a mixed problem folds whole blocks only.
inline bool Folds(const PolysketchProblem& p, TokenRange block) {
  return p.weights == PolysketchWeights::kSketched || block.end - block.begin == p.block;
}

// Calls body(first, count) for pieces of a range of at most SketchSpace::kRows tokens.
template <typename Body>
void ForPieces(TokenRange range, Body body) {
  for (int64_t first = range.begin; first < range.end; first += SketchSpace::kRows) {
    body(first, std::min(SketchSpace::kRows, range.end - first));
  }
}

}  // namespace weft::kernels

// Linear attention forward in chunks, fp32. With the rows of a chunk stacked, Q', K' their features
// and R, z the state before it:
//
//   A = tril(Q' K'^T)   O = (A V + Q' R) / (A 1 + Q' z + guard)   R <- R + K'^T V   z <- z + K'^T 1
//
// where levels multiply A_ij by exp(level_j - m_i) and what comes from R and z by exp(m - m_i).
// Every (batch, head), or every segment of one, is a task of its own; tasks and products have
// shapes that follow from the problem alone, so bits do not depend on threads.
#include <algorithm>
#include <cmath>

#include "kernels/attention/linear_attention/cpu/chunk.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

struct ForwardSpace {
  ForwardSpace(const LinearPass& pass, Carver& carver) : key(pass, carver) {
    const int64_t n = pass.chunk_rows();
    q = carver.Take(n * pass.problem().key_dim);
    f = carver.Take(n * pass.features().count());
    kept = carver.Take(n * pass.features().kept());
    levels = carver.Take(n);
    a = carver.Take(n * n);
    row = carver.Take(n);
    sums = carver.Take(n);
    o = carver.Take(n * pass.problem().value_dim);
    state = carver.Take(pass.state_size());
  }

  KeySpace key;
  float* q;       // [n, Dk]
  float* f;       // [n, M]: q'
  float* kept;    // [n, kept], for nobody
  float* levels;  // [n], for nobody: those of queries cancel
  float* a;       // [n, n]
  float* row;     // [n]: what levels do to a row of A
  float* sums;    // [n]: of the weights
  float* o;       // [n, Dv]
  float* state;   // when it may not be changed where it is
};

// Where the results of a head's rows go.
struct ForwardRows {
  HeadRows q, o;
  float* denominators;  // [T]; null: not wanted
  float* levels;        // [T]; null: not wanted
};

class ForwardPass {
 public:
  ForwardPass(const LinearPass& pass, const LinearAttentionInputs& inputs, Tensor& o,
              LinearAttentionSaved& saved)
      : pass_(pass), inputs_(inputs), o_(o), saved_(saved) {}

  void InTurn(const Tensor& initial_state, const Tensor& final_state) const;
  void Apart(const Tensor& initial_state, const Tensor& final_state) const;
  void Whole() const;

 private:
  [[nodiscard]] ForwardRows Rows(int64_t index) const;

  const LinearPass& pass_;
  const LinearAttentionInputs& inputs_;
  Tensor& o_;
  LinearAttentionSaved& saved_;
};

float Guarded(const LinearAttentionProblem& p, float sum) {
  const auto epsilon = static_cast<float>(p.guard_epsilon);
  if (p.guard == DenominatorGuard::kAdd) return sum + epsilon;
  return std::abs(sum) <= epsilon ? sum + 2.0F * epsilon : sum;
}

// Q', and what comes from the state alone: o = Q' R, sums = Q' z.
void ReadState(const LinearHead& head, const ForwardRows& rows, const ForwardSpace& space,
               int64_t t, int64_t n, const LinearState& state) {
  rows.q.Load(t, n, space.q);
  head.features.Forward(space.q, n, space.kept, space.f, space.levels);
  Gemm(kPlain, kPlain, n, state.width, state.features, 1.0F, space.f, state.features, state.r,
       state.width, 0.0F, space.o, state.width);
  for (int64_t i = 0; i < n; ++i) {
    space.sums[i] = head.vector.dot(space.f + i * state.features, state.z, state.features);
  }
}

// Divides the rows of a chunk and writes them.
void WriteRows(const LinearHead& head, const ForwardRows& rows, const ForwardSpace& space,
               int64_t t, int64_t n) {
  const int64_t width = rows.o.width;
  for (int64_t i = 0; i < n; ++i) {
    const float denominator = Guarded(head.p, space.sums[i]);
    head.vector.scale(denominator == 0.0F ? 0.0F : 1.0F / denominator, space.o + i * width,
                      rows.o.Row(t + i), width);
    if (rows.denominators != nullptr) rows.denominators[t + i] = denominator;
  }
}

void ForwardChunk(const LinearHead& head, const ForwardRows& rows, const ForwardSpace& space,
                  int64_t t, int64_t n, LinearState& state) {
  const VectorTable& vector = head.vector;
  const KeySpace& key = space.key;
  const int64_t count = state.features;
  const int64_t width = state.width;
  head.LoadKeys(t, n, key);
  const float level = head.RunLevels(state.level, n, key);
  ReadState(head, rows, space, t, n, state);
  Gemm(kPlain, kTransposed, n, n, count, 1.0F, space.f, count, key.f, count, 0.0F, space.a, n);
  for (int64_t i = 0; i < n; ++i) {
    float* const a_i = space.a + i * n;
    std::fill(a_i + i + 1, a_i + n, 0.0F);
    if (head.has_levels()) {
      head.LevelRow(key, i, space.row);
      vector.multiply(a_i, space.row, a_i, i + 1);
      vector.scale(key.fading[i], space.o + i * width, space.o + i * width, width);
      space.sums[i] *= key.fading[i];
    }
    space.sums[i] += vector.sum(a_i, i + 1);
  }
  Gemm(kPlain, kPlain, n, width, n, 1.0F, space.a, n, key.v, width, 1.0F, space.o, width);
  WriteRows(head, rows, space, t, n);
  if (rows.levels != nullptr) std::copy_n(key.running, n, rows.levels + t);
  head.Absorb(level, n, key, state);
}

ForwardRows ForwardPass::Rows(int64_t index) const {
  const auto row = [&](const Tensor& tensor) {
    return tensor.present() ? tensor.data<float>() + index * pass_.problem().tokens : nullptr;
  };
  return {pass_.Rows(inputs_.q, index), pass_.Rows(o_, index), row(saved_.denominators),
          row(saved_.levels)};
}

// Every head from its first token to its last.
void ForwardPass::InTurn(const Tensor& initial_state, const Tensor& final_state) const {
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    const LinearHead head = pass_.Head(index);
    const ForwardRows rows = Rows(index);
    const auto space = ThreadSpace<ForwardSpace>(pass_);
    // The state lives where it is wanted in the end. When that is where it came from, a decoding
    // step reads and writes it once each way.
    float* const home = pass_.State(final_state, index);
    LinearState state(pass_.problem(), home != nullptr ? home : space.state);
    state.Load(pass_.State(initial_state, index), head.has_levels());
    const int64_t count = pass_.segments().count;
    for (int64_t segment = 0; segment < count; ++segment) {
      state.Store(pass_.State(saved_.states, index * count + segment));
      pass_.ForChunks(segment,
                      [&](int64_t t, int64_t n) { ForwardChunk(head, rows, space, t, n, state); });
    }
    state.Store(home);
  });
}

// The segments of a head side by side: first the states between them.
void ForwardPass::Apart(const Tensor& initial_state, const Tensor& final_state) const {
  const LinearAttentionProblem& p = pass_.problem();
  const int64_t count = pass_.segments().count;
  const int64_t size = pass_.state_size();
  const bool has_levels = pass_.features().has_levels();
  thread_local Scratch<float> scratch;
  float* const memory = scratch.Get(pass_.heads() * (2 * count - 1) * size);
  float* const parts = memory;  // [heads, count - 1, state]
  float* const starts = saved_.states.present() ? saved_.states.data<float>()
                                                : memory + pass_.heads() * (count - 1) * size;
  pass_.SumSegments(count - 1, parts);
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    LinearState state(p, starts + index * count * size);
    state.Load(pass_.State(initial_state, index), has_levels);
    state.Store(state.r);
    for (int64_t segment = 1; segment < count; ++segment) {
      LinearState part(p, parts + (index * (count - 1) + segment - 1) * size);
      part.Load(part.r, has_levels);
      LinearState next(p, starts + (index * count + segment) * size);
      next.Load(next.r - size, has_levels);
      next.Add(pass_.cpu().vector(), part);
      next.Store(next.r);
    }
  });
  pass_.cpu().ParallelFor(pass_.heads() * count, [&](int64_t task) {
    const LinearHead head = pass_.Head(task / count);
    const ForwardRows rows = Rows(task / count);
    const auto space = ThreadSpace<ForwardSpace>(pass_);
    LinearState state(p, space.state);
    state.Load(starts + task * size, has_levels);
    pass_.ForChunks(task % count,
                    [&](int64_t t, int64_t n) { ForwardChunk(head, rows, space, t, n, state); });
    if (task % count == count - 1) state.Store(pass_.State(final_state, task / count));
  });
}

// Every query sees every key: the state of the whole sequence, then the queries.
void ForwardPass::Whole() const {
  const LinearAttentionProblem& p = pass_.problem();
  const int64_t count = pass_.segments().count;
  const int64_t size = pass_.state_size();
  const bool has_levels = pass_.features().has_levels();
  thread_local Scratch<float> scratch;
  float* const parts = scratch.Get(pass_.heads() * count * size);
  pass_.SumSegments(count, parts);
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    LinearState total(p, parts + index * count * size);
    total.Load(total.r, has_levels);
    for (int64_t segment = 1; segment < count; ++segment) {
      LinearState part(p, parts + (index * count + segment) * size);
      part.Load(part.r, has_levels);
      total.Add(pass_.cpu().vector(), part);
    }
    total.Store(total.r);
    total.Store(pass_.State(saved_.states, index));
  });
  pass_.cpu().ParallelFor(pass_.heads() * count, [&](int64_t task) {
    const LinearHead head = pass_.Head(task / count);
    const ForwardRows rows = Rows(task / count);
    const auto space = ThreadSpace<ForwardSpace>(pass_);
    LinearState total(p, parts + task / count * count * size);
    total.Load(total.r, has_levels);
    pass_.ForChunks(task % count, [&](int64_t t, int64_t n) {
      ReadState(head, rows, space, t, n, total);
      WriteRows(head, rows, space, t, n);
    });
  });
}

}  // namespace

absl::Status LinearAttentionForwardCpu(Stream& stream, const LinearAttentionProblem& p,
                                       const LinearAttentionInputs& inputs,
                                       const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                       LinearAttentionSaved& saved) {
  const LinearPass pass(AsCpuStream(stream), p, inputs);
  const ForwardPass forward(pass, inputs, o, saved);
  if (!p.causal) {
    forward.Whole();
  } else if (pass.segments().apart) {
    forward.Apart(initial_state, final_state);
  } else {
    forward.InTurn(initial_state, final_state);
  }
  return absl::OkStatus();
}

absl::Status LinearAttentionUndoCpu(Stream& stream, const LinearAttentionProblem& p,
                                    const LinearAttentionInputs& inputs, Tensor& state) {
  const LinearPass pass(AsCpuStream(stream), p, inputs);
  const int64_t count = pass.segments().count;
  thread_local Scratch<float> scratch;
  float* const parts = scratch.Get(pass.heads() * count * pass.state_size());
  pass.SumSegments(count, parts);
  pass.cpu().ParallelFor(pass.heads(), [&](int64_t index) {
    LinearState left(p, pass.State(state, index));
    for (int64_t segment = 0; segment < count; ++segment) {
      const float* const part = parts + (index * count + segment) * pass.state_size();
      pass.cpu().vector().axpy(-1.0F, part, left.r, left.sums());
    }
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

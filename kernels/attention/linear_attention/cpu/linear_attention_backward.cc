// Linear attention backward in chunks, fp32. In the words of linear_attention_forward.cc, with G
// the gradient of O, D = A 1 + Q' z + guard, and dR, dz the gradients of the state after the chunk:
//
//   N = G / D         u = -sum(G O) / D            gradients of numerators and denominators
//   dA = tril(N V^T + u 1^T)
//   dQ' = dA K' + N R^T + u z^T                    dK' = dA^T Q' + V dR^T + 1 dz^T
//   dV = A^T N + K' dR
//   dR <- dR + Q'^T N                              dz <- dz + Q'^T u
//
// A segment is gone through twice: up, for the states before its chunks, and down. Levels multiply
// as in the forward pass; dR and dz are in units of 1 / exp(m).
#include <algorithm>
#include <cmath>

#include "kernels/attention/linear_attention/cpu/chunk.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

// Queries of a chunk and the gradients of what they read.
struct QuerySpace {
  QuerySpace(const LinearPass& pass, Carver& carver);

  float* q;           // [n, Dk]
  float* f;           // [n, M]: q'
  float* kept;        // [n, kept]
  float* levels;      // [n], for nobody
  float* o;           // [n, Dv]
  float* slopes;      // [n, Dv]: N
  float* sum_slopes;  // [n]: u
  float* faded;       // [n, Dv] and [n]: the same times exp(m - m_i)
  float* faded_sums;
  float* fading;  // [n], where nothing else holds it
  float* sums;    // [M]
};

// Gradients of the features of queries, then of those of keys.
struct SlopeSpace {
  SlopeSpace(const LinearPass& pass, Carver& carver);

  float* f;     // [n, M]
  float* work;  // [n, work]
  float* x;     // [n, Dk]
  float* v;     // [n, Dv]
};

struct BackwardSpace {
  BackwardSpace(const LinearPass& pass, Carver& carver);

  KeySpace key;
  QuerySpace query;
  SlopeSpace d;
  float* segment_f;       // [tokens of a segment, M]: k'
  float* segment_kept;    // [tokens of a segment, kept]
  float* segment_levels;  // [tokens of a segment]
  float* states;          // [chunks of a segment, state]: before each
  float* a;               // [n, n]
  float* d_a;             // [n, n]
  float* row;             // [n]: what levels do to a row of A; ones where there are none
  float* weighted;        // [n, Dv]: values times their weights in the state after the chunk
  float* d_state;
};

QuerySpace::QuerySpace(const LinearPass& pass, Carver& carver) {
  const int64_t n = pass.chunk_rows();
  const int64_t width = pass.problem().value_dim;
  q = carver.Take(n * pass.problem().key_dim);
  f = carver.Take(n * pass.features().count());
  kept = carver.Take(n * pass.features().kept());
  levels = carver.Take(n);
  o = carver.Take(n * width);
  slopes = carver.Take(n * width);
  sum_slopes = carver.Take(n);
  faded = carver.Take(n * width);
  faded_sums = carver.Take(n);
  fading = carver.Take(n);
  sums = carver.Take(pass.features().count());
}

SlopeSpace::SlopeSpace(const LinearPass& pass, Carver& carver) {
  const int64_t n = pass.chunk_rows();
  f = carver.Take(n * pass.features().count());
  work = carver.Take(n * pass.features().work());
  x = carver.Take(n * pass.problem().key_dim);
  v = carver.Take(n * pass.problem().value_dim);
}

BackwardSpace::BackwardSpace(const LinearPass& pass, Carver& carver)
    : key(pass, carver), query(pass, carver), d(pass, carver) {
  const LinearAttentionProblem& p = pass.problem();
  const int64_t n = pass.chunk_rows();
  const int64_t tokens = std::min(pass.segments().tokens, p.tokens);
  segment_f = carver.Take(tokens * pass.features().count());
  segment_kept = carver.Take(tokens * pass.features().kept());
  segment_levels = carver.Take(tokens);
  states = carver.Take((tokens + p.chunk - 1) / p.chunk * pass.state_size());
  a = carver.Take(n * n);
  d_a = carver.Take(n * n);
  row = carver.Take(n);
  weighted = carver.Take(n * p.value_dim);
  d_state = carver.Take(pass.state_size());
}

// The rows of a head that a backward pass reads and writes, beside keys and values.
struct BackwardRows {
  HeadRows q, o, d_o, d_q, d_k, d_v;
  const float* denominators;  // [T]
  const float* levels;        // [T]; null: there are none
};

// Q', N and u of a chunk.
void LoadQueries(const LinearHead& head, const BackwardRows& rows, const QuerySpace& query,
                 int64_t t, int64_t n) {
  const int64_t width = rows.o.width;
  rows.q.Load(t, n, query.q);
  head.features.Forward(query.q, n, query.kept, query.f, query.levels);
  for (int64_t i = 0; i < n; ++i) {
    const float denominator = rows.denominators[t + i];
    const float inverse = denominator == 0.0F ? 0.0F : 1.0F / denominator;
    const float* const d_o = rows.d_o.Row(t + i);
    query.sum_slopes[i] = -inverse * head.vector.dot(d_o, rows.o.Row(t + i), width);
    head.vector.scale(inverse, d_o, query.slopes + i * width, width);
  }
}

// N and u in the measure of the state that `fading` leads to; null: they are.
void Fade(const LinearHead& head, const float* fading, int64_t n, const QuerySpace& query) {
  const int64_t width = head.v.width;
  if (fading == nullptr) {
    std::copy_n(query.slopes, n * width, query.faded);
    std::copy_n(query.sum_slopes, n, query.faded_sums);
    return;
  }
  head.vector.multiply(fading, query.sum_slopes, query.faded_sums, n);
  for (int64_t i = 0; i < n; ++i) {
    head.vector.scale(fading[i], query.slopes + i * width, query.faded + i * width, width);
  }
}

// dR += Q'^T N and dz += Q'^T u, faded.
void AddToStateGradient(const LinearHead& head, const QuerySpace& query, int64_t n,
                        LinearState& d_state) {
  const int64_t count = d_state.features;
  Gemm(kTransposed, kPlain, count, d_state.width, n, 1.0F, query.f, count, query.faded,
       d_state.width, 1.0F, d_state.r, d_state.width);
  std::fill_n(query.sums, count, 0.0F);
  for (int64_t i = 0; i < n; ++i) {
    head.vector.axpy(query.faded_sums[i], query.f + i * count, query.sums, count);
  }
  head.vector.add(d_state.z, query.sums, d_state.z, count);
}

// dQ' = N R^T + u z^T, faded.
void QueriesFromState(const LinearHead& head, const QuerySpace& query, int64_t n,
                      const LinearState& state, const SlopeSpace& d) {
  const int64_t count = state.features;
  Gemm(kPlain, kTransposed, n, count, state.width, 1.0F, query.faded, state.width, state.r,
       state.width, 0.0F, d.f, count);
  for (int64_t i = 0; i < n; ++i) {
    head.vector.axpy(query.faded_sums[i], state.z, d.f + i * count, count);
  }
}

// dK' = V dR^T + 1 dz^T and dV = K' dR, weighted.
void KeysFromState(const LinearHead& head, const BackwardSpace& space, const KeySpace& key,
                   int64_t n, const LinearState& d_state) {
  const int64_t count = d_state.features;
  const int64_t width = d_state.width;
  const float* values = key.v;
  if (head.has_levels()) {
    for (int64_t i = 0; i < n; ++i) {
      head.vector.scale(key.weight[i], key.v + i * width, space.weighted + i * width, width);
    }
    values = space.weighted;
  }
  Gemm(kPlain, kTransposed, n, count, width, 1.0F, values, width, d_state.r, width, 0.0F, space.d.f,
       count);
  Gemm(kPlain, kPlain, n, width, count, 1.0F, key.f, count, d_state.r, width, 0.0F, space.d.v,
       width);
  for (int64_t i = 0; i < n; ++i) {
    const float weight = head.has_levels() ? key.weight[i] : 1.0F;
    head.vector.axpy(weight, d_state.z, space.d.f + i * count, count);
    float* const d_v = space.d.v + i * width;
    if (head.has_levels()) head.vector.scale(weight, d_v, d_v, width);
  }
}

void WriteQueryGradients(const LinearHead& head, const BackwardRows& rows,
                         const BackwardSpace& space, int64_t t, int64_t n) {
  const QuerySpace& query = space.query;
  head.features.Backward(query.q, n, query.kept, query.f, space.d.f, space.d.work, space.d.x);
  rows.d_q.Store(t, n, space.d.x);
}

void WriteKeyGradients(const LinearHead& head, const BackwardRows& rows, const BackwardSpace& space,
                       const KeySpace& key, int64_t t, int64_t n) {
  const int64_t count = head.features.count();
  for (int64_t i = 0; head.valid != nullptr && i < n; ++i) {
    if (head.valid[t + i] == 0) std::fill_n(space.d.f + i * count, count, 0.0F);
  }
  head.features.Backward(key.k, n, key.kept, key.f, space.d.f, space.d.work, space.d.x);
  rows.d_k.Store(t, n, space.d.x);
  rows.d_v.Store(t, n, space.d.v);
}

// A and dA of a chunk.
void WeightGradients(const LinearHead& head, const BackwardSpace& space, const KeySpace& key,
                     int64_t n) {
  const VectorTable& vector = head.vector;
  const QuerySpace& query = space.query;
  const int64_t count = head.features.count();
  const int64_t width = head.v.width;
  Gemm(kPlain, kTransposed, n, n, count, 1.0F, query.f, count, key.f, count, 0.0F, space.a, n);
  Gemm(kPlain, kTransposed, n, n, width, 1.0F, query.slopes, width, key.v, width, 0.0F, space.d_a,
       n);
  if (!head.has_levels()) std::fill_n(space.row, n, 1.0F);
  for (int64_t i = 0; i < n; ++i) {
    float* const a_i = space.a + i * n;
    float* const d_a_i = space.d_a + i * n;
    if (head.has_levels()) {
      head.LevelRow(key, i, space.row);
      vector.multiply(a_i, space.row, a_i, i + 1);
      vector.multiply(d_a_i, space.row, d_a_i, i + 1);
    }
    vector.axpy(query.sum_slopes[i], space.row, d_a_i, i + 1);
    std::fill(a_i + i + 1, a_i + n, 0.0F);
    std::fill(d_a_i + i + 1, d_a_i + n, 0.0F);
  }
}

// `state` before the chunk; `d_state` after it, then before it.
void BackwardChunk(const LinearHead& head, const BackwardRows& rows, const BackwardSpace& space,
                   const KeySpace& key, int64_t t, int64_t n, const LinearState& state,
                   LinearState& d_state) {
  const QuerySpace& query = space.query;
  const int64_t count = state.features;
  const int64_t width = state.width;
  head.k.Load(t, n, key.k);
  head.v.Load(t, n, key.v);
  const float level = head.RunLevels(state.level, n, key);
  LoadQueries(head, rows, query, t, n);
  Fade(head, head.has_levels() ? key.fading : nullptr, n, query);
  WeightGradients(head, space, key, n);

  QueriesFromState(head, query, n, state, space.d);
  Gemm(kPlain, kPlain, n, count, n, 1.0F, space.d_a, n, key.f, count, 1.0F, space.d.f, count);
  WriteQueryGradients(head, rows, space, t, n);

  KeysFromState(head, space, key, n, d_state);
  Gemm(kTransposed, kPlain, n, count, n, 1.0F, space.d_a, n, query.f, count, 1.0F, space.d.f,
       count);
  Gemm(kTransposed, kPlain, n, width, n, 1.0F, space.a, n, query.slopes, width, 1.0F, space.d.v,
       width);
  WriteKeyGradients(head, rows, space, key, t, n);

  d_state.Scale(head.vector, LevelFactor(state.level, level));
  AddToStateGradient(head, query, n, d_state);
}

class BackwardPass {
 public:
  struct Operands {
    const LinearAttentionInputs& inputs;
    const Tensor& o;
    const LinearAttentionSaved& saved;
    const Tensor& d_o;
    const Tensor& d_q;
    const Tensor& d_k;
    const Tensor& d_v;
  };
  BackwardPass(const LinearPass& pass, const Operands& operands)
      : pass_(pass), operands_(operands) {}

  void InTurn(const Tensor& d_final_state, const Tensor& d_initial_state) const;
  void Apart(const Tensor& d_final_state, const Tensor& d_initial_state) const;
  void Whole() const;

 private:
  [[nodiscard]] BackwardRows Rows(int64_t index) const;
  [[nodiscard]] float* Start(int64_t index, int64_t segment) const;
  // `d_state` after the segment, then before it.
  void Segment(int64_t index, int64_t segment, const BackwardSpace& space,
               LinearState& d_state) const;
  // What the queries of a segment add to the gradient of the state before it.
  void SumSegment(int64_t index, int64_t segment, const QuerySpace& query,
                  LinearState& d_state) const;
  void StoreInitial(int64_t index, LinearState& d_state, const Tensor& d_initial_state) const;

  const LinearPass& pass_;
  const Operands operands_;
};

BackwardRows BackwardPass::Rows(int64_t index) const {
  const auto row = [&](const Tensor& tensor) {
    return tensor.present() ? tensor.data<float>() + index * pass_.problem().tokens : nullptr;
  };
  const LinearAttentionSaved& saved = operands_.saved;
  return {pass_.Rows(operands_.inputs.q, index),
          pass_.Rows(operands_.o, index),
          pass_.Rows(operands_.d_o, index),
          pass_.Rows(operands_.d_q, index),
          pass_.Rows(operands_.d_k, index),
          pass_.Rows(operands_.d_v, index),
          row(saved.denominators),
          row(saved.levels)};
}

float* BackwardPass::Start(int64_t index, int64_t segment) const {
  return pass_.State(operands_.saved.states, index * pass_.segments().count + segment);
}

void BackwardPass::Segment(int64_t index, int64_t segment, const BackwardSpace& space,
                           LinearState& d_state) const {
  const LinearHead head = pass_.Head(index);
  const BackwardRows rows = Rows(index);
  const int64_t first = segment * pass_.segments().tokens;
  const int64_t last = std::min(first + pass_.segments().tokens, pass_.problem().tokens);
  const auto keys = [&](int64_t t) {
    KeySpace key = space.key;
    key.f = space.segment_f + (t - first) * head.features.count();
    key.kept = space.segment_kept + (t - first) * head.features.kept();
    key.levels = space.segment_levels + (t - first);
    return key;
  };
  const auto before = [&](int64_t t) {
    return LinearState(pass_.problem(),
                       space.states + (t - first) / pass_.problem().chunk * pass_.state_size());
  };
  if (first >= last) return;
  LinearState start = before(first);
  start.Load(Start(index, segment), head.has_levels());
  start.Store(start.r);
  pass_.ForChunks(segment, [&](int64_t t, int64_t n) {
    const KeySpace key = keys(t);
    head.LoadKeys(t, n, key);
    if (t + n == last) return;
    LinearState next = before(t + n);
    next.Load(before(t).r, head.has_levels());
    head.Absorb(head.RunLevels(next.level, n, key), n, key, next);
    next.Store(next.r);
  });
  pass_.ForChunksBackwards(segment, [&](int64_t t, int64_t n) {
    LinearState state = before(t);
    state.Load(state.r, head.has_levels());
    BackwardChunk(head, rows, space, keys(t), t, n, state, d_state);
  });
}

void BackwardPass::StoreInitial(int64_t index, LinearState& d_state,
                                const Tensor& d_initial_state) const {
  LinearState start(pass_.problem(), Start(index, 0));
  start.Load(start.r, pass_.features().has_levels());
  // What is measured from nothing has no gradient.
  if (std::isinf(start.level)) d_state.Clear(false);
  d_state.level = 0.0F;
  d_state.Store(pass_.State(d_initial_state, index));
}

// Every head from its last token to its first.
void BackwardPass::InTurn(const Tensor& d_final_state, const Tensor& d_initial_state) const {
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    const auto space = ThreadSpace<BackwardSpace>(pass_);
    LinearState d_state(pass_.problem(), space.d_state);
    d_state.Load(pass_.State(d_final_state, index), false);
    for (int64_t segment = pass_.segments().count - 1; segment >= 0; --segment) {
      Segment(index, segment, space, d_state);
    }
    StoreInitial(index, d_state, d_initial_state);
  });
}

void BackwardPass::SumSegment(int64_t index, int64_t segment, const QuerySpace& query,
                              LinearState& d_state) const {
  const LinearHead head = pass_.Head(index);
  const BackwardRows rows = Rows(index);
  LinearState start(pass_.problem(), Start(index, segment));
  start.Load(start.r, head.has_levels());
  d_state.Clear(false);
  pass_.ForChunks(segment, [&](int64_t t, int64_t n) {
    LoadQueries(head, rows, query, t, n);
    for (int64_t i = 0; head.has_levels() && i < n; ++i) {
      query.fading[i] = LevelFactor(start.level, rows.levels[t + i]);
    }
    Fade(head, head.has_levels() ? query.fading : nullptr, n, query);
    AddToStateGradient(head, query, n, d_state);
  });
}

// The segments of a head side by side: first the gradients of the states between them.
void BackwardPass::Apart(const Tensor& d_final_state, const Tensor& d_initial_state) const {
  const LinearAttentionProblem& p = pass_.problem();
  const VectorTable& vector = pass_.cpu().vector();
  const int64_t count = pass_.segments().count;
  const int64_t size = pass_.state_size();
  const bool has_levels = pass_.features().has_levels();
  thread_local Scratch<float> scratch;
  float* const ends = scratch.Get(pass_.heads() * count * size);  // after each segment
  pass_.cpu().ParallelFor(pass_.heads() * (count - 1), [&](int64_t task) {
    const int64_t index = task / (count - 1);
    const int64_t segment = task % (count - 1) + 1;
    const auto query = ThreadSpace<QuerySpace>(pass_);
    LinearState before(p, ends + (index * count + segment - 1) * size);
    SumSegment(index, segment, query, before);
  });
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    float level = has_levels ? Rows(index).levels[p.tokens - 1] : 0.0F;
    LinearState end(p, ends + (index * count + count - 1) * size);
    end.Load(pass_.State(d_final_state, index), false);
    for (int64_t segment = count - 1; segment > 0; --segment) {
      LinearState start(p, Start(index, segment));
      start.Load(start.r, has_levels);
      const LinearState after(p, ends + (index * count + segment) * size);
      float* const before = ends + (index * count + segment - 1) * size;
      vector.axpy(LevelFactor(start.level, level), after.r, before, after.sums());
      level = start.level;
    }
  });
  pass_.cpu().ParallelFor(pass_.heads() * count, [&](int64_t task) {
    const auto space = ThreadSpace<BackwardSpace>(pass_);
    LinearState d_state(p, ends + task * size);
    Segment(task / count, task % count, space, d_state);
    if (task % count == 0) StoreInitial(task / count, d_state, d_initial_state);
  });
}

// Every query sees every key: first the queries, which give the gradient of the one state, then the
// keys.
void BackwardPass::Whole() const {
  const LinearAttentionProblem& p = pass_.problem();
  const int64_t count = pass_.segments().count;
  const int64_t size = pass_.state_size();
  const auto total = [&](int64_t index) {
    LinearState state(p, pass_.State(operands_.saved.states, index));
    state.Load(state.r, pass_.features().has_levels());
    return state;
  };
  thread_local Scratch<float> scratch;
  float* const parts = scratch.Get(pass_.heads() * count * size);
  pass_.cpu().ParallelFor(pass_.heads() * count, [&](int64_t task) {
    const LinearHead head = pass_.Head(task / count);
    const BackwardRows rows = Rows(task / count);
    const auto space = ThreadSpace<BackwardSpace>(pass_);
    const LinearState state = total(task / count);
    LinearState part(p, parts + task * size);
    part.Clear(false);
    pass_.ForChunks(task % count, [&](int64_t t, int64_t n) {
      LoadQueries(head, rows, space.query, t, n);
      Fade(head, nullptr, n, space.query);
      AddToStateGradient(head, space.query, n, part);
      QueriesFromState(head, space.query, n, state, space.d);
      WriteQueryGradients(head, rows, space, t, n);
    });
  });
  pass_.cpu().ParallelFor(pass_.heads(), [&](int64_t index) {
    LinearState d_state(p, parts + index * count * size);
    for (int64_t segment = 1; segment < count; ++segment) {
      d_state.Add(pass_.cpu().vector(), LinearState(p, parts + (index * count + segment) * size));
    }
  });
  pass_.cpu().ParallelFor(pass_.heads() * count, [&](int64_t task) {
    const LinearHead head = pass_.Head(task / count);
    const BackwardRows rows = Rows(task / count);
    const auto space = ThreadSpace<BackwardSpace>(pass_);
    const LinearState state = total(task / count);
    const LinearState d_state(p, parts + task / count * count * size);
    pass_.ForChunks(task % count, [&](int64_t t, int64_t n) {
      head.LoadKeys(t, n, space.key);
      head.RunLevels(state.level, n, space.key);
      KeysFromState(head, space, space.key, n, d_state);
      WriteKeyGradients(head, rows, space, space.key, t, n);
    });
  });
}

}  // namespace

absl::Status LinearAttentionBackwardCpu(Stream& stream, const LinearAttentionProblem& p,
                                        const LinearAttentionInputs& inputs, const Tensor& o,
                                        const LinearAttentionSaved& saved, const Tensor& d_o,
                                        const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                        Tensor& d_v, Tensor& d_initial_state) {
  const LinearPass pass(AsCpuStream(stream), p, inputs);
  const BackwardPass backward(pass, {inputs, o, saved, d_o, d_q, d_k, d_v});
  if (!p.causal) {
    backward.Whole();
  } else if (pass.segments().apart) {
    backward.Apart(d_final_state, d_initial_state);
  } else {
    backward.InTurn(d_final_state, d_initial_state);
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels

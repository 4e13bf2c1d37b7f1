// The delta rule in chunks, fp32: for each (batch, head) on its own thread, chunk after chunk, all
// as products of small dense matrices. With the rows of a chunk stacked, S the state before it and
// G, P the strictly lower part of K K^T and the lower part of Q K^T:
//
//   (I + G diag(beta)) E = V - K S        N = diag(beta) E
//   O = Q S + P N                         S <- S + K^T N
//
// Derivation: delta.h, section 3 of its paper. We solve for E itself, so neither the inverse nor
// the W and U of the paper appear, and the gradient of beta is a plain dot product. Every product
// has a shape that follows from the problem alone, so bits do not depend on threads.
#include <algorithm>
#include <cstring>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/delta/cpu/chunk_solve.h"
#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

int64_t ChunkRows(const DeltaProblem& p) {
  return std::min(p.chunk, std::max<int64_t>(p.tokens, 1));
}

// What both passes compute from the keys and queries of a chunk of n rows. K and Q lie one above
// the other, so that products with either are one product.
struct KeySpace {
  KeySpace(const DeltaProblem& p, Carver& carver)
      : kq(carver.Take(2 * ChunkRows(p) * p.key_dim)),
        gp(carver.Take(2 * ChunkRows(p) * ChunkRows(p))),
        beta(carver.Take(ChunkRows(p))) {}

  // Loads the rows t ... t + n - 1, and multiplies: gp[2n, n] = [K; Q] K^T, with P's upper part
  // cleared. G's is left as it comes, nobody reads it.
  void Load(const HeadRows& keys, const HeadRows& queries, const HeadRows& betas, int64_t t,
            int64_t n) const {
    const int64_t dk = keys.width;
    keys.Load(t, n, kq);
    queries.Load(t, n, kq + n * dk);
    betas.Load(t, n, beta);
    Gemm(kPlain, kTransposed, 2 * n, n, dk, 1.0F, kq, dk, kq, dk, 0.0F, gp, n);
    float* const p = gp + n * n;
    for (int64_t i = 0; i < n; ++i) std::fill(p + i * n + i + 1, p + (i + 1) * n, 0.0F);
  }

  float* kq;    // [2n, Dk]: K above Q
  float* gp;    // [2n, n]: G above P
  float* beta;  // [n]
};

// ---- Forward

struct ForwardSpace {
  ForwardSpace(const DeltaProblem& p, Carver& carver)
      : key(p, carver),
        eo(carver.Take(2 * ChunkRows(p) * p.value_dim)),
        n(carver.Take(ChunkRows(p) * p.value_dim)),
        state(carver.Take(p.key_dim * p.value_dim)) {}

  KeySpace key;
  float* eo;     // [2n, Dv]: E above O
  float* n;      // [n, Dv]
  float* state;  // [Dk, Dv], when nobody wants the last one
};

struct ForwardHead {
  const VectorTable& vector;
  HeadRows q, k, v, beta, o;
  const HeadRows* errors;  // null: not wanted
  float* state;            // [Dk, Dv]: S before the chunk, then after it
};

void ForwardChunk(const ForwardHead& head, const ForwardSpace& space, int64_t t, int64_t n) {
  const int64_t dk = head.k.width;
  const int64_t dv = head.v.width;
  space.key.Load(head.k, head.q, head.beta, t, n);
  float* const e = space.eo;
  float* const o = space.eo + n * dv;
  Gemm(kPlain, kPlain, 2 * n, dv, dk, 1.0F, space.key.kq, dk, head.state, dv, 0.0F, space.eo, dv);
  for (int64_t i = 0; i < n; ++i) {
    head.vector.combine(1.0F, head.v.Row(t + i), -1.0F, e + i * dv, e + i * dv, dv);
  }
  SolveErrors({head.vector, space.key.gp, n, space.key.beta, n, dv}, e, space.n);
  Gemm(kPlain, kPlain, n, dv, n, 1.0F, space.key.gp + n * n, n, space.n, dv, 1.0F, o, dv);
  Gemm(kTransposed, kPlain, dk, dv, n, 1.0F, space.key.kq, dk, space.n, dv, 1.0F, head.state, dv);
  head.o.Store(t, n, o);
  if (head.errors != nullptr) head.errors->Store(t, n, e);
}

// The state of one head in a [B, H, Dk, Dv] tensor; null when the tensor is absent.
float* StateOf(const Tensor& tensor, int64_t index) {
  return tensor.present() ? tensor.data<float>() + index * tensor.dim(2) * tensor.dim(3) : nullptr;
}

// to = from, or zero when there is nothing to copy from. No copy onto itself or to nowhere.
void CopyState(const float* from, int64_t count, float* to) {
  if (from == nullptr) {
    std::fill_n(to, count, 0.0F);
  } else if (to != nullptr && to != from) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

// ---- Backward

struct BackwardSpace {
  BackwardSpace(const DeltaProblem& p, Carver& carver)
      : key(p, carver),
        e(carver.Take(ChunkRows(p) * p.value_dim)),
        n(carver.Take(ChunkRows(p) * p.value_dim)),
        y(carver.Take(ChunkRows(p) * p.value_dim)),
        xo(carver.Take(2 * ChunkRows(p) * p.value_dim)),
        d_gp(carver.Take(2 * ChunkRows(p) * ChunkRows(p))),
        d_kq(carver.Take(2 * ChunkRows(p) * p.key_dim)),
        state(carver.Take(p.key_dim * p.value_dim)),
        d_state(carver.Take(p.key_dim * p.value_dim)) {}

  KeySpace key;
  float* e;
  float* n;
  float* y;        // [n, Dv]: dN, then Y
  float* xo;       // [2n, Dv]: -dX above dO
  float* d_gp;     // [2n, n]: dG above dP
  float* d_kq;     // [2n, Dk]: dK above dQ
  float* state;    // S before the chunk
  float* d_state;  // the gradient of S after the chunk, then before it
};

struct BackwardHead {
  const VectorTable& vector;
  HeadRows q, k, beta, errors, d_o, d_q, d_k, d_v, d_beta;
};

// dK and dQ from the gradients of all that they enter into.
void KeyGradients(const BackwardSpace& space, int64_t dk, int64_t dv, int64_t n) {
  // E = V - K S and O = Q S: [dK; dQ] = [-dX; dO] S^T.
  Gemm(kPlain, kTransposed, 2 * n, dk, dv, 1.0F, space.xo, dv, space.state, dv, 0.0F, space.d_kq,
       dk);
  // G = K K^T and P = Q K^T: dG and dP have the shape of their lower triangles.
  for (int64_t i = 0; i < n; ++i) {
    std::fill(space.d_gp + i * n + i, space.d_gp + (i + 1) * n, 0.0F);
    std::fill(space.d_gp + (n + i) * n + i + 1, space.d_gp + (n + i + 1) * n, 0.0F);
  }
  Gemm(kPlain, kPlain, 2 * n, dk, n, 1.0F, space.d_gp, n, space.key.kq, dk, 1.0F, space.d_kq, dk);
  Gemm(kTransposed, kPlain, n, dk, 2 * n, 1.0F, space.d_gp, n, space.key.kq, dk, 1.0F, space.d_kq,
       dk);
  // S+ = S + K^T N; d_state is still the gradient of S+.
  Gemm(kPlain, kTransposed, n, dk, dv, 1.0F, space.n, dv, space.d_state, dv, 1.0F, space.d_kq, dk);
}

void BackwardChunk(const BackwardHead& head, const BackwardSpace& space, int64_t t, int64_t n) {
  const int64_t dk = head.k.width;
  const int64_t dv = head.d_o.width;
  const float* const k = space.key.kq;
  const float* const p = space.key.gp + n * n;
  float* const minus_dx = space.xo;
  float* const d_o = space.xo + n * dv;
  space.key.Load(head.k, head.q, head.beta, t, n);
  head.errors.Load(t, n, space.e);
  head.d_o.Load(t, n, d_o);
  for (int64_t i = 0; i < n; ++i) {
    head.vector.scale(space.key.beta[i], space.e + i * dv, space.n + i * dv, dv);
  }

  // The state before the chunk. For 128 x 128 this costs 10 us more than to store and load it (of
  // about 260 for the chunk), and saves two thirds of the memory.
  Gemm(kTransposed, kPlain, dk, dv, n, -1.0F, k, dk, space.n, dv, 1.0F, space.state, dv);
  // dN = P^T dO + K dS+, then through the triangular system.
  Gemm(kPlain, kPlain, n, dv, dk, 1.0F, k, dk, space.d_state, dv, 0.0F, space.y, dv);
  Gemm(kTransposed, kPlain, n, dv, n, 1.0F, p, n, d_o, dv, 1.0F, space.y, dv);
  SolveErrorGradients({head.vector, space.key.gp, n, space.key.beta, n, dv}, space.y, minus_dx);
  for (int64_t i = 0; i < n; ++i) {
    *head.d_beta.Row(t + i) = head.vector.dot(space.y + i * dv, space.e + i * dv, dv);
    head.vector.scale(-1.0F, minus_dx + i * dv, head.d_v.Row(t + i), dv);  // dV = dX
  }
  // [dG; dP] = [-dX; dO] N^T.
  Gemm(kPlain, kTransposed, 2 * n, n, dv, 1.0F, space.xo, dv, space.n, dv, 0.0F, space.d_gp, n);
  KeyGradients(space, dk, dv, n);
  head.d_k.Store(t, n, space.d_kq);
  head.d_q.Store(t, n, space.d_kq + n * dk);
  // dS = dS+ + Q^T dO - K^T dX.
  Gemm(kTransposed, kPlain, dk, dv, 2 * n, 1.0F, space.key.kq, dk, space.xo, dv, 1.0F,
       space.d_state, dv);
}

// A [B, T, H] tensor with rows of one element.
Tensor AsRows(const Tensor& tensor) {
  return tensor.Reshaped({tensor.dim(0), tensor.dim(1), tensor.dim(2), 1});
}

}  // namespace

absl::Status DeltaForwardCpu(Stream& stream, const DeltaProblem& p, const Tensor& q,
                             const Tensor& k, const Tensor& v, const Tensor& beta,
                             const Tensor& initial_state, Tensor& o, Tensor& final_state,
                             DeltaSaved& saved) {
  CpuStream& cpu = AsCpuStream(stream);
  const Tensor beta_rows = AsRows(beta);
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const auto space = ThreadSpace<ForwardSpace>(p);
    const int64_t state_count = p.key_dim * p.value_dim;
    // The state lives where it is wanted in the end. When that is where it came from, a decoding
    // step reads and writes it once each way.
    const Tensor& home = final_state.present() ? final_state : saved.state;
    float* const state = home.present() ? StateOf(home, index) : space.state;
    CopyState(StateOf(initial_state, index), state_count, state);
    const bool save = saved.errors.present();
    const HeadRows errors(save ? saved.errors : o, b, h);
    const ForwardHead head{cpu.vector(),
                           {q, b, h},
                           {k, b, h},
                           {v, b, h},
                           {beta_rows, b, h},
                           {o, b, h},
                           save ? &errors : nullptr,
                           state};
    for (int64_t t = 0; t < p.tokens; t += p.chunk) {
      ForwardChunk(head, space, t, std::min(p.chunk, p.tokens - t));
    }
    CopyState(state, state_count, StateOf(saved.state, index));
  });
  return absl::OkStatus();
}

absl::Status DeltaBackwardCpu(Stream& stream, const DeltaProblem& p, const Tensor& q,
                              const Tensor& k, const Tensor& beta, const DeltaSaved& saved,
                              const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q,
                              Tensor& d_k, Tensor& d_v, Tensor& d_beta, Tensor& d_initial_state) {
  CpuStream& cpu = AsCpuStream(stream);
  const Tensor beta_rows = AsRows(beta);
  const Tensor d_beta_rows = AsRows(d_beta);
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const auto space = ThreadSpace<BackwardSpace>(p);
    const int64_t state_count = p.key_dim * p.value_dim;
    CopyState(StateOf(saved.state, index), state_count, space.state);
    CopyState(StateOf(d_final_state, index), state_count, space.d_state);
    const BackwardHead head{
        cpu.vector(), {q, b, h},   {k, b, h},   {beta_rows, b, h}, {saved.errors, b, h},
        {d_o, b, h},  {d_q, b, h}, {d_k, b, h}, {d_v, b, h},       {d_beta_rows, b, h}};
    const int64_t last = (p.tokens - 1) / p.chunk * p.chunk;
    for (int64_t t = p.tokens > 0 ? last : -1; t >= 0; t -= p.chunk) {
      BackwardChunk(head, space, t, std::min(p.chunk, p.tokens - t));
    }
    CopyState(space.d_state, state_count, StateOf(d_initial_state, index));
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

// Memberships and affinity, fp32: a block of tokens of one head on its own thread, all of it
// products. The backward pass makes f again, which costs less than to store and load it.
#include <algorithm>
#include <cmath>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/cpu/gemm.h"

namespace weft::kernels {
namespace {

constexpr Transpose kPlain = Transpose::kNo;
constexpr Transpose kTransposed = Transpose::kYes;

constexpr int64_t kTokenBlock = 256;
// Tokens whose gradients of the parameters are summed by one thread.
constexpr int64_t kTokenRange = 1024;

struct Sizes {
  Sizes(const Tensor& x, const SbmClusterModel& model)
      : batch(x.dim(0)),
        tokens(x.dim(1)),
        heads(x.dim(2)),
        dim(x.dim(3)),
        clusters(model.clusters.dim(1)) {}

  [[nodiscard]] int64_t Ranges() const { return (tokens + kTokenRange - 1) / kTokenRange; }

  int64_t batch, tokens, heads, dim, clusters;
};

struct Space {
  Space(const Sizes& s, Carver& carver)
      : x(carver.Take(kTokenBlock * s.dim)),
        hidden(carver.Take(kTokenBlock * s.dim)),
        f(carver.Take(kTokenBlock * s.dim)),
        d_f(carver.Take(kTokenBlock * s.dim)),
        d_hidden(carver.Take(kTokenBlock * s.dim)),
        d_x(carver.Take(kTokenBlock * s.dim)),
        d_logits(carver.Take(kTokenBlock * s.clusters)) {}

  float* x;         // [n, D], a block of one head
  float* hidden;    // [n, D]: relu(x W1^T + b1)
  float* f;         // [n, D]
  float* d_f;       // [n, D]
  float* d_hidden;  // [n, D]
  float* d_x;       // [n, D]
  float* d_logits;  // [n, K]
};

// Gradients of the parameters from some tokens of one head.
struct Part {
  Part(const Sizes& s, float* memory)
      : w1(memory),
        w2(w1 + s.dim * s.dim),
        b1(w2 + s.dim * s.dim),
        b2(b1 + s.dim),
        clusters(b2 + s.dim) {}

  static int64_t Count(const Sizes& s) { return (2 * s.dim + 2 + s.clusters) * s.dim; }

  float* w1;
  float* w2;
  float* b1;
  float* b2;
  float* clusters;  // of the head alone
};

// y[n, D] = x m^T + bias
void Affine(const VectorTable& vector, const Tensor& m, const Tensor& bias, const float* x,
            int64_t n, float* y) {
  const int64_t dim = bias.count();
  Gemm(kPlain, kTransposed, n, dim, dim, 1.0F, x, dim, m.data<float>(), dim, 0.0F, y, dim);
  for (int64_t i = 0; i < n; ++i) vector.add(y + i * dim, bias.data<float>(), y + i * dim, dim);
}

// hidden and f of the n tokens in space.x.
void Map(const VectorTable& vector, const SbmClusterModel& model, int64_t n, const Space& space) {
  Affine(vector, model.w1, model.b1, space.x, n, space.hidden);
  for (int64_t i = 0; i < n * model.b1.count(); ++i) {
    space.hidden[i] = space.hidden[i] > 0.0F ? space.hidden[i] : 0.0F;
  }
  Affine(vector, model.w2, model.b2, space.hidden, n, space.f);
}

// The gradients of Affine: of m and bias added, of x written.
void AffineBackward(const VectorTable& vector, const Tensor& m, const float* x, const float* dy,
                    int64_t n, float* d_m, float* d_bias, float* d_x) {
  const int64_t dim = m.dim(0);
  Gemm(kTransposed, kPlain, dim, dim, n, 1.0F, dy, dim, x, dim, 1.0F, d_m, dim);
  for (int64_t i = 0; i < n; ++i) vector.add(d_bias, dy + i * dim, d_bias, dim);
  Gemm(kPlain, kPlain, n, dim, dim, 1.0F, dy, dim, m.data<float>(), dim, 0.0F, d_x, dim);
}

// Tokens [begin, begin + n) of one head, whose clusters and rows of memberships are given.
void BackwardBlock(const VectorTable& vector, const SbmClusterModel& model, const Sizes& s,
                   int64_t n, const float* clusters, const float* memberships,
                   const float* d_memberships, const Space& space, const Part& part) {
  Map(vector, model, n, space);
  vector.sigmoid_backward(memberships, 1.0F, d_memberships, space.d_logits, n * s.clusters);
  Gemm(kTransposed, kPlain, s.clusters, s.dim, n, 1.0F, space.d_logits, s.clusters, space.f, s.dim,
       1.0F, part.clusters, s.dim);
  Gemm(kPlain, kPlain, n, s.dim, s.clusters, 1.0F, space.d_logits, s.clusters, clusters, s.dim,
       0.0F, space.d_f, s.dim);
  AffineBackward(vector, model.w2, space.hidden, space.d_f, n, part.w2, part.b2, space.d_hidden);
  for (int64_t i = 0; i < n * s.dim; ++i) {
    space.d_hidden[i] = space.hidden[i] > 0.0F ? space.d_hidden[i] : 0.0F;
  }
  AffineBackward(vector, model.w1, space.x, space.d_hidden, n, part.w1, part.b1, space.d_x);
}

// One range of tokens of one head; `index` counts [B, H] and `range` the ranges of a sequence.
void BackwardRange(const VectorTable& vector, const SbmClusterModel& model, const Sizes& s,
                   int64_t index, int64_t range, const Tensor& x, const Tensor& memberships,
                   const Tensor& d_memberships, Tensor& d_x, Accumulate accumulate,
                   const Part& part) {
  const auto space = ThreadSpace<Space>(s);
  const HeadRows rows(x, index / s.heads, index % s.heads);
  const HeadRows d_rows(d_x, index / s.heads, index % s.heads);
  const float* const clusters = model.clusters.data<float>() + index % s.heads * s.clusters * s.dim;
  const int64_t end = std::min((range + 1) * kTokenRange, s.tokens);
  for (int64_t begin = range * kTokenRange; begin < end; begin += kTokenBlock) {
    const int64_t n = std::min(kTokenBlock, end - begin);
    const int64_t at = (index * s.tokens + begin) * s.clusters;
    rows.Load(begin, n, space.x);
    BackwardBlock(vector, model, s, n, clusters, memberships.data<float>() + at,
                  d_memberships.data<float>() + at, space, part);
    if (accumulate == Accumulate::kNo) {
      d_rows.Store(begin, n, space.d_x);
      continue;
    }
    for (int64_t i = 0; i < n; ++i) {
      float* const row = d_rows.Row(begin + i);
      vector.add(row, space.d_x + i * s.dim, row, s.dim);
    }
  }
}

// Adds the parts in the order of the tokens.
void AddParts(CpuStream& cpu, const Sizes& s, float* parts, SbmClusterModel& d_model) {
  const int64_t count = Part::Count(s);
  const int64_t ranges = s.Ranges();
  const VectorTable& vector = cpu.vector();
  // The clusters of each head, and what all heads share.
  cpu.ParallelFor(s.heads + 1, [&](int64_t h) {
    for (int64_t n = 0; n < s.batch * s.heads * ranges; ++n) {
      const Part part(s, parts + n * count);
      if (h == s.heads) {
        vector.add(d_model.w1.data<float>(), part.w1, d_model.w1.data<float>(), s.dim * s.dim);
        vector.add(d_model.w2.data<float>(), part.w2, d_model.w2.data<float>(), s.dim * s.dim);
        vector.add(d_model.b1.data<float>(), part.b1, d_model.b1.data<float>(), s.dim);
        vector.add(d_model.b2.data<float>(), part.b2, d_model.b2.data<float>(), s.dim);
      } else if (n / ranges % s.heads == h) {
        float* const clusters = d_model.clusters.data<float>() + h * s.clusters * s.dim;
        vector.add(clusters, part.clusters, clusters, s.clusters * s.dim);
      }
    }
  });
}

}  // namespace

absl::Status SbmMembershipForwardCpu(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                     Tensor& memberships) {
  CpuStream& cpu = AsCpuStream(stream);
  const Sizes s(x, model);
  const int64_t blocks = (s.tokens + kTokenBlock - 1) / kTokenBlock;
  cpu.ParallelFor(s.batch * s.heads * blocks, [&](int64_t tile) {
    const int64_t index = tile / blocks;
    const int64_t begin = tile % blocks * kTokenBlock;
    const int64_t n = std::min(kTokenBlock, s.tokens - begin);
    const auto space = ThreadSpace<Space>(s);
    HeadRows(x, index / s.heads, index % s.heads).Load(begin, n, space.x);
    Map(cpu.vector(), model, n, space);
    float* const rows = memberships.data<float>() + (index * s.tokens + begin) * s.clusters;
    Gemm(kPlain, kTransposed, n, s.clusters, s.dim, 1.0F, space.f, s.dim,
         model.clusters.data<float>() + index % s.heads * s.clusters * s.dim, s.dim, 0.0F, rows,
         s.clusters);
    cpu.vector().sigmoid(rows, 1.0F, rows, n * s.clusters);
  });
  return absl::OkStatus();
}

absl::Status SbmMembershipBackwardCpu(Stream& stream, const Tensor& x, const SbmClusterModel& model,
                                      const Tensor& memberships, const Tensor& d_memberships,
                                      Tensor& d_x, Accumulate accumulate,
                                      SbmClusterModel& d_model) {
  CpuStream& cpu = AsCpuStream(stream);
  const Sizes s(x, model);
  const int64_t ranges = s.Ranges();
  const int64_t count = Part::Count(s);
  thread_local Scratch<float> scratch;
  float* const parts = scratch.Get(s.batch * s.heads * ranges * count);
  cpu.ParallelFor(s.batch * s.heads * ranges, [&](int64_t n) {
    float* const memory = parts + n * count;
    std::fill_n(memory, count, 0.0F);
    BackwardRange(cpu.vector(), model, s, n / ranges, n % ranges, x, memberships, d_memberships,
                  d_x, accumulate, Part(s, memory));
  });
  AddParts(cpu, s, parts, d_model);
  return absl::OkStatus();
}

absl::Status SbmAffinityForwardCpu(Stream& stream, const Tensor& clusters, Tensor& affinity) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t count = clusters.dim(1);
  const int64_t dim = clusters.dim(2);
  cpu.ParallelFor(clusters.dim(0), [&](int64_t h) {
    const float* const c = clusters.data<float>() + h * count * dim;
    float* const s = affinity.data<float>() + h * count * count;
    Gemm(kPlain, kTransposed, count, count, dim, 1.0F, c, dim, c, dim, 0.0F, s, count);
    const float largest = cpu.vector().max(s, count * count);
    const float sum = cpu.vector().exp_sum(1.0F, s, largest, s, count * count);
    cpu.vector().scale(1.0F / sum, s, s, count * count);
  });
  return absl::OkStatus();
}

absl::Status SbmAffinityBackwardCpu(Stream& stream, const Tensor& clusters, const Tensor& affinity,
                                    const Tensor& d_affinity, Tensor& d_clusters) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t count = clusters.dim(1);
  const int64_t dim = clusters.dim(2);
  cpu.ParallelFor(clusters.dim(0), [&](int64_t h) {
    thread_local Scratch<float> scratch;
    float* const d_logits = scratch.Get(count * count);
    const float* const c = clusters.data<float>() + h * count * dim;
    const float* const s = affinity.data<float>() + h * count * count;
    const float* const d_s = d_affinity.data<float>() + h * count * count;
    float* const d_c = d_clusters.data<float>() + h * count * dim;
    const float mean = cpu.vector().dot(s, d_s, count * count);
    cpu.vector().multiply(s, d_s, d_logits, count * count);
    cpu.vector().axpy(-mean, s, d_logits, count * count);
    Gemm(kPlain, kPlain, count, dim, count, 1.0F, d_logits, count, c, dim, 1.0F, d_c, dim);
    Gemm(kTransposed, kPlain, count, dim, count, 1.0F, d_logits, count, c, dim, 1.0F, d_c, dim);
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels

// SBM attention problems as host arrays, their results on a device, and the textbook loops.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention/sbm/sbm.h"
#include "kernels/random/philox.h"
#include "tests/kernels/attention/attention_testing.h"

namespace weft::kernels::testing {

// Edges with their copies as a dense matrix [B, H, T, S].
using Mask = std::vector<int>;

inline AttentionDropout Dropout(double probability) {
  return {.probability = probability, .seed = 5, .step = 9, .layer = 3, .first_sequence = 11};
}

struct SbmInputs {
  SbmProblem problem = {};
  SbmDraws draws = {};
  Values q = {}, k = {}, v = {}, d_o = {};
  Values query = {}, key = {}, affinity = {};  // memberships
  std::vector<int32_t> valid = {};             // empty: no padding

  [[nodiscard]] Shape QueryShape() const {
    return {problem.batch, problem.queries, problem.heads, problem.head_dim};
  }
  [[nodiscard]] Shape KeyShape() const {
    return {problem.batch, problem.keys, problem.heads, problem.head_dim};
  }
  [[nodiscard]] Shape LseShape() const { return {problem.batch, problem.heads, problem.queries}; }
  [[nodiscard]] Shape QueryMemberships() const {
    return {problem.batch, problem.heads, problem.queries, problem.clusters};
  }
  [[nodiscard]] Shape KeyMemberships() const {
    return {problem.batch, problem.heads, problem.keys, problem.clusters};
  }
  [[nodiscard]] Shape AffinityShape() const {
    return {problem.heads, problem.clusters, problem.clusters};
  }
  [[nodiscard]] bool Valid(int64_t b, int64_t j) const {
    return valid.empty() || valid[b * problem.keys + j] != 0;
  }
  // Whether a pair may be an edge, from the header's words.
  [[nodiscard]] bool MayLink(int64_t b, int64_t i, int64_t j) const {
    const int64_t position = i + problem.keys - problem.queries;
    return Valid(b, j) && Valid(b, position) && (!problem.causal || j <= position);
  }
  // p_ij of head h in sequence b, without exploration.
  [[nodiscard]] double P(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t n = problem.clusters;
    double p = 0.0;
    for (int64_t uv = 0; uv < n * n; ++uv) {
      p += query[((b * problem.heads + h) * problem.queries + i) * n + uv / n] *
           affinity[h * n * n + uv] *
           key[((b * problem.heads + h) * problem.keys + j) * n + uv % n];
    }
    return p;
  }
  [[nodiscard]] std::string Name() const {
    return absl::StrCat("B", problem.batch, " T", problem.queries, " S", problem.keys, " H",
                        problem.heads, " D", problem.head_dim, " K", problem.clusters,
                        problem.causal ? " causal" : "", valid.empty() ? "" : " padded",
                        " sampler ", static_cast<int>(problem.sampler), " estimate ",
                        static_cast<int>(problem.straight_through), " dropout ",
                        problem.dropout.probability, " dense above ", problem.dense_above);
  }
};

struct SbmResults {
  std::vector<uint32_t> bits, copies;
  Values density;
  Values o, lse;
  Values d_q, d_k, d_v;
  Values d_query, d_key, d_affinity;
};

// Memberships between `lowest` and 1, an affinity that is no symmetric matrix. If they may be
// small, those of every other query are, so that its keys are few.
inline SbmInputs RandomSbm(SbmProblem problem, uint32_t seed = 1, double lowest = 0.0) {
  problem.scale = 1.0 / std::sqrt(static_cast<double>(problem.head_dim));
  NumberStream numbers(seed);
  SbmInputs in{.problem = problem, .draws = {.seed = seed, .step = 3, .layer = 2}};
  in.q = numbers.Symmetric(in.QueryShape().count());
  in.k = numbers.Symmetric(in.KeyShape().count());
  in.v = numbers.Symmetric(in.KeyShape().count());
  in.d_o = numbers.Symmetric(in.QueryShape().count());
  for (double& q : in.q) q *= 3.0;
  in.query = numbers.Uniform(in.QueryMemberships().count());
  in.key = numbers.Uniform(in.KeyMemberships().count());
  for (Values* values : {&in.query, &in.key}) {
    for (double& value : *values) value = lowest + (1.0 - lowest) * value;
  }
  for (size_t n = 0; n < in.query.size() && lowest == 0.0; ++n) {
    if (static_cast<int64_t>(n) / problem.clusters % 2 == 1) in.query[n] *= 0.2;
  }
  in.affinity = numbers.Uniform(in.AffinityShape().count());
  const int64_t square = problem.clusters * problem.clusters;
  for (int64_t h = 0; h < problem.heads; ++h) {
    double sum = 0.0;
    for (int64_t uv = 0; uv < square; ++uv) sum += in.affinity[h * square + uv];
    for (int64_t uv = 0; uv < square; ++uv) in.affinity[h * square + uv] /= sum;
  }
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o, &in.query, &in.key, &in.affinity}) {
    RoundToFloat(*values);
  }
  return in;
}

// The last `count` + b tokens of sequence b are padding.
inline void PadEnds(SbmInputs& in, int64_t count) {
  in.valid.assign(in.problem.batch * in.problem.keys, 1);
  for (int64_t b = 0; b < in.problem.batch; ++b) {
    const int64_t padded = std::min(count + b, in.problem.keys);
    std::fill_n(in.valid.begin() + ((b + 1) * in.problem.keys - padded), padded, 0);
  }
}

// One device with the operands of a problem; the ops in order.
class SbmRun {
 public:
  SbmRun(DeviceRun run, const SbmInputs& in)
      : run_(std::move(run)),
        in_(in),
        saved_{.q = run_.Upload(in.q, in.QueryShape()),
               .k = run_.Upload(in.k, in.KeyShape()),
               .v = run_.Upload(in.v, in.KeyShape()),
               .o = run_.New(in.QueryShape()),
               .lse = run_.NewSum(in.LseShape()),
               .memberships = {.query = run_.UploadSum(in.query, in.QueryMemberships()),
                               .key = run_.UploadSum(in.key, in.KeyMemberships()),
                               .affinity = run_.UploadSum(in.affinity, in.AffinityShape())},
               .valid = {},
               .graph = NewSbmGraph(run_.device(), in.problem).value()} {
    if (!in.valid.empty()) {
      saved_.valid = Integers({in.problem.batch, in.problem.keys});
      WEFT_CHECK(run_.device().CopyFromHost(saved_.valid, in.valid.data(), run_.stream()).ok());
    }
  }

  void Sample() {
    Check(SbmSampleGraph(run_.stream(), in_.problem, in_.draws, saved_.memberships, saved_.valid,
                         saved_.graph));
    results_.bits = Words(saved_.graph.bits);
    if (saved_.graph.copies.present()) results_.copies = Words(saved_.graph.copies);
    results_.density = run_.Download(saved_.graph.density);
  }
  // Instead of Sample.
  void SetGraph(const SbmResults& graph) {
    results_.bits = graph.bits;
    results_.copies = graph.copies;
    WEFT_CHECK(
        run_.device().CopyFromHost(saved_.graph.bits, graph.bits.data(), run_.stream()).ok());
    if (saved_.graph.copies.present()) {
      WEFT_CHECK(
          run_.device().CopyFromHost(saved_.graph.copies, graph.copies.data(), run_.stream()).ok());
    }
  }
  void Forward() {
    Check(SbmForward(run_.stream(), in_.problem, saved_.q, saved_.k, saved_.v, saved_.graph,
                     saved_.o, saved_.lse));
    results_.o = run_.Download(saved_.o);
    results_.lse = run_.Download(saved_.lse);
  }
  void Backward() {
    Tensor d_q = Dirty(in_.QueryShape());
    Tensor d_k = Dirty(in_.KeyShape());
    Tensor d_v = Dirty(in_.KeyShape());
    SbmMemberships d{.query = DirtySum(in_.QueryMemberships()),
                     .key = DirtySum(in_.KeyMemberships()),
                     .affinity = DirtySum(in_.AffinityShape())};
    Check(SbmBackward(run_.stream(), in_.problem, saved_, run_.Upload(in_.d_o, in_.QueryShape()),
                      d_q, d_k, d_v, d));
    results_.d_q = run_.Download(d_q);
    results_.d_k = run_.Download(d_k);
    results_.d_v = run_.Download(d_v);
    results_.d_query = run_.Download(d.query);
    results_.d_key = run_.Download(d.key);
    results_.d_affinity = run_.Download(d.affinity);
  }
  [[nodiscard]] const SbmResults& results() const { return results_; }

 private:
  static void Check(const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; }
  // Results must be overwritten, whatever they held.
  Tensor Dirty(const Shape& shape) { return run_.Upload(Values(shape.count(), 1e6), shape); }
  Tensor DirtySum(const Shape& shape) { return run_.UploadSum(Values(shape.count(), 1e6), shape); }
  Tensor Integers(const Shape& shape) {
    return NewTensor(run_.device(), DType::kI32, shape).value();
  }
  std::vector<uint32_t> Words(const Tensor& tensor) {
    std::vector<uint32_t> words(tensor.count());
    WEFT_CHECK(run_.device().CopyToHost(words.data(), tensor, run_.stream()).ok());
    return words;
  }

  DeviceRun run_;
  SbmInputs in_;
  SbmSaved saved_;
  SbmResults results_;
};

inline SbmResults SampleSbm(DeviceRun run, const SbmInputs& in) {
  SbmRun sbm(std::move(run), in);
  sbm.Sample();
  return sbm.results();
}

// The whole way; along `graph` when there is one.
inline SbmResults RunSbm(DeviceRun run, const SbmInputs& in, const SbmResults* graph = nullptr) {
  SbmRun sbm(std::move(run), in);
  if (graph == nullptr) {
    sbm.Sample();
  } else {
    sbm.SetGraph(*graph);
  }
  sbm.Forward();
  sbm.Backward();
  return sbm.results();
}

inline Mask MaskOf(const SbmInputs& in, const SbmResults& graph) {
  const int64_t keys = in.problem.keys;
  const int64_t words = (keys + 63) / 64 * 2;
  Mask mask(in.LseShape().count() * keys, 0);
  for (int64_t n = 0; n < static_cast<int64_t>(mask.size()); ++n) {
    const int64_t row = n / keys;
    const int64_t j = n % keys;
    mask[n] = static_cast<int>(graph.bits[row * words + j / 32] >> (j % 32) & 1U);
    if (mask[n] == 1 && !graph.copies.empty()) {
      mask[n] =
          static_cast<int>(graph.copies[row * ((keys + 3) / 4) + j / 4] >> (j % 4 * 8) & 255U);
    }
  }
  return mask;
}

inline SbmResults GraphOf(const SbmInputs& in, const Mask& mask) {
  const int64_t keys = in.problem.keys;
  const int64_t words = (keys + 63) / 64 * 2;
  const int64_t rows = in.LseShape().count();
  SbmResults graph;
  graph.bits.assign(rows * words, 0);
  const bool counts = in.problem.sampler == SbmSampler::kPoissonCopies;
  if (counts) graph.copies.assign(rows * ((keys + 3) / 4), 0);
  for (int64_t n = 0; n < rows * keys; ++n) {
    const int64_t j = n % keys;
    if (mask[n] > 0) graph.bits[n / keys * words + j / 32] |= 1U << (j % 32);
    if (counts) {
      graph.copies[n / keys * ((keys + 3) / 4) + j / 4] |= static_cast<uint32_t>(mask[n])
                                                           << (j % 4 * 8);
    }
  }
  return graph;
}

// Calls check(name, a's array, b's array, ...) for each of the results of attention.
template <typename Check, typename... Results>
void ForEachSbmResult(Check check, const Results&... results) {
  check("o", results.o...);
  check("lse", results.lse...);
  check("d_q", results.d_q...);
  check("d_k", results.d_k...);
  check("d_v", results.d_v...);
  check("d_query", results.d_query...);
  check("d_key", results.d_key...);
  check("d_affinity", results.d_affinity...);
}

}  // namespace weft::kernels::testing

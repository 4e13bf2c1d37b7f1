// What the forward and backward pass of linear attention on the CPU share: the state of a head, the
// keys of a chunk with their levels, and how they enter the state. All rows are dense. Private to
// kernels/attention.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/features/cpu/feature_tile.h"
#include "kernels/attention/linear_attention/linear_attention.h"
#include "kernels/attention/linear_attention/segments.h"
#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels {

// R [M, Dv], z [M] and m of one head, or the gradients of R and z.
struct LinearState {
  LinearState(const LinearAttentionProblem& p, float* memory)
      : features(FeatureCount(p.features, p.key_dim)),
        width(p.value_dim),
        r(memory),
        z(memory + features * width) {}

  [[nodiscard]] int64_t sums() const { return features * (width + 1); }  // elements of R and z
  void Clear(bool has_levels);
  // From and to a state in a tensor. Null: zero, and nowhere. `has_levels`: the tensor's m counts,
  // if anything was seen.
  void Load(const float* from, bool has_levels);
  void Store(float* to) const;
  void Scale(const VectorTable& vector, float factor);
  // Adds what other tokens have added to a state of their own.
  void Add(const VectorTable& vector, const LinearState& other);

  int64_t features;
  int64_t width;
  float* r;
  float* z;
  float level = 0.0F;  // -infinity: no key was seen; 0 where features have no levels
};

// exp(difference of two levels); what has the level -infinity does not exist.
float LevelFactor(float level, float unit);

class LinearPass;

// The keys and values of up to `chunk` tokens.
struct KeySpace {
  KeySpace(const LinearPass& pass, Carver& carver);

  float* k;        // [n, Dk]
  float* v;        // [n, Dv]
  float* f;        // [n, M]: k'
  float* kept;     // [n, kept]
  float* levels;   // [n]; -infinity: not valid
  float* running;  // [n]: m_i, the highest level up to i and before
  float* fading;   // [n]: exp(m - m_i), m that of the state before the chunk
  float* weight;   // [n]: exp(level - m_n), of each key in the state after the chunk
  float* sums;     // [M]
};

// One head of one sequence; keys and values as they lie in their tensors.
struct LinearHead {
  const LinearAttentionProblem& p;
  const VectorTable& vector;
  const FeatureTile& features;
  HeadRows k, v;
  const int32_t* valid;  // [T] of the sequence; null: all are

  [[nodiscard]] bool has_levels() const { return features.has_levels(); }
  // Loads tokens t ... t + n - 1: everything in `space` but what depends on the state.
  void LoadKeys(int64_t t, int64_t n, const KeySpace& space) const;
  // The rest, for a state of level `before`. Returns the level after the chunk.
  float RunLevels(float before, int64_t n, const KeySpace& space) const;
  // exp(level_j - m_i) for j <= i: what levels do to row i of the weights of a chunk.
  void LevelRow(const KeySpace& space, int64_t i, float* row) const;
  // state += sum of k' (v, 1)^T over the chunk, after RunLevels(state.level) returned `level`.
  // Values are left multiplied by their weights.
  void Absorb(float level, int64_t n, const KeySpace& space, LinearState& state) const;
};

// One call of an op: heads, and how their sequences are cut.
class LinearPass {
 public:
  // Borrows all three.
  LinearPass(CpuStream& cpu, const LinearAttentionProblem& problem,
             const LinearAttentionInputs& inputs);

  [[nodiscard]] CpuStream& cpu() const { return cpu_; }
  [[nodiscard]] const LinearAttentionProblem& problem() const { return problem_; }
  [[nodiscard]] const FeatureTile& features() const { return features_; }
  [[nodiscard]] const Segments& segments() const { return segments_; }
  [[nodiscard]] int64_t heads() const { return problem_.batch * problem_.heads; }
  [[nodiscard]] int64_t state_size() const { return LinearAttentionStateSize(problem_); }
  [[nodiscard]] int64_t chunk_rows() const;  // of the largest chunk

  // `index` counts heads of all sequences.
  [[nodiscard]] LinearHead Head(int64_t index) const;
  [[nodiscard]] HeadRows Rows(const Tensor& tensor, int64_t index) const;
  // The state of a head in a [B, H, state] tensor, of a segment in [B, H, segments, state]; null
  // when the tensor is absent.
  [[nodiscard]] float* State(const Tensor& tensor, int64_t index) const;

  // Calls body(t, n) for the chunks of a segment in order, or from the last to the first.
  void ForChunks(int64_t segment, absl::FunctionRef<void(int64_t, int64_t)> body) const;
  void ForChunksBackwards(int64_t segment, absl::FunctionRef<void(int64_t, int64_t)> body) const;
  // What each of the first `count` segments adds to a state: parts [heads, count, state].
  void SumSegments(int64_t count, float* parts) const;

 private:
  CpuStream& cpu_;
  const LinearAttentionProblem& problem_;
  const LinearAttentionInputs& inputs_;
  const FeatureTile features_;
  const Segments segments_;
};

}  // namespace weft::kernels

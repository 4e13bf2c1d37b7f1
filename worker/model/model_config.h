// What a model looks like: plain values, checked by Validate(). The layers are a list of mixers, so
// every hybrid (alternating windows, a few global layers) is just another list. The defaults make
// the language model of DeltaNet (Yang et al. 2024).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/model/mixers/mixer_config.h"
#include "worker/model/mlp.h"
#include "worker/model/norm.h"
#include "worker/model/parameter_layout.h"

namespace weft::worker {

enum class ModelKind : uint8_t {
  kLanguageModel,    // causal; the target of a position is the next token
  kTokenClassifier,  // sees the whole sequence; every position has a class
  kClassifier,       // sees the whole sequence, which has one class
  kTwoTower,         // two sequences through the same encoder; the pair has one class
};

enum class NormPlacement : uint8_t { kInput, kOutput };  // of a sublayer: see sublayer.h

enum class PositionKind : uint8_t {
  kNone,                    // mixers order the tokens themselves
  kSinusoidal,              // fixed sines and cosines are added to the embedding
  kSinusoidalConcatenated,  // the embedding has half the width, sines and cosines the other half
  kLearned,                 // a learned row for each position is added
};

// What a classifier makes of a sequence.
enum class Pooling : uint8_t {
  kMean,          // the sum of the valid tokens over the length, padding included
  kLeadingToken,  // the output at a learned vector before the first token
};

// Which linear maps have a bias.
struct BiasConfig {
  bool projections = false;  // of the mixers' inputs: queries, keys, values
  bool output = false;       // of the mixers' output projections
  bool mlp = false;
  bool logits = false;  // of a language model or token classifier; classifiers' heads always do
};

// Shares of values that are dropped in training; 0: none.
struct DropoutConfig {
  double embedding = 0.0;   // of the sum of embedding and positions
  double attention = 0.0;   // of attention weights
  double sublayer = 0.0;    // of what a mixer or an MLP adds to the residual stream
  double mlp_hidden = 0.0;  // of an MLP's hidden values
};

struct ModelConfig {
  ModelKind kind = ModelKind::kLanguageModel;
  int64_t vocabulary = 256;
  int64_t classes = 0;   // of every kind but kLanguageModel, whose classes are the vocabulary
  int64_t width = 256;   // d; every mixer's heads divide it
  int64_t hidden = 768;  // of the MLPs
  double norm_epsilon = 1e-6;
  std::vector<MixerConfig> layers = {};  // first layer first
  BiasConfig biases = {};
  bool output_projection = true;  // of the mixers; without it their merged heads are the output
  DropoutConfig dropout = {};

  NormKind norm = NormKind::kRms;
  NormPlacement norm_placement = NormPlacement::kInput;
  bool final_norm = true;  // before the head
  MlpKind mlp = MlpKind::kSwiglu;
  PositionKind positions = PositionKind::kNone;
  int64_t max_positions = 0;  // rows of kLearned, the leading token's included
  bool tied = false;          // the logits' weight is the embedding

  // Of classifiers with one class a sequence or pair.
  Pooling pooling = Pooling::kMean;
  int64_t head_hidden = 0;    // of the MLP from the pooled vector to the classes
  bool pair_products = true;  // of a pair a, b the head sees a, b, a * b, a - b; else a, b
  bool padded = false;        // sequences may have padding

  WeightScheme weights = WeightScheme::kNormal;
  // Of the embedding, whose elements are normal. Absent: what goes with the scheme.
  std::optional<double> embedding_deviation = std::nullopt;
};

// The customary SwiGLU width for a model width: 8/3 of it, rounded up to a multiple of 256.
int64_t DefaultHidden(int64_t width);

// kInvalidArgument that lists every problem, separated by "; ".
absl::Status Validate(const ModelConfig& config);

// What the layer's mixer is told of the model.
MixerPlace PlaceOf(const ModelConfig& config, size_t layer);

// The outputs of the head: classes, or of a language model the vocabulary.
int64_t ClassesOf(const ModelConfig& config);
// Whether a sequence, or pair, has one class.
bool HasOneTarget(const ModelConfig& config);
bool HasLeadingToken(const ModelConfig& config);
// Whether what a pass in training computes depends on where it stands in the job: it has dropout,
// or a mixer that draws graphs or hash projections.
bool HasDraws(const ModelConfig& config);
// Channels of the embedding table.
int64_t EmbeddingWidth(const ModelConfig& config);
// 0.02 in kNormal; 1 / sqrt(width) in kLecun, 1 in the others: what the embedding layers of Flax
// and of PyTorch do.
double EmbeddingDeviation(const ModelConfig& config);

// Everything that decides what the model computes, one line a part, exactly.
std::string Canonical(const ModelConfig& config);

}  // namespace weft::worker

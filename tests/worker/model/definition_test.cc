// Whole models against what the papers write, in plain loops: nothing is shared with the models but
// the names of the parameters.
#include <cmath>
#include <string>

#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using testing::ModelFixture;
using testing::NewReference;
using testing::ToHost;
using testing::Tokens;

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // of one sequence

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double Silu(double x) { return x * Sigmoid(x); }
double Dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
Row Sum(const Row& a, const Row& b) {
  Row sum = a;
  for (size_t i = 0; i < a.size(); ++i) sum[i] += b[i];
  return sum;
}
Row Part(const Row& x, size_t first, size_t count) {
  return {x.begin() + static_cast<int64_t>(first), x.begin() + static_cast<int64_t>(first + count)};
}

// The weights of a fixture by name.
class Weights {
 public:
  explicit Weights(ModelFixture& fixture)
      : layout_(fixture.model().layout()),
        values_(ToHost(fixture.weights().block(), fixture.stream())) {}

  [[nodiscard]] bool Has(const std::string& name) const { return Find(name) != nullptr; }
  [[nodiscard]] Row operator[](const std::string& name) const {
    const Parameter* parameter = Find(name);
    EXPECT_NE(parameter, nullptr) << name;
    return Part(values_, static_cast<size_t>(parameter->offset),
                static_cast<size_t>(parameter->shape.count()));
  }
  // W x, plus the bias if there is one.
  [[nodiscard]] Row Linear(const std::string& name, const Row& x) const {
    const Row w = (*this)[name + ".weight"];
    Row y(w.size() / x.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = Dot(Part(w, i * x.size(), x.size()), x);
    return Has(name + ".bias") ? Sum(y, (*this)[name + ".bias"]) : y;
  }

 private:
  [[nodiscard]] const Parameter* Find(const std::string& name) const {
    for (const Parameter& parameter : layout_.parameters()) {
      if (parameter.name == name) return &parameter;
    }
    return nullptr;
  }

  const ParameterLayout& layout_;
  Row values_;
};

Row RmsNorm(const Row& x, const Row& weight, double epsilon) {
  const double r = 1.0 / std::sqrt(Dot(x, x) / static_cast<double>(x.size()) + epsilon);
  Row y = x;
  for (size_t i = 0; i < x.size(); ++i) y[i] *= r * weight[i];
  return y;
}

Row LayerNorm(const Row& x, const Row& weight, const Row& bias, double epsilon) {
  double mean = 0, variance = 0;
  const auto n = static_cast<double>(x.size());
  for (const double value : x) mean += value / n;
  for (const double value : x) variance += (value - mean) * (value - mean) / n;
  Row y = x;
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = (x[i] - mean) / std::sqrt(variance + epsilon) * weight[i] + bias[i];
  }
  return y;
}

double CrossEntropy(const Row& logits, int32_t target) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return std::log(sum) - logits[static_cast<size_t>(target)];
}

constexpr int64_t kTokens = 11;
constexpr int64_t kVocabulary = 13;

// The fixture's losses against those of `model`, which gives the logits of a text.
template <typename Plain>
void ExpectLosses(const ModelConfig& config, Plain model) {
  ModelFixture fixture(config, NewReference(), {.batch = 1, .tokens = kTokens});
  fixture.EnlargeWeights();
  const std::vector<int32_t> tokens = Tokens(kTokens, kVocabulary, 2);
  const std::vector<int32_t> targets = Tokens(kTokens, kVocabulary, 3);
  fixture.SetBatch(tokens, targets);
  const std::vector<double> got = fixture.Losses();
  const Weights weights(fixture);
  const Rows logits = model(weights, tokens);
  for (size_t t = 0; t < tokens.size(); ++t) {
    EXPECT_NEAR(got[t], CrossEntropy(logits[t], targets[t]), 1e-11) << t;
  }
}

// ---- DeltaNet: Yang et al. 2024, section 3.4

struct PlainDeltaNet {
  DeltaMixerConfig mixer;
  size_t layers, width;

  // A projection, the convolution (tap 0 is the token's own) and SiLU.
  [[nodiscard]] Rows Branch(const Weights& w, const std::string& name, const Rows& x) const {
    Rows projected;
    for (const Row& row : x) projected.push_back(w.Linear(name, row));
    const auto taps = static_cast<size_t>(mixer.convolution_taps);
    Rows y = projected;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t c = 0; c < width; ++c) {
        double z = projected[t][c];
        if (taps > 0) {
          const Row filter = Part(w[name + "_convolution.weight"], c * taps, taps);
          z = 0;
          for (size_t j = 0; j < taps && j <= t; ++j) z += filter[j] * projected[t - j][c];
        }
        y[t][c] = Silu(z);
      }
    }
    return y;
  }

  [[nodiscard]] Rows Mix(const Weights& w, const std::string& prefix, const Rows& x) const {
    const Rows q = Branch(w, prefix + ".q", x);
    const Rows k = Branch(w, prefix + ".k", x);
    const Rows v = Branch(w, prefix + ".v", x);
    const auto heads = static_cast<size_t>(mixer.heads);
    const size_t d = width / heads;
    Rows merged(x.size(), Row(width));
    for (size_t h = 0; h < heads; ++h) {
      Rows state(d, Row(d));  // keys along the rows
      for (size_t t = 0; t < x.size(); ++t) {
        const auto normed = [&](const Row& row) {
          Row y = Part(row, h * d, d);
          const double r = 1.0 / std::sqrt(Dot(y, y) + 1e-6);
          for (double& value : y) value *= r;
          return y;
        };
        const Row query = normed(q[t]);
        const Row key = normed(k[t]);
        const double beta =
            Sigmoid(w.Linear(prefix + ".beta", x[t])[h]) * (mixer.negative_eigenvalues ? 2.0 : 1.0);
        Row o(d);
        for (size_t j = 0; j < d; ++j) {
          double predicted = 0;
          for (size_t i = 0; i < d; ++i) predicted += state[i][j] * key[i];
          const double written = beta * (v[t][h * d + j] - predicted);
          for (size_t i = 0; i < d; ++i) {
            state[i][j] += key[i] * written;
            o[j] += state[i][j] * query[i] / std::sqrt(static_cast<double>(d));
          }
        }
        o = RmsNorm(o, w[prefix + ".output_norm.weight"], 1e-6);
        std::copy(o.begin(), o.end(), merged[t].begin() + static_cast<int64_t>(h * d));
      }
    }
    for (size_t t = 0; t < x.size(); ++t) {
      if (mixer.output_gate) {
        const Row gate = w.Linear(prefix + ".gate", x[t]);
        for (size_t c = 0; c < width; ++c) merged[t][c] *= Silu(gate[c]);
      }
      merged[t] = w.Linear(prefix + ".output", merged[t]);
    }
    return merged;
  }

  Rows operator()(const Weights& w, const std::vector<int32_t>& tokens) const {
    Rows x;
    for (const int32_t token : tokens) {
      x.push_back(Part(w["embedding.weight"], static_cast<size_t>(token) * width, width));
    }
    for (size_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = absl::StrCat("layers.", layer);
      Rows normed;
      for (const Row& row : x) {
        normed.push_back(RmsNorm(row, w[prefix + ".mixer_norm.weight"], 1e-6));
      }
      const Rows mixed = Mix(w, prefix + ".mixer", normed);
      for (size_t t = 0; t < x.size(); ++t) {
        x[t] = Sum(x[t], mixed[t]);
        const Row in = RmsNorm(x[t], w[prefix + ".mlp_norm.weight"], 1e-6);
        Row hidden = w.Linear(prefix + ".mlp.gate", in);
        const Row up = w.Linear(prefix + ".mlp.up", in);
        for (size_t f = 0; f < hidden.size(); ++f) hidden[f] = Silu(hidden[f]) * up[f];
        x[t] = Sum(x[t], w.Linear(prefix + ".mlp.down", hidden));
      }
    }
    for (Row& row : x) row = w.Linear("head", RmsNorm(row, w["final_norm.weight"], 1e-6));
    return x;
  }
};

TEST(DeltaMixerTest, EqualsItsDefinition) {
  for (const DeltaMixerConfig& mixer :
       {DeltaMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 3, .convolution_taps = 0},
        DeltaMixerConfig{.heads = 1, .convolution_taps = 3, .negative_eigenvalues = true},
        DeltaMixerConfig{.heads = 2, .output_gate = true}}) {
    ModelConfig config{
        .vocabulary = kVocabulary, .width = 12, .hidden = 10, .layers = {mixer, mixer}};
    ExpectLosses(config, PlainDeltaNet{.mixer = mixer, .layers = 2, .width = 12});
  }
}

// ---- SLiM Performers: the model that Likhosherstov et al. 2021 published

struct PlainSlim {
  size_t layers, heads, width;

  [[nodiscard]] Row Embed(const Weights& w, int32_t token, double t) const {
    Row x = Part(w["embedding.weight"], static_cast<size_t>(token) * width / 2, width / 2);
    for (const bool cosine : {false, true}) {
      for (size_t c = 0; c < width / 4; ++c) {
        const double f = std::exp(-2.0 * static_cast<double>(c) * std::log(10000.0) /
                                  (static_cast<double>(width) / 2));
        x.push_back(cosine ? std::cos(t * f) : std::sin(t * f));
      }
    }
    return x;
  }

  [[nodiscard]] Rows Mix(const Weights& w, const std::string& prefix, const Rows& x) const {
    const size_t d = width / heads;
    Rows y(x.size(), Row(width));
    for (size_t h = 0; h < heads; ++h) {
      Rows sums(d, Row(d));
      Row total(d);
      for (size_t t = 0; t < x.size(); ++t) {
        const Row q = Part(w.Linear(prefix + ".q", x[t]), h * d, d);
        const Row k = Part(w.Linear(prefix + ".k", x[t]), h * d, d);
        const Row v = Part(w.Linear(prefix + ".v", x[t]), h * d, d);
        double denominator = 1e-16;
        for (size_t m = 0; m < d; ++m) {
          for (size_t j = 0; j < d; ++j) sums[m][j] += k[m] * k[m] * v[j];
          total[m] += k[m] * k[m];
          denominator += q[m] * q[m] * total[m];
        }
        for (size_t m = 0; m < d; ++m) {
          for (size_t j = 0; j < d; ++j) y[t][h * d + j] += q[m] * q[m] * sums[m][j] / denominator;
        }
      }
    }
    return y;  // the merged heads: there is no output projection
  }

  Rows operator()(const Weights& w, const std::vector<int32_t>& tokens) const {
    Rows x;
    for (const int32_t token : tokens) {
      x.push_back(Embed(w, token, static_cast<double>(x.size())));
    }
    for (size_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = absl::StrCat("layers.", layer);
      const auto norm = [&](const std::string& name, const Row& row) {
        return LayerNorm(row, w[prefix + name + ".weight"], w[prefix + name + ".bias"], 1e-5);
      };
      const Rows mixed = Mix(w, prefix + ".mixer", x);
      for (size_t t = 0; t < x.size(); ++t) {
        x[t] = Sum(x[t], norm(".mixer_norm", mixed[t]));
        Row hidden = w.Linear(prefix + ".mlp.up", x[t]);
        for (double& z : hidden) z *= 0.5 * (1.0 + std::erf(z / std::sqrt(2.0)));
        x[t] = Sum(x[t], norm(".mlp_norm", w.Linear(prefix + ".mlp.down", hidden)));
      }
    }
    for (Row& row : x) row = w.Linear("head", row);
    return x;
  }
};

TEST(SlimModelTest, EqualsItsDefinition) {
  ModelConfig config{.vocabulary = kVocabulary,
                     .width = 12,
                     .hidden = 10,
                     .norm_epsilon = 1e-5,
                     .layers = {SlimMixerConfig{.heads = 2}, SlimMixerConfig{.heads = 2}},
                     .biases = {.projections = true, .mlp = true, .logits = true},
                     .output_projection = false,
                     .norm = NormKind::kLayer,
                     .norm_placement = NormPlacement::kOutput,
                     .final_norm = false,
                     .mlp = MlpKind::kGelu,
                     .positions = PositionKind::kSinusoidalConcatenated};
  ExpectLosses(config, PlainSlim{.layers = 2, .heads = 2, .width = 12});
}

}  // namespace
}  // namespace weft::worker

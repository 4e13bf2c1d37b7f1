// What a worker makes of the presets: every one is a model that can be built, with the parameters
// that the papers' own models have.
#include "client/presets/presets.h"

#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "proto/spec/parse.h"
#include "tests/testing/status_matchers.h"
#include "worker/model/model.h"
#include "worker/rank/config_from_spec.h"

namespace weft::worker {
namespace {

absl::StatusOr<TrainConfig> ConfigOf(const client::Preset& preset) {
  v1::JobSpec spec;
  EXPECT_OK(spec::ToStatus(spec::ParseSpec(preset.text, spec)));
  return ConfigFromSpec(spec, "/data");
}

int64_t ParametersOf(absl::string_view name) {
  const auto preset = client::FindPreset(name);
  EXPECT_OK(preset);
  const auto config = ConfigOf(*preset);
  EXPECT_OK(config);
  const auto model = NewModel(config->model);
  EXPECT_OK(model);
  return (*model)->layout().parameter_count();
}

class PresetModel : public ::testing::TestWithParam<client::Preset> {};

TEST_P(PresetModel, CanBeBuilt) {
  const auto config = ConfigOf(GetParam());
  ASSERT_OK(config);
  EXPECT_OK(NewModel(config->model));
}

INSTANTIATE_TEST_SUITE_P(
    All, PresetModel, ::testing::ValuesIn(client::Presets().begin(), client::Presets().end()),
    [](const auto& instance) {
      return absl::StrReplaceAll(instance.param.name, {{"-", "_"}, {".", "_"}});
    });

TEST(PresetParametersTest, DeltaNetHasThePublishedNumbers) {
  EXPECT_EQ(ParametersOf("deltanet-340m"), 374362112);
  EXPECT_EQ(ParametersOf("deltanet-1.3b"), 1365677056);
}

// Embedding of half the width, three projections with biases, two norms, an MLP, logits with
// biases.
TEST(PresetParametersTest, SlimHasThePublishedParameters) {
  EXPECT_EQ(ParametersOf("slim-i"), 11940096);    // 11.94 million
  EXPECT_EQ(ParametersOf("slim-ii"), 8866048);    // 8.87
  EXPECT_EQ(ParametersOf("slim-iii"), 35033344);  // 35.03
  EXPECT_EQ(ParametersOf("slim-iv"), 35033344);
  EXPECT_EQ(ParametersOf("slim-ptb"), 8866048);
  EXPECT_EQ(ParametersOf("slim-enwik8"), 35033344);
}

// A cluster model in each of two layers: a map of 2 (d^2 + d) parameters and 128 clusters of each
// head.
TEST(PresetParametersTest, SbmHasThePublishedParameters) {
  auto config = ConfigOf(*client::FindPreset("sbm-lra-listops"));
  ASSERT_OK(config);
  for (MixerConfig& layer : config->model.layers) {
    layer = SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .rotary_base = 0};
  }
  const auto model = NewModel(config->model);
  ASSERT_OK(model);
  EXPECT_EQ(ParametersOf("sbm-lra-listops") - (*model)->layout().parameter_count(),
            2 * (2112 + 8192));
}

// The hidden width of the authors' program: 8/3 of the width, rounded down to a multiple of 8.
TEST(PresetParametersTest, PolysketchHasTheHiddenWidthsOfItsProgram) {
  for (const char* name : {"polysketch-small", "polysketch-medium", "polysketch-large"}) {
    const auto config = ConfigOf(*client::FindPreset(name));
    ASSERT_OK(config);
    EXPECT_EQ(config->model.hidden, config->model.width * 8 / 3 / 8 * 8) << name;
  }
}

// The hybrids are DeltaNets but for some layers: every second one, or the 2nd and the 13th.
TEST(PresetParametersTest, HybridsHaveAttentionWhereThePaperHas) {
  const auto attention = [](absl::string_view name) {
    std::vector<size_t> layers;
    const auto config = ConfigOf(*client::FindPreset(name));
    for (size_t i = 0; i < config->model.layers.size(); ++i) {
      if (std::holds_alternative<SoftmaxMixerConfig>(config->model.layers[i])) layers.push_back(i);
    }
    return layers;
  };
  EXPECT_EQ(attention("deltanet-1.3b-swa"),
            (std::vector<size_t>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}));
  EXPECT_EQ(attention("deltanet-1.3b-global"), (std::vector<size_t>{1, 12}));
}

}  // namespace
}  // namespace weft::worker

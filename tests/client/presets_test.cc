#include "client/presets/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"
#include "tests/testing/status_matchers.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using weft::testing::StatusIs;

std::string NameOf(const Preset& preset) { return absl::StrReplaceAll(preset.name, {{".", "-"}}); }

class EveryPreset : public ::testing::TestWithParam<Preset> {};

TEST_P(EveryPreset, IsAValidSpecOfItsName) {
  v1::JobSpec spec;
  EXPECT_THAT(spec::ToStatus(spec::ParseSpec(GetParam().text, spec)), weft::testing::IsOk());
  EXPECT_THAT(spec::ToStatus(spec::ResolveSpec(spec)), weft::testing::IsOk());
  EXPECT_EQ(spec.name(), NameOf(GetParam()));
}

// A title in the first line; then which numbers are the papers' and which are ours.
TEST_P(EveryPreset, SaysWhatItIsAndWhoseItsNumbersAre) {
  EXPECT_TRUE(absl::StartsWith(GetParam().text, "# "));
  EXPECT_THAT(std::string(TitleOf(GetParam())), AllOf(Not(IsEmpty()), Not(HasSubstr("\n"))));
  EXPECT_THAT(std::string(GetParam().text), HasSubstr("Ours"));
}

INSTANTIATE_TEST_SUITE_P(
    All, EveryPreset, ::testing::ValuesIn(Presets().begin(), Presets().end()),
    [](const auto& instance) {
      return absl::StrReplaceAll(instance.param.name, {{"-", "_"}, {".", "_"}});
    });

TEST(Presets, AreFoundByName) {
  ASSERT_OK_AND_ASSIGN(const Preset preset, FindPreset("deltanet-1.3b"));
  EXPECT_EQ(preset.name, "deltanet-1.3b");
  EXPECT_THAT(FindPreset("deltanet"),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("deltanet-1.3b-swa"), Not(HasSubstr("transformer")))));
  EXPECT_THAT(FindPreset("nothing-like-it"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("weft presets")));
}

}  // namespace
}  // namespace weft::client

#include "worker/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_replace.h"
#include "common/file/sha256.h"
#include "tests/testing/status_matchers.h"
#include "worker/checkpoint/checkpoint_names.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

Manifest Example() {
  return {.id = {.generation = 7, .step = 100},
          .files = {{"a.bin", 3, std::string(64, 'a')}, {"b.bin", 0, std::string(64, 'b')}}};
}

TEST(ManifestTest, ReadsBackWhatItRenders) {
  ASSERT_OK_AND_ASSIGN(const Manifest parsed, ParseManifest(RenderManifest(Example())));
  EXPECT_EQ(parsed.id, Example().id);
  EXPECT_EQ(parsed.files, Example().files);
}

TEST(ManifestTest, AnyOtherTextIsRefused) {
  const std::string text = RenderManifest(Example());
  EXPECT_THAT(ParseManifest(text + " "), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ParseManifest(text.substr(0, text.size() - 1)),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ParseManifest(absl::StrReplaceAll(text, {{"\"step\": 100", "\"step\": 101"}})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  EXPECT_THAT(ParseManifest(std::string("\xff\x00\x01", 3)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not a manifest")));
}

// The text with one field changed and its checksum made right again.
std::string Resealed(const std::string& from, const std::string& to) {
  std::string text = absl::StrReplaceAll(RenderManifest(Example()), {{from, to}});
  const size_t field = text.find("  \"sha256_of_the_above\"");
  const std::string above = text.substr(0, field);
  return above + "  \"sha256_of_the_above\": \"" + Sha256Of(above) + "\"\n}\n";
}

TEST(ManifestTest, AnotherVersionIsNotDamage) {
  EXPECT_THAT(ParseManifest(Resealed("\"version\": 1", "\"version\": 2")),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("manifest version 2")));
}

TEST(ManifestTest, AWrongFieldIsRefusedEvenWithARightChecksum) {
  EXPECT_THAT(ParseManifest(Resealed("\"step\": 100", "\"step\": \"x\"")),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("type must be number")));
  EXPECT_THAT(ParseManifest(Resealed("\"files\"", "\"flies\"")),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("files")));
  EXPECT_THAT(ParseManifest(Resealed("{", "[")), StatusIs(absl::StatusCode::kDataLoss));
}

// Golden text: other programs may read manifests too.
TEST(ManifestTest, LooksLikeThis) {
  const std::string above =
      "{\n  \"format\": \"weft.checkpoint\",\n  \"version\": 1,\n  \"generation\": 7,\n"
      "  \"step\": 100,\n  \"files\": [\n    {\n      \"name\": \"a\",\n      \"bytes\": 3,\n"
      "      \"sha256\": \"00\"\n    }\n  ],\n";
  EXPECT_EQ(RenderManifest({.id = {.generation = 7, .step = 100}, .files = {{"a", 3, "00"}}}),
            above + "  \"sha256_of_the_above\": \"" + Sha256Of(above) + "\"\n}\n");
}

TEST(CheckpointNamesTest, NamesReadBackAndSortByStep) {
  const CheckpointId id{.generation = 7, .step = 100};
  EXPECT_EQ(NameOfCheckpoint(id), "step_000000000100.g0000000007");
  EXPECT_EQ(CheckpointOfName(NameOfCheckpoint(id)), id);
  EXPECT_EQ(NameOfPartial(id, "w"), "partial.step_000000000100.g0000000007.w");
  EXPECT_EQ(CheckpointOfPartialName(NameOfPartial(id, "w")), id);
  const CheckpointId huge{.generation = INT64_MAX, .step = INT64_MAX};
  EXPECT_EQ(CheckpointOfName(NameOfCheckpoint(huge)), huge);
}

TEST(CheckpointNamesTest, OtherNamesAreNotTaken) {
  for (absl::string_view name :
       {"", "step_", "step_1.g1", "step_00000000010.g0000000007", "step_-00000000100.g0000000007",
        "step_000000000100.g0000000007.", "step_000000000100.g", "step_000000000100",
        " step_000000000100.g0000000007", "step_99999999999999999999.g0000000007"}) {
    EXPECT_EQ(CheckpointOfName(name), std::nullopt) << name;
  }
  EXPECT_EQ(GenerationOfName("0000000007"), 7);
  EXPECT_EQ(GenerationOfName("7"), std::nullopt);
}

}  // namespace
}  // namespace weft::worker

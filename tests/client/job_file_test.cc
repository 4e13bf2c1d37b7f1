#include "client/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::StatusIs;

constexpr char kGood[] = R"(
name: a
model: {width: 8, layers: 1, mixers: [{delta: {heads: 1}}]}
data: {text: {paths: [corpus, /abs]}}
training: {steps: 1, batch_size: 1, sequence_length: 4}
)";

class JobFile : public ::testing::Test {
 protected:
  std::string Write(const std::string& text) {
    std::string path = (directory_.path() / "job.yaml").string();
    std::ofstream(path) << text;
    return path;
  }

  weft::testing::TempDir directory_;
};

TEST_F(JobFile, TakesRelativePathsFromItsOwnFolder) {
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJob({Write(kGood)}));
  EXPECT_EQ(spec.data().text().paths(0), (directory_.path() / "corpus").string());
  EXPECT_EQ(spec.data().text().paths(1), "/abs");
}

// Behind a link `..` is the folder above its target, which only the kernel knows.
TEST_F(JobFile, LeavesDotDotToTheKernel) {
  std::string text = kGood;
  text.replace(text.find("[corpus, /abs]"), 14, "[link/../corpus, ./corpus, ./a/., /abs/../x]");
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJob({Write(text)}));
  EXPECT_EQ(spec.data().text().paths(0), (directory_.path() / "link/../corpus").string());
  EXPECT_EQ(spec.data().text().paths(1), (directory_.path() / "corpus").string());
  EXPECT_EQ(spec.data().text().paths(2), (directory_.path() / "a").string());
  EXPECT_EQ(spec.data().text().paths(3), "/abs/../x");
}

TEST_F(JobFile, RefusesPathsThatCannotBeSent) {
  const std::filesystem::path folder = directory_.path() / "Zo\xEB";
  std::filesystem::create_directory(folder);
  std::filesystem::rename(Write(kGood), folder / "job.yaml");
  EXPECT_THAT(ReadJob({(folder / "job.yaml").string()}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("data: the path"), EndsWith("/corpus must be UTF-8"))));
}

TEST_F(JobFile, LeavesGeneratedDataAlone) {
  std::string text = kGood;
  text.replace(text.find("{text"), std::string("{text: {paths: [corpus, /abs]}}").size(),
               "{induction_heads: {}}");
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJob({Write(text)}));
  EXPECT_TRUE(spec.data().has_induction_heads());
}

TEST_F(JobFile, NamesAllProblemsOnceAndTheFile) {
  const auto result =
      ReadJob({Write("name: A\nmodel: {width: x, layer: 2}\ntraining: {steps: 1}\n")});
  ASSERT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string text(result.status().message());
  EXPECT_THAT(text, AllOf(HasSubstr("job.yaml:\nmodel.width: must be a whole number"),
                          HasSubstr("did you mean layers?"), HasSubstr("name: must be lower-case"),
                          HasSubstr("data: is required"), HasSubstr("training.batch_size")));
  // What could not be read, or is misspelt, is not reported as missing as well.
  EXPECT_EQ(text.find("model.width"), text.rfind("model.width"));
  EXPECT_THAT(text, Not(HasSubstr("model.layers:")));
}

TEST_F(JobFile, OfAMisspeltSectionOnlyTheNameIsWrong) {
  std::string text = kGood;
  text.replace(text.find("training"), 8, "trainning");
  const absl::Status status = ReadJob({Write(text)}).status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("trainning: unknown field; did you mean training?"),
                    Not(HasSubstr("training.steps")), Not(HasSubstr("batch_size"))));
}

TEST_F(JobFile, AnUnknownKindIsNotAskedForAgain) {
  std::string text = kGood;
  text.replace(text.find("delta"), 5, "flash");
  const absl::Status status = ReadJob({Write(text)}).status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("job.yaml: model.mixers[0].flash: unknown field"),
                    Not(HasSubstr("must name a mechanism"))));
}

TEST_F(JobFile, ANumberBeyondItsTypeIsToldTheRangeOfItsField) {
  std::string text = kGood;
  text.replace(text.find("layers: 1"), 9, "layers: 99999999999");
  const std::string path = Write(text);
  EXPECT_THAT(ReadJob({path}), StatusIs(absl::StatusCode::kInvalidArgument,
                                        EndsWith("job.yaml: model.layers: must be 1 to 1024, is "
                                                 "99999999999 (line 3)")));
  EXPECT_THAT(ReadJob({.file = path, .settings = {"model.layers=-99999999999"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("model.layers: must be 1 to 1024, is -99999999999")));
}

TEST_F(JobFile, ANumberBeyondItsTypeIsToldTheGreatestWhereItsFieldHasNoOther) {
  const std::string path = Write(kGood);
  const auto set = [&](const std::string& setting) {
    return std::string(ReadJob({.file = path, .settings = {setting}}).status().message());
  };
  EXPECT_THAT(set("training.batch_size=4000000000"),
              EndsWith("must be a whole number of at most 2147483647, is '4000000000'"));
  EXPECT_THAT(set("training.steps=99999999999999999999999"),
              EndsWith("must be a whole number of at most 9223372036854775807, is "
                       "'99999999999999999999999'"));
}

TEST_F(JobFile, OfAZeroThatWasGivenTheRangeIsTold) {
  const std::string path = Write(kGood);
  const auto set = [&](const std::string& setting) {
    return std::string(ReadJob({.file = path, .settings = {setting}}).status().message());
  };
  EXPECT_THAT(set("training.optimizer.epsilon=0"), EndsWith("must be greater than 0, is 0"));
  EXPECT_THAT(set("model.mixers[0].delta.heads=0"),
              EndsWith("must be greater than 0, is 0 or missing"));
}

TEST_F(JobFile, SettingsChangeWhatTheFileSays) {
  ASSERT_OK_AND_ASSIGN(
      const v1::JobSpec spec,
      ReadJob({.file = Write(kGood),
               .settings = {"training.steps=7", "model.mixers[0].delta.heads=4",
                            "data={recall: {pairs: 1}}", "checkpoint.every_steps=3",
                            "training.learning_rate.peak=1e-2", "name=b"}}));
  EXPECT_EQ(spec.training().steps(), 7);
  EXPECT_EQ(spec.training().batch_size(), 1);
  EXPECT_EQ(spec.model().mixers(0).delta().heads(), 4);
  EXPECT_TRUE(spec.data().has_recall());
  EXPECT_EQ(spec.checkpoint().every_steps(), 3);
  EXPECT_EQ(spec.training().learning_rate().peak(), 0.01);
  EXPECT_EQ(spec.name(), "b");
}

TEST_F(JobFile, WrongSettingsAreNamed) {
  const std::string path = Write(kGood);
  const auto set = [&](const std::string& setting) {
    return ReadJob({.file = path, .settings = {setting}}).status();
  };
  for (const char* bad : {"training.steps", "=1", "training..steps=1", "model.mixers[x].delta=1",
                          "model.mixers[1].delta.heads=1", "name.length=1", "name={"}) {
    EXPECT_THAT(set(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr(std::string("--set ") + bad)));
  }
  const absl::Status unknown = set("training.step=1");
  EXPECT_THAT(unknown, StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("training.step: unknown field; did you mean steps?")));
  EXPECT_THAT(std::string(unknown.message()), Not(HasSubstr("line")));
}

TEST_F(JobFile, APresetTakesThePlaceOfAFile) {
  ASSERT_OK_AND_ASSIGN(
      const v1::JobSpec spec,
      ReadJob({.preset = "deltanet-340m", .settings = {"data={text: {paths: [mine]}}"}}));
  EXPECT_EQ(spec.name(), "deltanet-340m");
  EXPECT_EQ(spec.data().text().paths(0), (std::filesystem::current_path() / "mine").string());
  EXPECT_THAT(ReadJob({.preset = "deltanet-340"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("deltanet-340m")));
  EXPECT_THAT(ReadJob({}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one of the two")));
  EXPECT_THAT(ReadJob({.file = Write(kGood), .preset = "deltanet-340m"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one of the two")));
}

TEST_F(JobFile, SaysWhenThereIsNoFile) {
  EXPECT_THAT(ReadJob({(directory_.path() / "none.yaml").string()}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.yaml")));
  EXPECT_THAT(ReadJob({directory_.path().string()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("folder")));
  EXPECT_THAT(ReadJob({Write(std::string(2 << 20, '#'))}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 MiB")));
}

}  // namespace
}  // namespace weft::client

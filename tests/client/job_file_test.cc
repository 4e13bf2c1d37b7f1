#include "client/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::client {
namespace {

using ::testing::AllOf;
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
    const std::string path = (directory_.path() / "job.yaml").string();
    std::ofstream(path) << text;
    return path;
  }

  weft::testing::TempDir directory_;
};

TEST_F(JobFile, TakesRelativePathsFromItsOwnFolder) {
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJobFile(Write(kGood)));
  EXPECT_EQ(spec.data().text().paths(0), (directory_.path() / "corpus").string());
  EXPECT_EQ(spec.data().text().paths(1), "/abs");
}

TEST_F(JobFile, LeavesGeneratedDataAlone) {
  std::string text = kGood;
  text.replace(text.find("{text"), std::string("{text: {paths: [corpus, /abs]}}").size(),
               "{induction_heads: {}}");
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJobFile(Write(text)));
  EXPECT_TRUE(spec.data().has_induction_heads());
}

TEST_F(JobFile, NamesAllProblemsOnceAndTheFile) {
  const auto result =
      ReadJobFile(Write("name: A\nmodel: {width: x, layer: 2}\ntraining: {steps: 1}\n"));
  ASSERT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string text(result.status().message());
  EXPECT_THAT(text, AllOf(HasSubstr("job.yaml"), HasSubstr("model.width: must be a whole number"),
                          HasSubstr("did you mean layers?"), HasSubstr("name: must be lower-case"),
                          HasSubstr("data: is required"), HasSubstr("training.batch_size")));
  // The width that could not be read is not reported as missing as well.
  EXPECT_EQ(text.find("model.width"), text.rfind("model.width"));
}

TEST_F(JobFile, SaysWhenThereIsNoFile) {
  EXPECT_THAT(ReadJobFile((directory_.path() / "none.yaml").string()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.yaml")));
  EXPECT_THAT(ReadJobFile(directory_.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("folder")));
  EXPECT_THAT(ReadJobFile(Write(std::string(2 << 20, '#'))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 MiB")));
}

}  // namespace
}  // namespace weft::client

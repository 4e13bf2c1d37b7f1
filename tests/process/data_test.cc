// `weft data`: texts become tokens that a job trains on, and what a job sees can be looked at.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using weft::testing::ProgramResult;
using weft::testing::TestCluster;

class Data : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, const std::string& text) {
    const std::string path = cluster_.directory() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  ProgramResult Weft(const std::vector<std::string>& arguments) {
    return cluster_.RunProgram("weft", arguments);
  }

  TestCluster cluster_;  // only to run programs
};

constexpr char kJob[] = R"(
name: small
model: {width: 16, layers: 1, mlp_width: 32, mixers: [{delta: {heads: 1}}]}
training: {steps: 5, batch_size: 4, sequence_length: 15, shards: 4}
checkpoint: {every_steps: 0}
evaluation: {every_steps: 0, sequences: 4}
data: )";

TEST_F(Data, TextBecomesTokensThatAJobTrainsOn) {
  std::string text;
  for (int i = 0; i < 200; ++i) absl::StrAppend(&text, "line ", i, "\n");
  const std::string path = Put("text.txt", text);
  const ProgramResult tokenized =
      Weft({"data", "tokenize", path, "--output", cluster_.directory() + "/tokens", "--lines",
            "--shard-tokens", "1000"});
  EXPECT_EQ(tokenized.exit_code, 0) << tokenized.errors;
  EXPECT_THAT(tokenized.output, AllOf(StartsWith("200 texts"), HasSubstr("tokens_000001.bin")));
  const std::string job = Put(
      "job.yaml", absl::StrCat(kJob, "{tokens: {paths: [tokens_000000.bin, tokens_000001.bin]}}"));
  const ProgramResult printed = Weft({"data", "print", job, "-n", "2"});
  EXPECT_EQ(printed.exit_code, 0) << printed.errors;
  EXPECT_THAT(printed.output,
              AllOf(HasSubstr("tokens_000000.bin"),
                    HasSubstr("\"tokens\":[108,105,110,101,32,48,0,108,")));  // "line 0", its end
  const ProgramResult run =
      Weft({"run", job, "--state-dir", cluster_.directory() + "/own", "--workers", "1"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  EXPECT_THAT(run.output, HasSubstr("SUCCEEDED"));
}

TEST_F(Data, AGeneratedTaskTrainsWithoutAnyFile) {
  const std::string job = Put("job.yaml", absl::StrCat(kJob, "{copying: {symbols: 8}}"));
  const ProgramResult run =
      Weft({"run", job, "--state-dir", cluster_.directory() + "/own", "--workers", "1"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  EXPECT_THAT(run.output, HasSubstr("SUCCEEDED"));
}

TEST_F(Data, ListOpsFilesAreMade) {
  const std::string folder = cluster_.directory() + "/listops";
  const ProgramResult made = Weft(
      {"data", "listops", "--output", folder, "--train", "3", "--validation", "1", "--test", "1"});
  EXPECT_EQ(made.exit_code, 0) << made.errors;
  EXPECT_TRUE(std::filesystem::exists(folder + "/basic_test.tsv"));
}

TEST_F(Data, SaysWhenTheOutputCannotBeWritten) {
  const std::string text = Put("text.txt", "some text");
  const std::string job = Put("job.yaml", absl::StrCat(kJob, "{copying: {symbols: 8}}"));
  const std::string tokenize =
      absl::StrCat("data tokenize ", text, " --output ", cluster_.directory(), "/");
  for (const std::string& command :
       {absl::StrCat("data print ", job), absl::StrCat("data print -n 1000 ", job),
        absl::StrCat(tokenize, "full")}) {
    const ProgramResult full = cluster_.Shell(absl::StrCat("weft ", command, " > /dev/full"));
    EXPECT_EQ(full.exit_code, 1) << command;
    EXPECT_THAT(full.errors,
                HasSubstr("cannot write to standard output: No space left on device\n"));
  }
  // A reader that has seen enough ends them without a word.
  for (const std::string& command :
       {absl::StrCat("data print -n 100000 ", job), absl::StrCat(tokenize, "piped")}) {
    const ProgramResult piped =
        cluster_.Shell(absl::StrCat("weft ", command, " | head -1 > /dev/null"));
    EXPECT_EQ(piped.exit_code, 0) << command;
    EXPECT_EQ(piped.errors, "") << command;
  }
}

TEST_F(Data, ErrorsHaveTheirExitCodes) {
  const ProgramResult missing =
      Weft({"data", "tokenize", "/none", "--output", cluster_.directory() + "/t"});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.errors, AllOf(StartsWith("weft data: "), HasSubstr("/none")));
  EXPECT_EQ(Weft({"data", "tokenize"}).exit_code, 2);
  EXPECT_EQ(Weft({"data", "tokenize", "--help"}).exit_code, 0);
  EXPECT_THAT(Weft({"data", "tokenize", "--help"}).output, HasSubstr("--sentencepiece"));
  for (const char* flag : {"--json", "--sentencepiece"}) {
    const ProgramResult empty =
        Weft({"data", "tokenize", "/none", "--output", cluster_.directory() + "/t", flag, ""});
    EXPECT_EQ(empty.exit_code, 2);
    EXPECT_THAT(empty.errors, AllOf(HasSubstr(flag), HasSubstr("must not be empty")));
  }
  EXPECT_EQ(Weft({"data"}).exit_code, 2);
  EXPECT_EQ(Weft({"data", "print", "/none.yaml"}).exit_code, 3);
}

}  // namespace
}  // namespace weft

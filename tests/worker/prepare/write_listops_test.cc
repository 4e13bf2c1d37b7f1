#include "worker/prepare/write_listops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/file/durable_file.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/worker/data/data_files.h"
#include "tests/worker/data/read_sample.h"
#include "worker/data/generated/listops.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WriteListOpsTest : public DataFilesTest {};

TEST_F(WriteListOpsTest, TheFilesAreReadBackAndTrue) {
  const std::string folder = Path("made/listops");
  const WriteListOpsOptions options = {
      .folder = folder, .seed = 4, .train = 30, .validation = 10, .test = 5};
  ASSERT_OK(WriteListOps(options, RealFileSystem()));
  std::set<std::vector<int32_t>> seen;
  for (const HeldOut held_out : {HeldOut::kValidation, HeldOut::kTest}) {
    ASSERT_OK_AND_ASSIGN(const auto source, OpenListOpsFiles({.folder = folder}, 2048, held_out));
    EXPECT_EQ(source->sample_count(Split::kTrain), 30);
    const int64_t others = source->sample_count(Split::kValidation);
    EXPECT_EQ(others, held_out == HeldOut::kTest ? 5 : 10);
    for (const Split split : {Split::kTrain, Split::kValidation}) {
      for (int64_t i = 0; i < source->sample_count(split); ++i) {
        ReadSample sample = Sample(*source, split, i);
        sample.tokens.resize(
            static_cast<size_t>(std::count(sample.valid.begin(), sample.valid.end(), 1)));
        EXPECT_THAT(EvaluateListOps(sample.tokens), testing::IsOkAndHolds(sample.targets[0]));
        seen.insert(sample.tokens);
      }
    }
  }
  EXPECT_EQ(seen.size(), 45U);
  SampleDraws draws(4, SampleSet::kTrain, 0);
  EXPECT_TRUE(seen.contains(GenerateListOps(draws).tokens));
}

TEST_F(WriteListOpsTest, EqualSeedsGiveEqualFiles) {
  const auto file_of = [this](const std::string& name, uint64_t seed) {
    EXPECT_OK(
        WriteListOps({.folder = Path(name), .seed = seed, .train = 3, .validation = 1, .test = 1},
                     RealFileSystem()));
    auto bytes = ReadFile(RealFileSystem(), Path(name + "/basic_train.tsv"));
    EXPECT_OK(bytes);
    return bytes.value_or("");
  };
  const std::string first = file_of("a", 1);
  EXPECT_EQ(first, file_of("b", 1));
  EXPECT_NE(first, file_of("c", 2));
  EXPECT_EQ(first.substr(0, 15), "Source\tTarget\r\n");
}

TEST_F(WriteListOpsTest, AFullDiskIsNamedAndKeepsNothingUnfinished) {
  testing::FaultyFileSystem files;
  files.SetCapacity(1000);  // an expression has more
  EXPECT_THAT(
      WriteListOps({.folder = "/made", .train = 3, .validation = 1, .test = 1}, files),
      testing::StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/made/basic_train.tsv")));
  EXPECT_THAT(files.List("/made"), testing::IsOkAndHolds(IsEmpty()));
}

TEST_F(WriteListOpsTest, AFolderThatCannotBeMadeIsAnError) {
  Put("file", "x");
  EXPECT_FALSE(WriteListOps({.folder = Path("file/below"), .train = 1}, RealFileSystem()).ok());
}

}  // namespace
}  // namespace weft::worker

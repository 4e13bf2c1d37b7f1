// CIFAR-10 and Pathfinder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/data/data_files.h"
#include "tests/worker/data/read_sample.h"
#include "tests/worker/data/readers/png_files.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

// A record whose image has one colour.
std::string Record(int label, int red, int green, int blue) {
  return absl::StrCat(
      std::string(1, static_cast<char>(label)), std::string(1024, static_cast<char>(red)),
      std::string(1024, static_cast<char>(green)), std::string(1024, static_cast<char>(blue)));
}

class Cifar10Test : public DataFilesTest {
 protected:
  Cifar10Test() {
    // Twenty records; the label is the number modulo 10, so is the colour.
    int number = 0;
    for (int batch = 1; batch <= 5; ++batch) {
      std::string bytes;
      for (int i = 0; i < 4; ++i, ++number) {
        bytes += Record(number % 10, number, number, number);
      }
      Put(absl::StrCat("data_batch_", batch, ".bin"), bytes);
    }
    Put("test_batch.bin", Record(7, 200, 100, 50));
  }
  SampleSourceOr Open(Cifar10Files files = {}, HeldOut held_out = HeldOut::kValidation) {
    files.folder = folder_.path().string();
    return OpenCifar10(files, 1024, held_out);
  }
};

TEST_F(Cifar10Test, TheLastTenthIsHeldOut) {
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->shape(), (SampleShape{.sequence = 1024,
                                          .vocabulary = 256,
                                          .target_kind = TargetKind::kSample,
                                          .classes = 10,
                                          .padded = false}));
  EXPECT_EQ(source->sample_count(Split::kTrain), 18);
  EXPECT_EQ(source->sample_count(Split::kValidation), 2);
  const ReadSample sample = Sample(*source, Split::kTrain, 17);
  EXPECT_THAT(sample.tokens, Each(17));
  EXPECT_THAT(sample.targets, ElementsAre(7));
  EXPECT_THAT(Sample(*source, Split::kValidation, 0).tokens, Each(18));
}

TEST_F(Cifar10Test, TheTestBatchMayBeHeldOut) {
  ASSERT_OK_AND_ASSIGN(const auto source, Open({}, HeldOut::kTest));
  EXPECT_EQ(source->sample_count(Split::kTrain), 18);
  EXPECT_EQ(source->sample_count(Split::kValidation), 1);
  EXPECT_THAT(Sample(*source, Split::kValidation, 0).targets, ElementsAre(7));
}

// 0.2989 * 200 + 0.5870 * 100 + 0.1140 * 50 = 124.18, times 255.5 / 255 = 124.42;
// (19595 * 200 + 38470 * 100 + 7471 * 50 + 32768) / 65536 = 124.70.
TEST_F(Cifar10Test, ConvertsColoursToGrey) {
  ASSERT_OK_AND_ASSIGN(const auto tensorflow, Open({}, HeldOut::kTest));
  ASSERT_OK_AND_ASSIGN(const auto pillow, Open({.grey = GreyConversion::kPillow}, HeldOut::kTest));
  EXPECT_THAT(Sample(*tensorflow, Split::kValidation, 0).tokens, Each(124));
  EXPECT_THAT(Sample(*pillow, Split::kValidation, 0).tokens, Each(124));
  EXPECT_NE(tensorflow->fingerprint(), pillow->fingerprint());
  Put("test_batch.bin", Record(0, 0, 255, 0) + Record(0, 255, 0, 0) + Record(0, 0, 0, 255));
  ASSERT_OK_AND_ASSIGN(const auto red_green_blue, Open({}, HeldOut::kTest));
  // 0.5870, 0.2989, 0.1140 times 255.5: 149.97, 76.36, 29.12.
  EXPECT_EQ(Sample(*red_green_blue, Split::kValidation, 0).tokens[0], 149);
  EXPECT_EQ(Sample(*red_green_blue, Split::kValidation, 1).tokens[0], 76);
  EXPECT_EQ(Sample(*red_green_blue, Split::kValidation, 2).tokens[0], 29);
  ASSERT_OK_AND_ASSIGN(const auto rounded, Open({.grey = GreyConversion::kPillow}, HeldOut::kTest));
  // 38470, 19595, 7471 times 255 / 65536, rounded: 149.69, 76.25, 29.07.
  EXPECT_EQ(Sample(*rounded, Split::kValidation, 0).tokens[0], 150);
  EXPECT_EQ(Sample(*rounded, Split::kValidation, 1).tokens[0], 76);
  EXPECT_EQ(Sample(*rounded, Split::kValidation, 2).tokens[0], 29);
}

TEST_F(Cifar10Test, GreyStaysAsItIs) {
  std::string greys;
  for (int value = 0; value < 256; ++value) greys += Record(0, value, value, value);
  Put("test_batch.bin", greys);
  for (const GreyConversion grey : {GreyConversion::kTensorFlow, GreyConversion::kPillow}) {
    ASSERT_OK_AND_ASSIGN(const auto source, Open({.grey = grey}, HeldOut::kTest));
    for (int64_t value = 0; value < 256; ++value) {
      EXPECT_EQ(Sample(*source, Split::kValidation, value).tokens[5], value);
    }
  }
}

TEST_F(Cifar10Test, BlackPixelsMayBeMasked) {
  std::string record = Record(3, 5, 5, 5);
  for (const int plane : {0, 1, 2}) record[static_cast<size_t>(1 + plane * 1024 + 9)] = 0;
  Put("test_batch.bin", record);
  ASSERT_OK_AND_ASSIGN(const auto source, Open({.mask_zero_pixels = true}, HeldOut::kTest));
  EXPECT_TRUE(source->shape().padded);
  const ReadSample sample = Sample(*source, Split::kValidation, 0);
  for (size_t i = 0; i < 1024; ++i) EXPECT_EQ(sample.valid[i], i == 9 ? 0 : 1);
  ASSERT_OK_AND_ASSIGN(const auto plain, Open({}, HeldOut::kTest));
  EXPECT_NE(plain->fingerprint(), source->fingerprint());
}

TEST_F(Cifar10Test, ErrorsNameFileAndRecord) {
  EXPECT_THAT(OpenCifar10({.folder = folder_.path().string()}, 1000, HeldOut::kValidation),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1024")));
  Put("data_batch_3.bin", Record(1, 0, 0, 0) + Record(10, 0, 0, 0));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("data_batch_3.bin"), HasSubstr("record 1 is 10"))));
  Put("data_batch_3.bin", Record(1, 0, 0, 0) + "x");
  EXPECT_THAT(Open(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records of 3073 bytes")));
  std::filesystem::remove(Path("data_batch_3.bin"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("data_batch_3.bin")));
}

class PathfinderTest : public DataFilesTest {
 protected:
  // Images of 4 x 4 pixels: image i of folder n has the value 10 n + i, and black corners.
  PathfinderTest() {
    for (const int folder : {0, 2, 10}) {
      std::string metadata;
      for (int i = 0; i < 4; ++i) {
        std::vector<uint8_t> pixels(16, static_cast<uint8_t>(10 * folder + i + 1));
        pixels[0] = 0;
        PutImage(folder, i, GreyPng(4, 4, pixels));
        absl::StrAppend(&metadata, "imgs/", folder, " sample_", i, ".png ", i, " ", i % 2,
                        " 3.5 2 more\n");
      }
      Put(absl::StrCat("metadata/", folder, ".npy"), metadata);
    }
  }
  void PutImage(int folder, int i, const std::string& bytes) {
    Put(absl::StrCat("imgs/", folder, "/sample_", i, ".png"), bytes);
  }
  SampleSourceOr Open(HeldOut held_out = HeldOut::kValidation, bool mask = false,
                      int64_t sequence = 16) {
    return OpenPathfinder({.folder = folder_.path().string(), .mask_zero_pixels = mask}, sequence,
                          held_out);
  }
};

TEST_F(PathfinderTest, ReadsImagesInTheOrderOfTheirNumbers) {
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->shape(), (SampleShape{.sequence = 16,
                                          .vocabulary = 256,
                                          .target_kind = TargetKind::kSample,
                                          .classes = 2,
                                          .padded = false}));
  EXPECT_EQ(source->sample_count(Split::kTrain), 10);
  EXPECT_EQ(source->sample_count(Split::kValidation), 1);
  const ReadSample sample = Sample(*source, Split::kTrain, 5);  // folder 2, image 1
  EXPECT_EQ(sample.tokens[0], 0);
  EXPECT_EQ(sample.tokens[15], 22);
  EXPECT_THAT(sample.targets, ElementsAre(1));
  EXPECT_EQ(Sample(*source, Split::kTrain, 9).tokens[1], 102);
  EXPECT_EQ(Sample(*source, Split::kValidation, 0).tokens[1], 103);
  ASSERT_OK_AND_ASSIGN(const auto test, Open(HeldOut::kTest));
  EXPECT_EQ(Sample(*test, Split::kValidation, 0).tokens[1], 104);
  EXPECT_NE(test->fingerprint(), source->fingerprint());
}

TEST_F(PathfinderTest, BlackPixelsMayBeMasked) {
  ASSERT_OK_AND_ASSIGN(const auto source, Open(HeldOut::kValidation, true));
  const ReadSample sample = Sample(*source, Split::kTrain, 0);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(sample.valid[i], i == 0 ? 0 : 1);
}

TEST_F(PathfinderTest, EmptyFilesAreLeftOut) {
  PutImage(0, 1, "");
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->sample_count(Split::kTrain), 9);
  EXPECT_EQ(Sample(*source, Split::kTrain, 1).tokens[1], 3);
  EXPECT_THAT(source->Describe(), HasSubstr("without 1 empty files"));
}

TEST_F(PathfinderTest, TheFingerprintFollowsPathsLabelsAndBytes) {
  const auto fingerprint = [this] {
    const auto source = Open();
    EXPECT_OK(source);
    return source.ok() ? (*source)->fingerprint() : "";
  };
  const std::string base = fingerprint();
  std::vector<uint8_t> pixels(16, 22);
  pixels[0] = 0;
  PutImage(2, 1, GreyPng(4, 4, pixels));
  EXPECT_EQ(fingerprint(), base) << "the same image, written anew";
  pixels[15] = 23;
  PutImage(2, 1, GreyPng(4, 4, pixels));
  EXPECT_NE(fingerprint(), base) << "one other pixel";
  pixels[15] = 22;
  PutImage(2, 1, GreyPng(4, 4, pixels));
  Put("metadata/10.npy", "imgs/10 sample_0.png 0 0\nimgs/10 sample_1.png 1 1\n");
  const std::string fewer = fingerprint();
  EXPECT_NE(fewer, base) << "fewer images";
  Put("metadata/10.npy", "imgs/10 sample_0.png 0 0\nimgs/10 sample_1.png 1 0\n");
  EXPECT_NE(fingerprint(), fewer) << "another label";
}

TEST_F(PathfinderTest, APipeAmongTheImagesIsRefused) {
  std::filesystem::remove(Path("imgs/2/sample_1.png"));
  ASSERT_EQ(mkfifo(Path("imgs/2/sample_1.png").c_str(), 0600), 0);
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("2.npy:2"), HasSubstr("sample_1.png is a pipe"))));
}

TEST_F(PathfinderTest, ErrorsSayWhatWasExpectedWhere) {
  EXPECT_THAT(Open(HeldOut::kValidation, false, 15),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("square")));
  Put("metadata/2.npy", "imgs/2 sample_0.png 0 yes\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("metadata/2.npy:1"), HasSubstr("a label"))));
  Put("metadata/2.npy", "imgs/2 sample_9.png 0 1\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("2.npy:1"), HasSubstr("sample_9.png"))));
  std::filesystem::remove(Path("metadata/2.npy"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has 8 images; ten")));
  std::filesystem::remove_all(Path("metadata"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("metadata")));
  std::filesystem::create_directories(Path("metadata"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("<number>.npy")));
}

TEST_F(PathfinderTest, DamagedImagesAreSeenWhenTheyAreRead) {
  PutImage(0, 0, "nonsense");
  PutImage(0, 1, GreyPng(5, 5, std::vector<uint8_t>(25)));
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  ReadSample sample = {std::vector<int32_t>(16), std::vector<int32_t>(1), {}};
  const SampleBuffers buffers = {.tokens = absl::MakeSpan(sample.tokens),
                                 .targets = absl::MakeSpan(sample.targets)};
  EXPECT_THAT(source->Read(Split::kTrain, 0, buffers),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("imgs/0/sample_0.png"), HasSubstr("PNG"))));
  EXPECT_THAT(source->Read(Split::kTrain, 1, buffers),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("has 5 x 5 pixels")));
}

}  // namespace
}  // namespace weft::worker

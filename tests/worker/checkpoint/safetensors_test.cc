#include "worker/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using kernels::DType;
using kernels::Shape;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::StatusIs;

template <typename T, size_t N>
absl::string_view BytesOf(const std::array<T, N>& values) {
  return {reinterpret_cast<const char*>(values.data()), sizeof values};
}

std::string FileOf(absl::Span<const NamedTensor> tensors,
                   const std::map<std::string, std::string>& metadata = {}) {
  SafetensorsImage image;
  EXPECT_OK(MakeSafetensors(tensors, metadata, image));
  return absl::StrJoin(image.pieces, "");
}

// A file around any header text, for what the writer would never write.
std::string RawFile(const std::string& header, const std::string& contents) {
  const uint64_t length = header.size();
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&length), 8), header,
                      contents);
}

constexpr std::array<float, 2> kOneTwo = {1.0F, 2.0F};
constexpr std::array<int32_t, 1> kSeven = {7};

// Byte for byte by the published format; the same file opens in the Python package.
TEST(SafetensorsTest, WritesTheFormatByteForByte) {
  const std::string file = FileOf({{"w", DType::kF32, Shape{1, 2}, BytesOf(kOneTwo)},
                                   {"n", DType::kI32, Shape{}, BytesOf(kSeven)}},
                                  {{"format", "pt"}});
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                       R"("n":{"dtype":"I32","shape":[],"data_offsets":[8,12]}})";
  while (header.size() % 8 != 0) header += ' ';
  EXPECT_EQ(file, RawFile(header, std::string("\0\0\x80\x3f\0\0\0\x40\x07\0\0\0", 12)));
}

TEST(SafetensorsTest, ReadsBackEveryDtypeAndShape) {
  const std::array<double, 3> doubles = {1.5, -2.0, 0.25};
  const std::array<uint16_t, 4> halves = {0x3f80, 0, 0x4000, 0xff80};
  const std::vector<NamedTensor> tensors = {
      {"layers.0.weight", DType::kF64, Shape{3}, BytesOf(doubles)},
      {"empty", DType::kF32, Shape{0, 5}, ""},
      {"b", DType::kBf16, Shape{1, 2, 1, 2, 1}, BytesOf(halves)},
      {"s", DType::kF32, Shape{2}, BytesOf(kOneTwo)},
      {"i", DType::kI32, Shape{1}, BytesOf(kSeven)}};
  const std::string file = FileOf(tensors, {{"k", "v"}});
  ASSERT_OK_AND_ASSIGN(const std::vector<NamedTensor> parsed, ParseSafetensors(file));
  ASSERT_EQ(parsed.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(parsed[i].name, tensors[i].name);
    EXPECT_EQ(parsed[i].dtype, tensors[i].dtype);
    EXPECT_EQ(parsed[i].shape, tensors[i].shape);
    EXPECT_EQ(parsed[i].bytes, tensors[i].bytes);
  }
}

TEST(SafetensorsTest, AFileWithoutTensorsIsAFile) {
  const std::string file = FileOf({});
  ASSERT_OK_AND_ASSIGN(const auto parsed, ParseSafetensors(file));
  EXPECT_THAT(parsed, IsEmpty());
}

TEST(SafetensorsTest, RefusesTensorsThatDoNotFit) {
  SafetensorsImage image;
  const auto refused = [&](absl::Span<const NamedTensor> tensors) {
    return MakeSafetensors(tensors, {}, image);
  };
  const NamedTensor good{"w", DType::kF32, Shape{2}, BytesOf(kOneTwo)};
  EXPECT_THAT(refused({good, good}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("two tensors are called w")));
  EXPECT_THAT(refused({{"w", DType::kF32, Shape{3}, BytesOf(kOneTwo)}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("needs 12 bytes, not 8")));
  EXPECT_THAT(refused({{"", DType::kF32, Shape{2}, BytesOf(kOneTwo)}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(refused({{"__metadata__", DType::kF32, Shape{2}, BytesOf(kOneTwo)}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(refused({{"\xff", DType::kF32, Shape{2}, BytesOf(kOneTwo)}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("UTF-8")));
}

struct BadFile {
  std::string header;
  std::string contents;
  std::string reason;
};

TEST(SafetensorsTest, DamagedFilesAreRefusedWithTheReason) {
  const std::string eight(8, 'x');
  const auto tensor = [](absl::string_view rest) {
    return absl::StrCat(R"({"w":{"dtype":"F32",)", rest, "}}");
  };
  const BadFile bad_files[] = {
      {"", "", "not a JSON object"},
      {"[]", "", "not a JSON object"},
      {R"({"w":)", "", "not a JSON object"},
      {R"({"w":7})", "", "needs dtype"},
      {R"({"w":{"dtype":"F8","shape":[8],"data_offsets":[0,8]}})", eight, "dtype F8"},
      {R"({"w":{"dtype":4,"shape":[8],"data_offsets":[0,8]}})", eight, "needs dtype"},
      {tensor(R"("shape":[3],"data_offsets":[0,8])"), eight, "for 12 bytes"},
      {tensor(R"("shape":[-2],"data_offsets":[0,8])"), eight, "shape [-2]"},
      {tensor(R"("shape":"2","data_offsets":[0,8])"), eight, "shape \"2\""},
      {tensor(R"("shape":[1,1,1,1,1,2],"data_offsets":[0,8])"), eight, "up to 5 extents"},
      {tensor(R"("shape":[4294967296,4294967296],"data_offsets":[0,8])"), eight, "shape"},
      {tensor(R"("shape":[18446744073709551615],"data_offsets":[0,8])"), eight, "shape"},
      {tensor(R"("shape":[2],"data_offsets":[8,0])"), eight, "data_offsets [8,0]"},
      {tensor(R"("shape":[2],"data_offsets":[0])"), eight, "data_offsets [0]"},
      {tensor(R"("shape":[2],"data_offsets":[1,9])"), eight + "x", "expected from 0"},
      {tensor(R"("shape":[2],"data_offsets":[0,8])"), "short", "0 to 8 of 5"},
      {tensor(R"("shape":[2],"data_offsets":[0,8])"), eight + "x", "1 bytes belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       eight + "xxxx", "tensor b lies at bytes 4"},
  };
  for (const BadFile& bad : bad_files) {
    const std::string file = RawFile(bad.header, bad.contents);
    EXPECT_THAT(ParseSafetensors(file),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(bad.reason)))
        << bad.header;
  }
  EXPECT_THAT(ParseSafetensors("1234567"), StatusIs(absl::StatusCode::kDataLoss));
  const std::string huge = std::string(8, '\xff') + "{}";
  EXPECT_THAT(ParseSafetensors(huge), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("claims")));
}

TEST(SafetensorsTest, EveryCutIsRefused) {
  const std::string file = FileOf({{"w", DType::kF32, Shape{2}, BytesOf(kOneTwo)}});
  for (size_t length = 0; length < file.size(); ++length) {
    const std::string cut = file.substr(0, length);
    EXPECT_THAT(ParseSafetensors(cut), StatusIs(absl::StatusCode::kDataLoss)) << length;
  }
}

}  // namespace
}  // namespace weft::worker

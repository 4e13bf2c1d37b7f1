#include "worker/data/readers/png_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/worker/data/readers/png_files.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(PngImageTest, PixelsAreTheStoredValues) {
  std::vector<uint8_t> pixels(256);
  std::iota(pixels.begin(), pixels.end(), uint8_t{0});
  ASSERT_OK_AND_ASSIGN(const GreyImage image, DecodeGreyPng(GreyPng(32, 8, pixels)));
  EXPECT_EQ(image.width, 32);
  EXPECT_EQ(image.height, 8);
  EXPECT_EQ(image.pixels, pixels);
}

TEST(PngImageTest, OtherKindsOfImagesAreRefused) {
  const std::vector<uint16_t> pixels(64);
  for (const uint32_t format : {PNG_FORMAT_RGB, PNG_FORMAT_GA, PNG_FORMAT_LINEAR_Y}) {
    EXPECT_THAT(DecodeGreyPng(EncodePng(4, 4, format, pixels.data())),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected a grey PNG")));
  }
}

TEST(PngImageTest, DamageIsNoticed) {
  const std::string png = GreyPng(4, 4, std::vector<uint8_t>(16, 9));
  EXPECT_THAT(DecodeGreyPng(""), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(DecodeGreyPng("no picture at all"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("PNG")));
  EXPECT_THAT(DecodeGreyPng(absl::string_view(png).substr(0, png.size() / 2)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("PNG")));
  std::string flipped = png;
  char& pixels = flipped.at(flipped.find("IDAT") + 7);  // compressed
  pixels = static_cast<char>(pixels ^ 0x10);
  EXPECT_THAT(DecodeGreyPng(flipped), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace weft::worker

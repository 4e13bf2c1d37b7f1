#include "client/picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include "absl/strings/str_cat.h"
#include "client/plot.h"
#include "tests/testing/status_matchers.h"

namespace weft::client {
namespace {

using ::testing::HasSubstr;

constexpr Color kRed = {200, 20, 30};

struct Decoded {
  uint32_t width = 0;
  uint32_t height = 0;
  std::vector<uint8_t> pixels;  // red, green, blue

  // "200,20,30"
  [[nodiscard]] std::string At(int x, int y) const {
    const size_t at = (static_cast<size_t>(y) * width + static_cast<size_t>(x)) * 3;
    return absl::StrCat(pixels[at], ",", pixels[at + 1], ",", pixels[at + 2]);
  }
  // Pixels of a rectangle that are not white.
  [[nodiscard]] int Drawn(int left, int top, int right, int bottom) const {
    int count = 0;
    for (int y = top; y < bottom; ++y) {
      for (int x = left; x < right; ++x) count += At(x, y) != "255,255,255" ? 1 : 0;
    }
    return count;
  }
};

Decoded DrawAndDecode(const Picture& picture) {
  const absl::StatusOr<std::string> png = ToPng(picture);
  EXPECT_OK(png.status());
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  EXPECT_NE(png_image_begin_read_from_memory(&image, png->data(), png->size()), 0) << image.message;
  image.format = PNG_FORMAT_RGB;
  Decoded decoded = {.width = image.width,
                     .height = image.height,
                     .pixels = std::vector<uint8_t>(PNG_IMAGE_SIZE(image))};
  EXPECT_NE(png_image_finish_read(&image, nullptr, decoded.pixels.data(), 0, nullptr), 0);
  return decoded;
}

TEST(ToPng, DrawsLinesAndDiscsWithTwoPixelsAUnit) {
  const Decoded image = DrawAndDecode(
      {.width = 50,
       .height = 40,
       .shapes = {Line{.points = {{10, 10}, {40, 10}, {40, 30}}, .width = 2, .color = kRed},
                  Disc{.center = {15, 25}, .radius = 4, .color = {0, 0, 255}}}});
  EXPECT_EQ(image.width, 100U);
  EXPECT_EQ(image.height, 80U);
  EXPECT_EQ(image.At(50, 20), "200,20,30");
  EXPECT_EQ(image.At(80, 40), "200,20,30");
  EXPECT_EQ(image.At(50, 25), "255,255,255");
  EXPECT_EQ(image.At(30, 50), "0,0,255");
  EXPECT_EQ(image.At(30, 44), "0,0,255");
  EXPECT_EQ(image.At(30, 60), "255,255,255");
}

TEST(ToPng, PutsWordsOnTheirLineAtTheirAnchor) {
  const auto draw = [](Anchor anchor) {
    return DrawAndDecode(
        {.width = 200,
         .height = 50,
         .shapes = {Words{.place = {100, 30}, .text = "MMM", .anchor = anchor, .size = 20}}});
  };
  // Letters stand on the line y = 60 of pixels and are less than 40 high; 200 is their place.
  const Decoded begin = draw(Anchor::kBegin);
  EXPECT_GT(begin.Drawn(200, 20, 400, 62), 100);
  EXPECT_EQ(begin.Drawn(0, 0, 196, 100), 0);
  EXPECT_EQ(begin.Drawn(0, 64, 400, 100), 0);
  const Decoded end = draw(Anchor::kEnd);
  EXPECT_GT(end.Drawn(0, 20, 200, 62), 100);
  EXPECT_EQ(end.Drawn(204, 0, 400, 100), 0);
  const Decoded middle = draw(Anchor::kMiddle);
  EXPECT_NEAR(middle.Drawn(0, 0, 200, 100), middle.Drawn(200, 0, 400, 100), 40);
}

TEST(ToPng, OfNothingIsWhite) {
  EXPECT_EQ(DrawAndDecode({.width = 3, .height = 2, .shapes = {Line(), Words()}}).Drawn(0, 0, 6, 4),
            0);
}

TEST(DrawPicture, IsTheSameInBothFormats) {
  const Curve line = {.name = "loss", .points = {{0, 5}, {10, 3}, {20, 1}}, .marks = false};
  const Curve marks = {.name = "validation loss", .points = {{5, 2}}, .marks = true};
  const Picture picture = DrawPicture({line, marks}, "demo-1");
  const Decoded png = DrawAndDecode(picture);
  const std::string svg = ToSvg(picture);
  // The middle of the line and the mark, in units and in pixels.
  EXPECT_THAT(svg, HasSubstr("70.00,50.00 425.00,225.00 780.00,400.00\" fill=\"none\" "
                             "stroke=\"#1f77b4\""));
  EXPECT_EQ(png.At(850, 450), "31,119,180");
  EXPECT_THAT(svg, HasSubstr("<circle cx=\"247.50\" cy=\"312.50\" r=\"4\" fill=\"#d62728\"/>"));
  EXPECT_EQ(png.At(495, 625), "214,39,40");
  EXPECT_THAT(svg, HasSubstr(">demo-1</text>"));
  EXPECT_GT(png.Drawn(140, 20, 300, 50), 50);  // the title
}

TEST(ToSvg, EscapesWords) {
  EXPECT_THAT(ToSvg({.width = 9, .height = 9, .shapes = {Words{.text = "a<b & c"}}}),
              HasSubstr(">a&lt;b &amp; c</text>"));
}

}  // namespace
}  // namespace weft::client

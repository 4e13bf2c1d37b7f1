#include "client/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace weft::client {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Curve LineOf(std::vector<Point> points) {
  return {.name = "loss", .points = std::move(points), .marks = false};
}

std::string Svg(const std::vector<Curve>& curves, const std::string& title) {
  return ToSvg(DrawPicture(curves, title));
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

TEST(DrawText, ALineFromCornerToCornerTakesTheDotsOfTheDiagonal) {
  // Two letters of 2 by 4 dots, twice: the dots (0,7) (1,5) (2,2) (3,0) and what joins them.
  EXPECT_THAT(Lines(DrawText({LineOf({{0, 1}, {30, 4}})}, 11, 2, true)),
              ElementsAre("      4 │ ⡜", "      1 │⡜", "         0step 30", "         ⠒ loss"));
}

TEST(DrawText, WithoutUnicodeDotsAreFullStopsAndMarksAreLetters) {
  const Curve marks = {.name = "validation loss", .points = {{0, 4}, {30, 1}}, .marks = true};
  EXPECT_THAT(Lines(DrawText({LineOf({{0, 1}, {30, 4}}), marks}, 11, 2, false)),
              ElementsAre("      4 |o.", "      1 |.o", "         0step 30",
                          "         . loss   o validation loss"));
}

TEST(DrawText, TheAxisIsStraightBesideLongNumbers) {
  const auto lines = Lines(DrawText({LineOf({{0, -1.234e-05}, {30, -1e-12}})}, 40, 4, false));
  EXPECT_THAT(lines[3], StartsWith("-1.234e-05 |"));
  for (size_t row = 0; row < 4; ++row) EXPECT_EQ(lines[row].find('|'), 11U) << lines[row];
  EXPECT_EQ(lines[4].find('0'), 12U);
  for (const std::string& line : lines) EXPECT_LE(line.size(), 40U) << line;
}

TEST(DrawText, MarksStandOverTheLine) {
  const Curve marks = {.name = "val", .points = {{0, 2}}, .marks = true};
  const auto lines = Lines(DrawText({LineOf({{0, 2}, {9, 2}}), marks}, 12, 3, true));
  // One value: the line lies in the middle.
  EXPECT_EQ(lines[0], "      3 │");
  EXPECT_EQ(lines[1], "        │●⠤⠤");
  EXPECT_EQ(lines[2], "      1 │");
}

TEST(DrawText, WhatIsNotFiniteIsLeftOut) {
  const std::vector<Point> points = {{0, 1}, {10, kNan}, {20, 2}, {30, 4}};
  EXPECT_EQ(DrawText({LineOf(points)}, 40, 5, true),
            DrawText({LineOf({{0, 1}, {20, 2}, {30, 4}})}, 40, 5, true));
}

TEST(DrawText, AnythingFitsIntoItsColumns) {
  std::vector<Point> points;
  for (int i = 0; i < 5000; ++i) points.push_back({i * 1.0, (i * 7919) % 1000 / 3.0});
  for (const std::string& line : Lines(DrawText({LineOf(points)}, 60, 10, false))) {
    EXPECT_LE(line.size(), 60U) << line;
  }
  DrawText({}, 1, 1, true);  // a very small terminal
}

TEST(RangeOf, OfNothingIsNotEmpty) {
  const PlotRange range = RangeOf({LineOf({{1, kNan}})});
  EXPECT_LT(range.left, range.right);
  EXPECT_LT(range.bottom, range.top);
}

TEST(DrawPicture, PutsPointsWhereTheyBelong) {
  const Curve marks = {.name = "validation loss", .points = {{10, 3}}, .marks = true};
  const std::string svg = Svg({LineOf({{0, 5}, {10, kNan}, {20, 1}}), marks}, "a<b & c-1");
  EXPECT_THAT(svg, StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, EndsWith("</svg>\n"));
  // The frame is 70 to 780 across and, from the top, 50 to 400.
  EXPECT_THAT(svg, HasSubstr("points=\"70.00,50.00 780.00,400.00\""));
  EXPECT_THAT(svg, HasSubstr("<circle cx=\"425.00\" cy=\"225.00\""));
  EXPECT_THAT(svg, HasSubstr(">a&lt;b &amp; c-1</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(DrawPicture, NumbersAtTheAxesAreRound) {
  const std::string svg = Svg({LineOf({{1, 1.03}, {1234, 5.97}})}, "t");
  for (const char* number : {">200<", ">1200<", ">2<", ">5<"}) EXPECT_THAT(svg, HasSubstr(number));
  EXPECT_THAT(svg, Not(HasSubstr(">1.03<")));
}

}  // namespace
}  // namespace weft::client

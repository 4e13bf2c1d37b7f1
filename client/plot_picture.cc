#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_format.h"
#include "client/plot.h"

namespace weft::client {
namespace {

constexpr int kWidth = 800;
constexpr int kHeight = 450;
constexpr double kLeft = 70;  // the frame of the drawing within the picture
constexpr double kRight = 780;
constexpr double kTop = 50;
constexpr double kBottom = 400;
constexpr Color kGrid = {0xdd, 0xdd, 0xdd};
constexpr Color kFrame = {0x88, 0x88, 0x88};
constexpr std::array<Color, 4> kColors = {
    {{0x1f, 0x77, 0xb4}, {0xd6, 0x27, 0x28}, {0x2c, 0xa0, 0x2c}, {0x94, 0x67, 0xbd}}};

Point Place(const Point& point, const PlotRange& range) {
  return {kLeft + (point.x - range.left) / (range.right - range.left) * (kRight - kLeft),
          kBottom - (point.y - range.bottom) / (range.top - range.bottom) * (kBottom - kTop)};
}

// Round numbers, three to eight of them, from the first to the last inside a range.
std::vector<double> Ticks(double low, double high) {
  const double rough = (high - low) / 8;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double nice : {1.0, 2.0, 5.0}) {
    if (nice * power >= rough) {
      step = nice * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step); i * step <= high + step * 1e-9; ++i) {
    ticks.push_back(i * step);
  }
  return ticks;
}

void DrawAxes(const PlotRange& range, std::vector<Shape>& shapes) {
  for (const double x : Ticks(range.left, range.right)) {
    shapes.push_back(Words{.place = {Place({x, 0}, range).x, kBottom + 20},
                           .text = absl::StrFormat("%.10g", x),
                           .anchor = Anchor::kMiddle});
  }
  for (const double y : Ticks(range.bottom, range.top)) {
    const double height = Place({0, y}, range).y;
    shapes.push_back(Line{.points = {{kLeft, height}, {kRight, height}}, .color = kGrid});
    shapes.push_back(Words{.place = {kLeft - 8, height + 4},
                           .text = absl::StrFormat("%.4g", y),
                           .anchor = Anchor::kEnd});
  }
  shapes.push_back(Line{
      .points = {{kLeft, kTop}, {kRight, kTop}, {kRight, kBottom}, {kLeft, kBottom}, {kLeft, kTop}},
      .color = kFrame});
  shapes.push_back(Words{
      .place = {(kLeft + kRight) / 2, kBottom + 40}, .text = "step", .anchor = Anchor::kMiddle});
}

void DrawCurve(const Curve& curve, const PlotRange& range, const Color& color,
               std::vector<Shape>& shapes) {
  std::vector<Point> places;
  for (const Point& point : curve.points) {
    if (std::isfinite(point.x) && std::isfinite(point.y)) places.push_back(Place(point, range));
  }
  if (!curve.marks) {
    shapes.push_back(Line{.points = std::move(places), .width = 1.5, .color = color});
    return;
  }
  for (const Point& place : places) {
    shapes.push_back(Disc{.center = place, .radius = 4, .color = color});
  }
}

}  // namespace

Picture DrawPicture(const std::vector<Curve>& curves, const std::string& title) {
  const PlotRange range = RangeOf(curves);
  Picture picture = {.width = kWidth, .height = kHeight, .shapes = {}};
  picture.shapes.push_back(Words{.place = {kLeft, 24}, .text = title, .size = 16});
  DrawAxes(range, picture.shapes);
  double legend = kLeft;
  for (size_t i = 0; i < curves.size(); ++i) {
    const Color& color = kColors[i % kColors.size()];
    DrawCurve(curves[i], range, color, picture.shapes);
    picture.shapes.push_back(Words{.place = {legend, 42}, .text = curves[i].name, .color = color});
    legend += 8 * static_cast<double>(curves[i].name.size()) + 24;
  }
  return picture;
}

}  // namespace weft::client

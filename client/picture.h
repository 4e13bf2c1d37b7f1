// Picture: lines, discs and words on white, and the two formats that it can be written in. Both
// show the same.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace weft::client {

struct Point {
  double x = 0;
  double y = 0;
};

struct Color {
  uint8_t red = 0;
  uint8_t green = 0;
  uint8_t blue = 0;
};

// Joins its points.
struct Line {
  std::vector<Point> points = {};
  double width = 1;
  Color color = {};
};

struct Disc {
  Point center = {};
  double radius = 0;
  Color color = {};
};

// Which part of the words stands at their place.
enum class Anchor { kBegin, kMiddle, kEnd };

struct Words {
  Point place = {};  // of the line that letters stand on
  std::string text = {};
  Anchor anchor = Anchor::kBegin;
  double size = 13;  // of the font
  Color color = {};
};

using Shape = std::variant<Line, Disc, Words>;

// Units are pixels of a screen; x counts from the left, y from the top.
struct Picture {
  int width = 0;
  int height = 0;
  std::vector<Shape> shapes;  // the later over the earlier
};

std::string ToSvg(const Picture& picture);
// With twice the pixels, for fine screens and paper. kInternal when libpng fails.
absl::StatusOr<std::string> ToPng(const Picture& picture);

}  // namespace weft::client

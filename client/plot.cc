#include "client/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::client {
namespace {

constexpr size_t kLeastLabelColumns = 7;  // of numbers at the left axis
constexpr int kDotsAcross = 2;            // of a braille letter
constexpr int kDotsDown = 4;
// Unicode numbers the dots downwards, the last row apart.
constexpr std::array<std::array<uint8_t, kDotsAcross>, kDotsDown> kDotBits = {
    {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
constexpr char kMark[] = "\u25cf";  // a full circle

bool IsFinite(const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

std::string Number(double value) { return absl::StrFormat("%.4g", value); }

// Where a value lies between two others, 0 to 1.
double Share(double value, double low, double high) { return (value - low) / (high - low); }

// A rectangle of dots and, over them, marks that take a whole letter.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns), rows_(rows), dots_(Index(0, rows)), marks_(dots_.size()) {}

  void Draw(const Curve& curve, const PlotRange& range) {
    bool begun = false;
    int last_x = 0;
    int last_y = 0;
    for (const Point& point : curve.points) {
      if (!IsFinite(point)) continue;
      const int x = Place(Share(point.x, range.left, range.right), columns_ * kDotsAcross);
      const int y = Place(Share(point.y, range.top, range.bottom), rows_ * kDotsDown);
      if (curve.marks) {
        marks_[Index(x / kDotsAcross, y / kDotsDown)] = true;
      } else {
        Line(begun ? last_x : x, begun ? last_y : y, x, y);
      }
      begun = true;
      last_x = x;
      last_y = y;
    }
  }

  [[nodiscard]] std::string Row(int row, bool utf8) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const size_t at = Index(column, row);
      if (marks_[at]) {
        absl::StrAppend(&text, utf8 ? kMark : "o");
      } else if (dots_[at] == 0) {
        text.push_back(' ');
      } else if (utf8) {  // U+2800 and the dots: three bytes
        text.push_back('\xe2');
        text.push_back(static_cast<char>(0xa0 | (dots_[at] >> 6)));
        text.push_back(static_cast<char>(0x80 | (dots_[at] & 0x3f)));
      } else {
        text.push_back('.');
      }
    }
    text.resize(text.find_last_not_of(' ') + 1);
    return text;
  }

 private:
  [[nodiscard]] size_t Index(int column, int row) const {
    return static_cast<size_t>(row) * static_cast<size_t>(columns_) + static_cast<size_t>(column);
  }

  static int Place(double share, int dots) {
    return std::clamp(static_cast<int>(std::lround(share * (dots - 1))), 0, dots - 1);
  }

  void Dot(int x, int y) {
    dots_[Index(x / kDotsAcross, y / kDotsDown)] |=
        kDotBits[static_cast<size_t>(y % kDotsDown)][static_cast<size_t>(x % kDotsAcross)];
  }

  void Line(int from_x, int from_y, int to_x, int to_y) {
    const int steps = std::max({std::abs(to_x - from_x), std::abs(to_y - from_y), 1});
    for (int i = 0; i <= steps; ++i) {
      const double share = static_cast<double>(i) / steps;
      Dot(static_cast<int>(std::lround(from_x + share * (to_x - from_x))),
          static_cast<int>(std::lround(from_y + share * (to_y - from_y))));
    }
  }

  const int columns_;
  const int rows_;
  std::vector<uint8_t> dots_;
  std::vector<bool> marks_;
};

std::string Legend(const std::vector<Curve>& curves, bool utf8) {
  std::string legend;
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    const char* sign = curve.marks ? (utf8 ? kMark : "o") : (utf8 ? "\u2812" : ".");
    absl::StrAppend(&legend, legend.empty() ? "" : "   ", sign, " ", curve.name);
  }
  return legend;
}

}  // namespace

PlotRange RangeOf(const std::vector<Curve>& curves) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  PlotRange range = {infinity, -infinity, infinity, -infinity};
  for (const Curve& curve : curves) {
    for (const Point& point : curve.points) {
      if (!IsFinite(point)) continue;
      range.left = std::min(range.left, point.x);
      range.right = std::max(range.right, point.x);
      range.bottom = std::min(range.bottom, point.y);
      range.top = std::max(range.top, point.y);
    }
  }
  if (range.left > range.right) return PlotRange();  // nothing to show
  // A single value lies in the middle of what surrounds it.
  const auto widen = [](double& low, double& high) {
    if (low < high) return;
    const double around = low == 0 ? 1 : std::abs(low) / 2;
    low -= around;
    high += around;
  };
  widen(range.left, range.right);
  widen(range.bottom, range.top);
  return range;
}

std::string DrawText(const std::vector<Curve>& curves, int columns, int rows, bool utf8) {
  const PlotRange range = RangeOf(curves);
  const std::string top = Number(range.top);
  const std::string bottom = Number(range.bottom);
  const size_t label_columns = std::max({top.size(), bottom.size(), kLeastLabelColumns});
  const std::string indent(label_columns + 2, ' ');  // the axis and the blank before it
  const int width = std::max(columns - static_cast<int>(indent.size()), 1);
  Canvas canvas(width, rows);
  for (const Curve& curve : curves) canvas.Draw(curve, range);
  std::string text;
  for (int row = 0; row < rows; ++row) {
    const std::string label = row == 0 ? top : row == rows - 1 ? bottom : "";
    absl::StrAppend(&text, absl::StrFormat("%*s", static_cast<int>(label_columns), label),
                    utf8 ? " \u2502" : " |", canvas.Row(row, utf8), "\n");
  }
  const std::string left = Number(range.left);
  const std::string right = absl::StrCat("step ", Number(range.right));
  const int gap = width - static_cast<int>(left.size());
  absl::StrAppend(&text, indent, left, absl::StrFormat("%*s", std::max(gap, 0), right), "\n");
  absl::StrAppend(&text, indent, Legend(curves, utf8), "\n");
  return text;
}

}  // namespace weft::client

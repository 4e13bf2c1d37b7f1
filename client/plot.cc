#include "client/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace weft::client {
namespace {

constexpr int kLabelColumns = 9;  // numbers at the left axis, and the axis
constexpr int kDotsAcross = 2;    // of a braille letter
constexpr int kDotsDown = 4;
// Unicode numbers the dots downwards, the last row apart.
constexpr std::array<std::array<uint8_t, kDotsAcross>, kDotsDown> kDotBits = {
    {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
constexpr char kMark[] = "\u25cf";  // a full circle

bool IsFinite(const PlotPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

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
    for (const PlotPoint& point : curve.points) {
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

// --- SVG
// ------------------------------------------------------------------------------------------

constexpr double kWidth = 800;
constexpr double kHeight = 450;
constexpr double kLeft = 70;  // the frame of the drawing within the picture
constexpr double kRight = 780;
constexpr double kTop = 50;
constexpr double kBottom = 400;
constexpr std::array<const char*, 4> kColors = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd"};

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

double SvgX(double x, const PlotRange& range) {
  return kLeft + Share(x, range.left, range.right) * (kRight - kLeft);
}

double SvgY(double y, const PlotRange& range) {
  return kBottom - Share(y, range.bottom, range.top) * (kBottom - kTop);
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

std::string SvgAxes(const PlotRange& range) {
  std::string svg = absl::StrFormat(
      "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"none\" stroke=\"#888\"/>\n", kLeft,
      kTop, kRight - kLeft, kBottom - kTop);
  for (const double x : Ticks(range.left, range.right)) {
    absl::StrAppendFormat(&svg, "<text x=\"%.2f\" y=\"%g\" text-anchor=\"middle\">%s</text>\n",
                          SvgX(x, range), kBottom + 20, absl::StrFormat("%.10g", x));
  }
  for (const double y : Ticks(range.bottom, range.top)) {
    absl::StrAppendFormat(&svg,
                          "<line x1=\"%g\" y1=\"%.2f\" x2=\"%g\" y2=\"%.2f\" stroke=\"#ddd\"/>\n"
                          "<text x=\"%g\" y=\"%.2f\" text-anchor=\"end\">%s</text>\n",
                          kLeft, SvgY(y, range), kRight, SvgY(y, range), kLeft - 8,
                          SvgY(y, range) + 4, Number(y));
  }
  absl::StrAppendFormat(&svg, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">step</text>\n",
                        (kLeft + kRight) / 2, kBottom + 40);
  return svg;
}

std::string SvgCurve(const Curve& curve, const PlotRange& range, const char* color) {
  std::string svg;
  if (!curve.marks) svg = "<polyline fill=\"none\" stroke-width=\"1.5\" points=\"";
  bool first = true;
  for (const PlotPoint& point : curve.points) {
    if (!IsFinite(point)) continue;
    const double x = SvgX(point.x, range);
    const double y = SvgY(point.y, range);
    if (curve.marks) {
      absl::StrAppendFormat(&svg, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"4\" fill=\"%s\"/>\n", x, y,
                            color);
    } else {
      absl::StrAppendFormat(&svg, "%s%.2f,%.2f", first ? "" : " ", x, y);
    }
    first = false;
  }
  if (!curve.marks) absl::StrAppend(&svg, "\" stroke=\"", color, "\"/>\n");
  return svg;
}

}  // namespace

PlotRange RangeOf(const std::vector<Curve>& curves) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  PlotRange range = {infinity, -infinity, infinity, -infinity};
  for (const Curve& curve : curves) {
    for (const PlotPoint& point : curve.points) {
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
  const int width = std::max(columns - kLabelColumns, 1);
  const PlotRange range = RangeOf(curves);
  Canvas canvas(width, rows);
  for (const Curve& curve : curves) canvas.Draw(curve, range);
  std::string text;
  for (int row = 0; row < rows; ++row) {
    const std::string label = row == 0          ? Number(range.top)
                              : row == rows - 1 ? Number(range.bottom)
                                                : "";
    absl::StrAppend(&text, absl::StrFormat("%*s", kLabelColumns - 2, label),
                    utf8 ? " \u2502" : " |", canvas.Row(row, utf8), "\n");
  }
  const std::string left = Number(range.left);
  const std::string right = absl::StrCat("step ", Number(range.right));
  const int gap = width - static_cast<int>(left.size());
  absl::StrAppend(&text, std::string(kLabelColumns, ' '), left,
                  absl::StrFormat("%*s", std::max(gap, 0), right), "\n");
  absl::StrAppend(&text, std::string(kLabelColumns, ' '), Legend(curves, utf8), "\n");
  return text;
}

std::string DrawSvg(const std::vector<Curve>& curves, const std::string& title) {
  const PlotRange range = RangeOf(curves);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" "
      "font-size=\"13\">\n<rect width=\"%g\" height=\"%g\" fill=\"white\"/>\n"
      "<text x=\"%g\" y=\"24\" font-size=\"16\">%s</text>\n",
      kWidth, kHeight, kWidth, kHeight, kLeft, Escaped(title));
  absl::StrAppend(&svg, SvgAxes(range));
  double legend = kLeft;
  for (size_t i = 0; i < curves.size(); ++i) {
    const char* color = kColors[i % kColors.size()];
    absl::StrAppend(&svg, SvgCurve(curves[i], range, color));
    absl::StrAppendFormat(&svg, "<text x=\"%g\" y=\"42\" fill=\"%s\">%s</text>\n", legend, color,
                          Escaped(curves[i].name));
    legend += 8 * static_cast<double>(curves[i].name.size()) + 24;
  }
  return svg + "</svg>\n";
}

}  // namespace weft::client

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/picture.h"

namespace weft::client {
namespace {

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string NameOf(const Color& color) {
  return absl::StrFormat("#%02x%02x%02x", color.red, color.green, color.blue);
}

const char* NameOf(Anchor anchor) {
  switch (anchor) {
    case Anchor::kBegin:
      return "start";
    case Anchor::kMiddle:
      return "middle";
    case Anchor::kEnd:
      return "end";
  }
  return "start";
}

// The element of each shape.
struct Element {
  std::string operator()(const Line& line) const {
    const std::string points =
        absl::StrJoin(line.points, " ", [](std::string* out, const Point& point) {
          absl::StrAppendFormat(out, "%.2f,%.2f", point.x, point.y);
        });
    return absl::StrFormat(
        "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" "
        "stroke-linejoin=\"round\"/>\n",
        points, NameOf(line.color), line.width);
  }
  std::string operator()(const Disc& disc) const {
    return absl::StrFormat("<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%g\" fill=\"%s\"/>\n",
                           disc.center.x, disc.center.y, disc.radius, NameOf(disc.color));
  }
  std::string operator()(const Words& words) const {
    return absl::StrFormat(
        "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\" font-size=\"%g\" fill=\"%s\">%s</text>\n",
        words.place.x, words.place.y, NameOf(words.anchor), words.size, NameOf(words.color),
        Escaped(words.text));
  }
};

}  // namespace

std::string ToSvg(const Picture& picture) {
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\">\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
      picture.width, picture.height, picture.width, picture.height);
  for (const Shape& shape : picture.shapes) absl::StrAppend(&svg, std::visit(Element(), shape));
  return svg + "</svg>\n";
}

}  // namespace weft::client

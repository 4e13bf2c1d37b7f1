// Curves over a job's steps: in a terminal, of dots in Unicode's braille letters, and as a picture.
#pragma once

#include <string>
#include <vector>

#include "client/picture.h"

namespace weft::client {

struct Curve {
  std::string name;
  std::vector<Point> points;  // ascending in x; what is not finite is left out
  bool marks = false;         // single marks (evaluations) instead of a line
};

// The values that a drawing spans. Never empty in either direction.
struct PlotRange {
  double left = 0;
  double right = 1;
  double bottom = 0;
  double top = 1;
};

// Of all finite points of all curves.
PlotRange RangeOf(const std::vector<Curve>& curves);

// Lines of text, at most `columns` wide, `rows` of them drawn on, with the range at the axes and a
// legend. A letter holds 2 by 4 dots; without `utf8` it is '.', and a mark is 'o'.
std::string DrawText(const std::vector<Curve>& curves, int columns, int rows, bool utf8);

Picture DrawPicture(const std::vector<Curve>& curves, const std::string& title);

}  // namespace weft::client

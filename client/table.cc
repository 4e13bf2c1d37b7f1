#include "client/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/check.h"
#include "common/base/utf8.h"

namespace weft::client {
namespace {

constexpr size_t kBetween = 2;  // blanks between columns
constexpr size_t kLast = 24;    // of the last column, which may be sentences, as much must fit
constexpr absl::string_view kCut = "...";

}  // namespace

void Table::Add(std::vector<std::string> cells) {
  WEFT_CHECK(cells.size() == rows_.front().size());
  for (std::string& cell : cells) {
    if (cell.empty()) cell = "-";
  }
  rows_.push_back(std::move(cells));
}

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  return widths;
}

void Table::Narrow(size_t characters, const std::vector<std::string>& titles) {
  for (const std::string& title : titles) {
    const std::vector<size_t> widths = Widths();
    size_t width = std::min(widths.back(), kLast);
    for (size_t i = 0; i + 1 < widths.size(); ++i) width += widths[i] + kBetween;
    if (width <= characters) return;
    const auto at = std::find(rows_.front().begin(), rows_.front().end(), title);
    WEFT_CHECK(at != rows_.front().end());
    const auto index = at - rows_.front().begin();
    for (auto& row : rows_) row.erase(row.begin() + index);
  }
}

void Table::Cut(size_t characters) {
  const std::vector<size_t> widths = Widths();
  size_t before = 0;
  for (size_t i = 0; i + 1 < widths.size(); ++i) before += widths[i] + kBetween;
  const size_t room = characters > before + kLast ? characters - before : kLast;
  for (auto& row : rows_) {
    if (row.back().size() <= room) continue;
    row.back() = absl::StrCat(Utf8Prefix(row.back(), room - kCut.size()), kCut);
  }
}

void Table::Print(std::ostream& out) const {
  const std::vector<size_t> widths = Widths();
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      out << row[i];
      // No blanks at the end of a line.
      if (i + 1 < row.size()) out << std::string(widths[i] - row[i].size() + kBetween, ' ');
    }
    out << '\n';
  }
}

}  // namespace weft::client

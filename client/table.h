// A plain table: titles in upper case, columns two spaces apart, nothing that breaks awk.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace weft::client {

class Table {
 public:
  explicit Table(std::vector<std::string> titles) : rows_{std::move(titles)} {}
  // One cell a title. Empty cells are printed as "-".
  void Add(std::vector<std::string> cells);
  // Leaves columns out, in the order of these titles, until the rest fits into so many characters
  // (of the last one its beginning) or no title is left.
  void Narrow(size_t characters, const std::vector<std::string>& titles);
  // Cuts the last column, which may be sentences, so that no line is longer than so many
  // characters; of a narrow screen it takes as much as Narrow leaves it.
  void Cut(size_t characters);
  void Print(std::ostream& out) const;

 private:
  // Characters of each column.
  [[nodiscard]] std::vector<size_t> Widths() const;

  std::vector<std::vector<std::string>> rows_;  // the titles first
};

}  // namespace weft::client

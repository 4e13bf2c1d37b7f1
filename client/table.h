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
  void Print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the titles first
};

}  // namespace weft::client

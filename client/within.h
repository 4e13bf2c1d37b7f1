// Within: the range of a flag's number, as a check of CLI11. Its own checks name what is allowed
// with three hundred digits.
#pragma once

#include <CLI/CLI.hpp>
#include <limits>
#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace weft::client {

// "must be a whole number from 1 to 64, is 0"; without a `high`: "... of at least 1, is 0".
template <typename Number>
CLI::Validator Within(Number low, Number high = std::numeric_limits<Number>::max()) {
  const std::string kind = std::is_integral_v<Number> ? "a whole number" : "a number";
  std::string range = absl::StrCat(" from ", low, " to ", high);
  // Who is below the range does not want to know the greatest number that there is.
  if (high == std::numeric_limits<Number>::max()) range = absl::StrCat(" of at least ", low);
  const auto check = [=](const std::string& text) -> std::string {
    Number value{};
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high) return "";
    const bool too_long = std::is_integral_v<Number> && text.size() > 9 &&
                          text.find_first_not_of("0123456789") == std::string::npos;
    return absl::StrCat("must be ", kind, too_long ? absl::StrCat(" of at most ", high) : range,
                        ", is ", text);
  };
  return CLI::Validator(check, "");  // the help has no room for it
}

}  // namespace weft::client

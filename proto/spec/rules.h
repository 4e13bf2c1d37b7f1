// Rules: the list of what is wrong with a spec, and the checks that all sections share.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/generated_enum_reflection.h"
#include "proto/spec/names.h"
#include "proto/spec/violation.h"

namespace weft::spec {

// `field` is the path of the field in the spec: "training.batch_size".
class Rules {
 public:
  void Report(absl::string_view field, absl::string_view what) {
    violations_.push_back({std::string(field), std::string(what)});
  }

  bool Require(bool present, absl::string_view field) {
    if (!present) Report(field, "is required");
    return present;
  }

  // A number in [low, high]; NaN is outside of every range.
  template <typename T>
  bool InRange(absl::string_view field, T value, T low, T high) {
    if (value >= low && value <= high) return true;
    Report(field, absl::StrCat("must be ", low, " to ", high, ", is ", value));
    return false;
  }

  template <typename T>
  bool Positive(absl::string_view field, T value) {
    if (value > 0 && std::isfinite(static_cast<double>(value))) return true;
    Report(field, absl::StrCat("must be greater than 0, is ", value));
    return false;
  }

  // The same of a field without a default, which is 0 when it was not given.
  template <typename T>
  bool RequirePositive(absl::string_view field, T value) {
    if (value != 0) return Positive(field, value);
    Report(field, "must be greater than 0, is 0 or missing");
    return false;
  }

  [[nodiscard]] std::vector<Violation> Take() { return std::move(violations_); }

 private:
  std::vector<Violation> violations_;
};

// The value of an enum field, or its default; reports a number that names nothing.
template <typename Enum>
Enum EnumOr(Rules& rules, absl::string_view field, bool present, Enum value, Enum otherwise) {
  if (!present) return otherwise;
  const auto* type = google::protobuf::GetEnumDescriptor<Enum>();
  if (value == 0 || type->FindValueByNumber(value) == nullptr) {
    rules.Report(field, absl::StrCat("must be one of ", absl::StrJoin(EnumNames(*type), ", ")));
  }
  return value;
}

}  // namespace weft::spec

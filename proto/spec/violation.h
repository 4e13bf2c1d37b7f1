// What is wrong with one field of a job spec. All of a spec's violations are reported at once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace weft::spec {

struct Violation {
  std::string field;        // "training.batch_size"; empty: the whole text
  std::string description;  // what is wrong and what is allowed
  bool unknown = false;     // there is no such field
  std::string meant = {};   // of an unknown field: the one that it is a misspelling of, perhaps
  // The number as it was given, and its place, where it was not kept: "99999999999 (line 3)".
  std::string given = {};

  friend bool operator==(const Violation& a, const Violation& b) {
    return a.field == b.field && a.description == b.description;
  }
};

// OK when there are none, else kInvalidArgument with one line a violation: "field: description".
absl::Status ToStatus(absl::Span<const Violation> violations);

}  // namespace weft::spec

// Problems: a list of everything that is wrong with a configuration, so that all of it is said at
// once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace weft::worker {

class Problems {
 public:
  // `sentence` names the field, its value and what is allowed; noted when `condition` is false.
  void Require(bool condition, absl::string_view sentence) {
    if (!condition) sentences_.emplace_back(sentence);
  }
  // OK when nothing was noted, else kInvalidArgument with all sentences, separated by "; ".
  [[nodiscard]] absl::Status ToStatus() const {
    if (sentences_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(sentences_, "; "));
  }

 private:
  std::vector<std::string> sentences_;
};

}  // namespace weft::worker

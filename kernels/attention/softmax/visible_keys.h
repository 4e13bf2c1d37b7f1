// Which keys a query sees. Private to kernels/attention.
#pragma once

#include <algorithm>

#include "kernels/attention/softmax/softmax.h"

namespace weft::kernels {

struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;  // empty when end <= begin
};

// The keys that query i sees; always one run. Both ends grow with i, or stay.
inline KeyRange VisibleKeys(const SoftmaxProblem& p, int64_t i) {
  const int64_t position = i + p.keys - p.queries;
  KeyRange range{0, p.keys};
  if (p.causal) range.end = std::min(range.end, position + 1);
  if (p.window > 0) {
    // w >= keys + queries limits nothing, and position + w would overflow for the largest w.
    const int64_t window = std::min(p.window, p.keys + p.queries);
    range.begin = std::max<int64_t>(0, position - window + 1);
    range.end = std::min(range.end, position + window);
  }
  return range;
}

}  // namespace weft::kernels

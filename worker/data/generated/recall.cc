#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

// The weights of the gaps as integers of 20 bits, so that choices compare integers.
std::vector<int64_t> GapWeights(int64_t gaps, double exponent) {
  std::vector<int64_t> weights;
  for (int64_t gap = 0; gap < gaps; ++gap) {
    const double weight = std::pow(static_cast<double>(gap + 1), exponent - 1.0);
    weights.push_back(std::max<int64_t>(1, std::llrint(weight * 0x1p20)));
  }
  return weights;
}

class Recall : public GeneratedTask {
 public:
  Recall(int64_t sequence, const RecallOptions& options)
      : options_(options),
        shape_{.sequence = sequence,
               .vocabulary = options.vocabulary,
               .classes = options.vocabulary,
               .real_targets = options.pairs},
        gap_weights_(
            GapWeights((sequence - 2 * int64_t{options.pairs}) / 2, options.gap_exponent)) {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    for (int32_t& token : into.tokens) {
      token = options_.random_filler ? static_cast<int32_t>(draws.Below(options_.vocabulary)) : 0;
    }
    std::fill(into.targets.begin(), into.targets.end(), -1);
    const int32_t half = options_.vocabulary / 2;
    const std::vector<int32_t> keys = draws.Distinct(1, half - 1, options_.pairs);
    const std::vector<int32_t> values =
        draws.Distinct(half, options_.vocabulary - half, options_.pairs);
    const std::vector<size_t> gaps = ChooseGaps(draws);
    for (size_t pair = 0; pair < keys.size(); ++pair) {
      into.tokens[2 * pair] = keys[pair];
      into.tokens[2 * pair + 1] = values[pair];
      const size_t place = 2 * (keys.size() + gaps[pair]);
      into.tokens[place] = keys[pair];
      into.targets[place] = values[pair];
    }
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("recall of ", options_.pairs, " pairs, vocabulary ", options_.vocabulary,
                        absl::StrFormat(", gap exponent %g", options_.gap_exponent),
                        options_.random_filler ? ", random filler" : "");
  }

 private:
  // One gap for each pair: drawn one after the other, each from what is left.
  [[nodiscard]] std::vector<size_t> ChooseGaps(SampleDraws& draws) const {
    std::vector<int64_t> weights = gap_weights_;
    int64_t total = 0;
    for (const int64_t weight : weights) total += weight;
    std::vector<size_t> gaps;
    for (int32_t pair = 0; pair < options_.pairs; ++pair) {
      int64_t left = draws.Below(total);
      size_t gap = 0;
      while (left >= weights[gap]) left -= weights[gap++];
      total -= std::exchange(weights[gap], 0);
      gaps.push_back(gap);
    }
    return gaps;
  }

  RecallOptions options_;
  SampleShape shape_;
  std::vector<int64_t> gap_weights_;
};

}  // namespace

GeneratedTaskOr NewRecallTask(int64_t sequence, const RecallOptions& options) {
  const int32_t pairs = options.pairs;
  if (pairs < 1 || sequence < 4 * int64_t{pairs}) {
    return absl::InvalidArgumentError(absl::StrCat("pairs is ", pairs, "; it must be 1 to ",
                                                   sequence / 4, ", a quarter of the sequence (",
                                                   sequence, ")"));
  }
  if (options.vocabulary / 2 - 1 < pairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary is ", options.vocabulary, "; ", pairs,
                     " different keys and values need at least ", 2 * (int64_t{pairs} + 1)));
  }
  if (!(options.gap_exponent > 0 && options.gap_exponent <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("gap_exponent is ", options.gap_exponent,
                                                   "; it must be above 0 and at most 1"));
  }
  return std::make_unique<Recall>(sequence, options);
}

}  // namespace weft::worker

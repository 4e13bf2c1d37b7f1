#include "kernels/random/philox.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/base/check.h"

namespace weft::kernels {

PhiloxWords CounterOf(const DrawSite& site, uint32_t primary, uint32_t ordinal) {
  WEFT_CHECK(site.step < (uint32_t{1} << 28));
  WEFT_CHECK(site.layer < (uint32_t{1} << 12));
  WEFT_CHECK(site.sample < (uint32_t{1} << 20));
  return {primary, ordinal, site.sample | site.layer << 20,
          site.step | static_cast<uint32_t>(site.tag) << 28};
}

PhiloxWords Draw(uint64_t seed, const DrawSite& site, uint32_t primary, uint32_t ordinal) {
  return Philox4x32(CounterOf(site, primary, ordinal), seed);
}

std::array<double, 2> NormalPair(uint32_t w0, uint32_t w1) {
  const double radius = std::sqrt(-2.0 * std::log(U32(w0)));
  const double angle = 2.0 * std::numbers::pi * U32(w1);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

void FillNormal(uint64_t seed, const DrawSite& site, uint32_t ordinal, int64_t first,
                absl::Span<double> out) {
  const auto count = static_cast<int64_t>(out.size());
  WEFT_CHECK(first >= 0 && first % 4 == 0);
  WEFT_CHECK(first + count <= int64_t{1} << 34);
  for (int64_t i = 0; i < count; i += 4) {
    const PhiloxWords words = Draw(seed, site, static_cast<uint32_t>((first + i) / 4), ordinal);
    const std::array<double, 2> low = NormalPair(words[0], words[1]);
    const std::array<double, 2> high = NormalPair(words[2], words[3]);
    const std::array<double, 4> four = {low[0], low[1], high[0], high[1]};
    std::copy_n(four.begin(), std::min<int64_t>(4, count - i), out.begin() + i);
  }
}

}  // namespace weft::kernels

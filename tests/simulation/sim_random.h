// The only source of chance in a simulation: the same seed gives the same numbers on every machine,
// which the standard library's distributions do not promise.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace weft::simulation {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 0x632be59bd9b4e019ULL) {}

  uint64_t Next() {  // splitmix64 (Steele, Lea, Flood 2014)
    state_ += 0x9e3779b97f4a7c15ULL;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // From 0 to limit - 1. The bias of the remainder is of no matter here.
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(limit));
  }
  int64_t Between(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  bool Percent(int64_t chance) { return Below(100) < chance; }
  absl::Duration Milliseconds(int64_t low, int64_t high) {
    return absl::Milliseconds(Between(low, high));
  }

 private:
  uint64_t state_;
};

}  // namespace weft::simulation

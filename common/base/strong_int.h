// Integers that cannot be mixed up: an index, a count, a generation and an id are different things.
#pragma once

#include <compare>
#include <cstdint>
#include <ostream>
#include <utility>

namespace weft {

template <class Tag, class Rep = int64_t>
class StrongInt {
 public:
  using RepType = Rep;

  constexpr StrongInt() = default;
  constexpr explicit StrongInt(Rep value) : value_(value) {}

  [[nodiscard]] constexpr Rep value() const { return value_; }
  // The following value: StrongInt has no arithmetic beyond this and comparison.
  [[nodiscard]] constexpr StrongInt Next() const { return StrongInt(value_ + 1); }

  // clang-tidy 14 takes the 0 inside a defaulted comparison for a null pointer.
  friend constexpr auto operator<=>(StrongInt,
                                    StrongInt) = default;  // NOLINT(modernize-use-nullptr)
  template <typename H>
  friend H AbslHashValue(H state, StrongInt i) {
    return H::combine(std::move(state), i.value_);
  }
  friend std::ostream& operator<<(std::ostream& out, StrongInt i) { return out << i.value_; }

 private:
  Rep value_ = 0;
};

}  // namespace weft

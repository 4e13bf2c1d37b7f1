// The contract of Exchange as tests, for every transport:
//   INSTANTIATE_TEST_SUITE_P(Local, ExchangeContract, ::testing::Values(GangKind{...}), GangName);
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/worker/comm/exchange_gang.h"

namespace weft::testing {

class ExchangeContract : public ::testing::TestWithParam<GangKind> {
 protected:
  ExchangeContract() : gang_(GetParam().make()) {}
  [[nodiscard]] int ranks() const { return gang_->ranks(); }

  std::unique_ptr<ExchangeGang> gang_;
};

// What takes two ranks or more. Instantiate with the same values.
class ExchangeGangContract : public ExchangeContract {};

inline std::string GangName(const ::testing::TestParamInfo<GangKind>& info) {
  return info.param.name;
}

}  // namespace weft::testing

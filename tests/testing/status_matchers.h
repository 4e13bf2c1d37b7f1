// gMock matchers for absl::Status and absl::StatusOr, in the shape of later Abseil releases.
//
//   EXPECT_THAT(Save(path), IsOk());
//   EXPECT_THAT(Load(path), IsOkAndHolds(7));
//   EXPECT_THAT(Load(path), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
//   ASSERT_OK_AND_ASSIGN(auto file, Open(path));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace weft::testing {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

MATCHER_P(StatusIs, code, "") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code;
}

MATCHER_P2(StatusIs, code, message, "") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code &&
         ::testing::Matches(message)(std::string(StatusOf(arg).message()));
}

MATCHER_P(IsOkAndHolds, value, "") {
  *result_listener << StatusOf(arg).ToString();
  return arg.ok() && ::testing::ExplainMatchResult(value, *arg, result_listener);
}

}  // namespace weft::testing

#define WEFT_TESTING_CONCAT_INNER_(a, b) a##b
#define WEFT_TESTING_CONCAT_(a, b) WEFT_TESTING_CONCAT_INNER_(a, b)
#define ASSERT_OK(expression) ASSERT_THAT((expression), ::weft::testing::IsOk())
#define EXPECT_OK(expression) EXPECT_THAT((expression), ::weft::testing::IsOk())
// `target` may be a declaration, which takes no parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define ASSERT_OK_AND_ASSIGN(target, expression) \
  ASSERT_OK_AND_ASSIGN_IMPL_(WEFT_TESTING_CONCAT_(weft_result_, __LINE__), target, expression)
#define ASSERT_OK_AND_ASSIGN_IMPL_(result, target, expression) \
  auto result = (expression);                                  \
  ASSERT_THAT(result, ::weft::testing::IsOk());                \
  target = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)

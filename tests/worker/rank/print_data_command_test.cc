#include "worker/rank/print_data_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr char kJob[] = R"(
name: a
model:
  {kind: token_classifier, width: 8, layers: 1, mixers: [{softmax: {heads: 1}}], vocab_size: 4}
data: {repeated_tokens: {}, train_samples: 5}
training: {steps: 1, batch_size: 1, sequence_length: 3}
)";

absl::StatusOr<std::string> Printed(const PrintDataRequest& request,
                                    const std::string& job = kJob) {
  std::istringstream in(job);
  std::ostringstream out;
  const absl::Status status = PrintData(request, in, out);
  if (!status.ok()) return status;
  return out.str();
}

TEST(PrintDataTest, PrintsTheDataAndItsSamples) {
  ASSERT_OK_AND_ASSIGN(const std::string text, Printed({.first = 3, .count = 9}));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);  // samples 3 and 4
  EXPECT_THAT(text, AllOf(StartsWith(R"({"data":"generated repeated tokens of 3 symbols)"),
                          HasSubstr(R"("train_samples":5)"), HasSubstr(R"("vocabulary":4)"),
                          HasSubstr("{\"sample\":3,\"tokens\":["),
                          HasSubstr("{\"sample\":4,\"tokens\":[")));
  ASSERT_OK_AND_ASSIGN(const std::string validation, Printed({.validation = true, .first = 3}));
  EXPECT_NE(validation, text);
  EXPECT_EQ(std::count(validation.begin(), validation.end(), '\n'), 2);
}

TEST(PrintDataTest, SaysWhatIsWrong) {
  EXPECT_THAT(Printed({.first = 5}), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("has 5")));
  EXPECT_THAT(Printed({}, "name: a"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("data")));
}

}  // namespace
}  // namespace weft::worker

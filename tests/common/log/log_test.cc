#include "common/log/log.h"

#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using testing::StatusIs;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { SetLogLevel(LogLevel::kInfo); }
};

TEST_F(LogTest, WritesOneLineWithTimeLevelComponentTextAndFields) {
  CaptureStderr();
  LogInfo("driver", "job placed", {{"job", "jobs/demo-3"}, {"generation", 2}});
  EXPECT_THAT(GetCapturedStderr(),
              MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9]+Z info driver: "
                           "job placed job=jobs/demo-3 generation=2\n"));
}

TEST_F(LogTest, QuotesAndEscapesWhatWouldBreakTheLine) {
  CaptureStderr();
  LogWarning("link", "refused", {{"name", "a b"}, {"text", "x\ny=\"z\""}, {"none", ""}});
  EXPECT_THAT(GetCapturedStderr(), HasSubstr(R"(name="a b" text="x\ny=\"z\"" none="")"));
}

TEST_F(LogTest, KeepsLettersOfOtherLanguages) {
  CaptureStderr();
  LogInfo("link", "hello", {{"who", "Zoë"}});
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("who=Zoë\n"));
}

TEST_F(LogTest, DropsEventsBelowTheLevel) {
  ASSERT_OK(SetLogLevel("warning"));
  CaptureStderr();
  LogInfo("driver", "quiet");
  EXPECT_THAT(GetCapturedStderr(), IsEmpty());
  ASSERT_OK(SetLogLevel("debug"));
  CaptureStderr();
  LogDebug("driver", "loud");
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("debug driver: loud"));
}

TEST_F(LogTest, AnUnknownLevelIsRefusedWithTheAllowedOnes) {
  EXPECT_THAT(SetLogLevel("verbose"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'verbose'"), HasSubstr("debug, info, warning, error"))));
}

}  // namespace
}  // namespace weft

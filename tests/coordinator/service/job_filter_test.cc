#include "coordinator/service/job_filter.h"

#include "tests/testing/status_matchers.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

Job JobOf(const char* spec_name, const char* queue, JobState state) {
  Job job;
  job.request.name = spec_name;
  job.request.queue = queue;
  job.state = state;
  return job;
}

TEST(JobFilterTest, AnEmptyFilterMatchesEverything) {
  ASSERT_OK_AND_ASSIGN(const JobFilter filter, ParseJobFilter("  "));
  EXPECT_TRUE(filter.Matches(JobOf("a", "q", JobState::kFailed)));
}

TEST(JobFilterTest, AllTermsMustMatch) {
  ASSERT_OK_AND_ASSIGN(const JobFilter filter,
                       ParseJobFilter("state=RUNNING AND queue = night AND spec_name=a"));
  EXPECT_TRUE(filter.Matches(JobOf("a", "night", JobState::kRunning)));
  EXPECT_FALSE(filter.Matches(JobOf("b", "night", JobState::kRunning)));
  EXPECT_FALSE(filter.Matches(JobOf("a", "day", JobState::kRunning)));
  EXPECT_FALSE(filter.Matches(JobOf("a", "night", JobState::kQueued)));
}

TEST(JobFilterTest, ActiveJobsAreThoseThatHaveNotFinished) {
  ASSERT_OK_AND_ASSIGN(const JobFilter active, ParseJobFilter("active=true"));
  ASSERT_OK_AND_ASSIGN(const JobFilter ended, ParseJobFilter("active=false"));
  for (const JobState state : {JobState::kQueued, JobState::kPaused, JobState::kCancelling}) {
    EXPECT_TRUE(active.Matches(JobOf("a", "q", state))) << ToString(state);
    EXPECT_FALSE(ended.Matches(JobOf("a", "q", state))) << ToString(state);
  }
  EXPECT_TRUE(ended.Matches(JobOf("a", "q", JobState::kCancelled)));
}

TEST(JobFilterTest, WrongTermsAreQuotedWithWhatIsAllowed) {
  for (const char* text :
       {"state", "state=", "colour=red", "state=running", "active=yes", "queue=a AND queue=b",
        "state=RUNNING AND", "state=RUNNING OR queue=a"}) {
    EXPECT_THAT(ParseJobFilter(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("allowed: ")))
        << text;
  }
  EXPECT_THAT(ParseJobFilter("queue=a AND colour=red").status().message(),
              AllOf(HasSubstr("'colour=red'"), HasSubstr("spec_name")));
}

}  // namespace
}  // namespace weft::coordinator

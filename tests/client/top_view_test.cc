#include "client/top_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/full_screen.h"

namespace weft::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int kRows = 24;

v1::Job JobCalled(const std::string& name, v1::Job::State state, int64_t step, int64_t tokens) {
  v1::Job job;
  job.set_name("jobs/" + name);
  job.set_state(state);
  job.mutable_create_time()->set_seconds(1 + step);
  job.mutable_spec()->mutable_training()->set_steps(200);
  job.mutable_last_step()->set_step(step);
  job.mutable_last_step()->set_tokens(tokens);
  job.mutable_last_step()->set_seconds(1);
  return job;
}

ClusterView ViewOf(std::vector<v1::Job> jobs) {
  return {.address = "host:1", .time = absl::UnixEpoch(), .jobs = std::move(jobs), .workers = {}};
}

// The first words of all lines of the tables.
std::vector<std::string> Names(const ClusterView& view, TopChoice choice) {
  std::vector<std::string> names;
  const auto lines = TopLines(view, "", 200, kRows, choice);
  for (size_t i = 4; i < lines.size(); ++i) names.push_back(lines[i].substr(0, lines[i].find(' ')));
  return names;
}

TEST(TopText, ShowsTotalsAndHowFarAJobIs) {
  const std::string text = TopText(ViewOf({JobCalled("late-1", v1::Job::STATE_QUEUED, 0, 0),
                                           JobCalled("quick-2", v1::Job::STATE_RUNNING, 50, 1)}),
                                   TopChoice());
  EXPECT_THAT(text, HasSubstr("jobs: 1 queued, 1 running   workers: none"));
  EXPECT_THAT(text, HasSubstr("25%"));
}

TEST(TopLines, OrderJobsAsChosen) {
  const ClusterView view = ViewOf({JobCalled("b-1", v1::Job::STATE_QUEUED, 0, 0),
                                   JobCalled("c-2", v1::Job::STATE_RUNNING, 20, 900),
                                   JobCalled("a-3", v1::Job::STATE_RUNNING, 10, 1000)});
  TopChoice choice;
  std::vector<std::vector<std::string>> orders;
  for (int i = 0; i < 5; ++i) {
    orders.push_back(Names(view, choice));
    EXPECT_TRUE(PressTopKey('s', kRows, choice));
  }
  EXPECT_THAT(orders, ElementsAre(ElementsAre("c-2", "a-3", "b-1"),    // by state
                                  ElementsAre("a-3", "b-1", "c-2"),    // by name
                                  ElementsAre("c-2", "a-3", "b-1"),    // by what is done
                                  ElementsAre("a-3", "c-2", "b-1"),    // by speed
                                  ElementsAre("c-2", "a-3", "b-1")));  // by age: the newest first
  EXPECT_EQ(choice.order, TopOrder::kState);
}

TEST(TopLines, TabChoosesTheTables) {
  ClusterView view = ViewOf({JobCalled("job-1", v1::Job::STATE_QUEUED, 0, 0)});
  view.workers.emplace_back().set_name("workers/w1");
  TopChoice choice;
  EXPECT_THAT(Names(view, choice), ElementsAre("job-1", "", "NAME", "w1"));
  PressTopKey('\t', kRows, choice);
  EXPECT_THAT(Names(view, choice), ElementsAre("job-1"));
  PressTopKey('\t', kRows, choice);
  EXPECT_THAT(Names(view, choice), ElementsAre("w1"));
  EXPECT_THAT(TopKeys(choice), Not(HasSubstr("s: by")));
  PressTopKey('\t', kRows, choice);
  EXPECT_EQ(choice.tables, TopTables::kBoth);
}

TEST(TopLines, ScrollTheTablesAndStayWhereSomethingIs) {
  std::vector<v1::Job> jobs;
  for (int i = 1; i <= 9; ++i) {
    jobs.push_back(JobCalled(absl::StrCat("j-", i), v1::Job::STATE_QUEUED, 0, 0));
  }
  const ClusterView view = ViewOf(jobs);
  TopChoice choice;
  // Of 8 rows 3 are for totals and 1 for the keys.
  auto lines = TopLines(view, "away", 200, 8, choice);
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_EQ(lines[2], "away");
  EXPECT_THAT(lines[5], StartsWith("j-2"));
  EXPECT_EQ(lines[6], "... 7 more lines");
  PressTopKey(kKeyDown, 8, choice);
  EXPECT_THAT(TopLines(view, "", 200, 8, choice)[3], StartsWith("j-1"));
  PressTopKey(kKeyEnd, 8, choice);
  PressTopKey(kKeyPageDown, 8, choice);
  EXPECT_THAT(TopLines(view, "", 200, 8, choice)[6], StartsWith("j-9"));
  EXPECT_EQ(choice.scroll, 6);
  PressTopKey(kKeyUp, 8, choice);
  EXPECT_EQ(choice.scroll, 5);
  PressTopKey(kKeyHome, 8, choice);
  PressTopKey(kKeyPageUp, 8, choice);
  EXPECT_THAT(TopLines(view, "", 200, 8, choice)[3], StartsWith("JOB"));
  EXPECT_EQ(choice.scroll, 0);
}

TEST(TopLines, OfANarrowScreenLeaveOutWhatMattersLeast) {
  v1::Job job = JobCalled("job-1", v1::Job::STATE_QUEUED, 0, 0);
  job.set_reason("waits for what it needs, and that is a long story");
  TopChoice choice;
  EXPECT_THAT(TopLines(ViewOf({job}), "", 200, kRows, choice)[3], HasSubstr("RECOVERIES"));
  const auto narrow = TopLines(ViewOf({job}), "", 80, kRows, choice);
  EXPECT_THAT(narrow[3], Not(HasSubstr("RECOVERIES")));
  EXPECT_THAT(narrow[4].substr(0, 79), HasSubstr("waits for what it needs"));
}

TEST(PressTopKey, EndsWithQAndEscapeAndWithTheTerminal) {
  TopChoice choice;
  EXPECT_FALSE(PressTopKey('q', kRows, choice));
  EXPECT_FALSE(PressTopKey(kKeyEscape, kRows, choice));
  EXPECT_FALSE(PressTopKey(kKeyHangUp, kRows, choice));
  EXPECT_TRUE(PressTopKey('x', kRows, choice));
  EXPECT_TRUE(PressTopKey('a', kRows, choice));
  EXPECT_TRUE(choice.ended);
}

}  // namespace
}  // namespace weft::client

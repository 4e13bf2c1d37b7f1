#include "client/top_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::client {
namespace {

using ::testing::HasSubstr;

TEST(TopText, ShowsRunningJobsFirst) {
  ClusterView view;
  view.address = "host:1";
  v1::Job job;
  job.set_name("jobs/late-1");
  job.set_state(v1::Job::STATE_QUEUED);
  view.jobs.push_back(job);
  job.set_name("jobs/quick-2");
  job.set_state(v1::Job::STATE_RUNNING);
  job.mutable_spec()->mutable_training()->set_steps(200);
  job.mutable_last_step()->set_step(50);
  view.jobs.push_back(job);
  const std::string text = TopText(view, absl::UnixEpoch());
  EXPECT_THAT(text, HasSubstr("jobs: 1 queued, 1 running   workers: none"));
  EXPECT_THAT(text, HasSubstr("25%"));
  EXPECT_LT(text.find("quick-2"), text.find("late-1"));
}

TEST(FitScreen, CutsLinesAndSaysHowManyAreMissing) {
  EXPECT_EQ(FitScreen("abcdef\n", 4, 9), "abc\x1b[K\r\n");
  EXPECT_EQ(FitScreen("1\n2\n3\n4\n", 20, 4), "1\x1b[K\r\n2\x1b[K\r\n... 2 more lines\x1b[K\r\n");
  EXPECT_EQ(FitScreen("1\n2\n3\n", 20, 4), "1\x1b[K\r\n2\x1b[K\r\n3\x1b[K\r\n");
}

}  // namespace
}  // namespace weft::client

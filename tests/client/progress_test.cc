#include "client/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "client/resource_tables.h"

namespace weft::client {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

void Add(google::protobuf::RepeatedPtrField<v1::StepMetric>& metrics, const std::string& name,
         double value) {
  v1::StepMetric& metric = *metrics.Add();
  metric.set_name(name);
  metric.set_value(value);
}

// A job on text.
v1::Job Running(int64_t step) {
  v1::Job job;
  job.set_name("jobs/demo-1");
  job.set_state(v1::Job::STATE_RUNNING);
  job.mutable_spec()->mutable_training()->set_steps(400);
  job.mutable_last_step()->set_step(step);
  job.mutable_last_step()->set_loss(2.0794415416798357);  // 3 bits
  Add(*job.mutable_last_step()->mutable_metrics(), "accuracy", 0.25);
  Add(*job.mutable_last_step()->mutable_metrics(), "bits_per_byte", 3.0);
  job.mutable_last_step()->set_tokens(4096);
  job.mutable_last_step()->set_seconds(0.5);
  job.mutable_eta()->set_seconds(41);
  return job;
}

TEST(ProgressLine, ShowsStepLossSpeedAndEta) {
  EXPECT_EQ(ProgressLine(Running(120)),
            "demo-1  RUNNING  step 120/400  loss 2.079 (3.00 bits/byte)  8.2k tokens/s  ETA 41s");
}

TEST(ProgressLine, ShowsWhatTheTaskIsMeasuredBy) {
  v1::Job job = Running(120);
  job.mutable_last_step()->clear_metrics();
  Add(*job.mutable_last_step()->mutable_metrics(), "accuracy", 0.9);
  Add(*job.mutable_last_step()->mutable_metrics(), "perplexity", 8.0);
  Add(*job.mutable_last_step()->mutable_metrics(), "graph_density", 0.125);
  Add(*job.mutable_last_step()->mutable_metrics(), "graph_density", 0.5);
  job.mutable_last_step()->mutable_metrics(3)->set_layer(0);
  job.set_validation_loss(2.2);
  Add(*job.mutable_validation_metrics(), "accuracy", 0.8);
  EXPECT_EQ(ProgressLine(job),
            "demo-1  RUNNING  step 120/400  loss 2.079 (perplexity 8)  accuracy 0.900  graph "
            "density 0.125  val 2.200  val accuracy 0.800  8.2k tokens/s  ETA 41s");
  EXPECT_EQ(ScoresOf(job.last_step()), "perplexity 8, accuracy 0.900, graph density 0.125");
  EXPECT_EQ(ScoresOf(Running(1).last_step()), "3.00 bits/byte");
  EXPECT_THAT(Summary(job), HasSubstr("\n  validation loss 2.200\n  validation accuracy 0.800"));
}

TEST(ProgressLine, SaysWhyAJobWaits) {
  v1::Job job;
  job.set_name("jobs/demo-1");
  job.set_state(v1::Job::STATE_QUEUED);
  job.set_reason("needs 2 cpu workers, 1 is free");
  EXPECT_EQ(ProgressLine(job), "demo-1  QUEUED  needs 2 cpu workers, 1 is free");
}

TEST(ProgressLine, LeavesOutWhatMattersLeastOnANarrowScreen) {
  v1::Job job = Running(120);
  job.set_validation_loss(2.2);
  job.set_recoveries(3);
  EXPECT_EQ(ProgressLine(job, 79),
            "demo-1  RUNNING  step 120/400  loss 2.079  val 2.200  ETA 41s  recoveries 3");
  EXPECT_EQ(ProgressLine(job, 60), "demo-1  RUNNING  step 120/400  loss 2.079  recoveries 3");
  EXPECT_EQ(ProgressLine(job, 35), "demo-1  RUNNING  step 120/400  loss");
}

TEST(Summary, TellsTheWayOfTheLoss) {
  v1::Job job = Running(400);
  job.set_state(v1::Job::STATE_SUCCEEDED);
  job.set_first_loss(5.5);
  job.set_checkpoint_step(400);
  EXPECT_THAT(Summary(job), HasSubstr("loss 5.500 -> 2.079 (3.00 bits/byte) in 400 steps"));
  EXPECT_THAT(Summary(job), HasSubstr("checkpoint at step 400"));
}

v1::Job Recovered() {
  v1::Job job = Running(400);
  job.set_recoveries(2);
  v1::Failure& failure = *job.mutable_last_failure();
  failure.mutable_time()->set_seconds(1000);
  failure.set_generation(2);
  failure.set_worker("w1");
  failure.set_rank(3);
  failure.set_reason("worker w1: rank 3 was killed by SIGKILL");
  return job;
}

TEST(Failure, SaysWhenWhereAndWhat) {
  v1::Job job = Recovered();
  const absl::Time now = absl::FromUnixSeconds(1200);
  EXPECT_EQ(FailureText(job.last_failure(), now),
            "3m20s ago in generation 2: worker w1: rank 3 was killed by SIGKILL");
  EXPECT_EQ(ReasonCell(job, now), "last failure " + FailureText(job.last_failure(), now));
  job.mutable_last_failure()->clear_time();
  EXPECT_EQ(FailureText(job.last_failure(), now),
            "in generation 2: worker w1: rank 3 was killed by SIGKILL");
  job.set_state(v1::Job::STATE_QUEUED);
  job.set_reason("waits");
  EXPECT_EQ(ReasonCell(job, now), "waits");
  EXPECT_EQ(ReasonCell(Running(1), now), "");
}

TEST(Failure, HasAColumnInWideTablesInEveryState) {
  v1::Job job = Recovered();
  job.set_state(v1::Job::STATE_PAUSED);
  job.set_reason("paused on request");
  std::ostringstream out;
  JobTable({job}, /*wide=*/true).Print(out);
  EXPECT_THAT(out.str(), HasSubstr("REASON             LAST FAILURE\n"));
  EXPECT_THAT(out.str(), EndsWith("in generation 2: worker w1: rank 3 was killed by SIGKILL\n"));
}

TEST(Summary, TellsOfRecoveries) {
  v1::Job job = Recovered();
  job.set_state(v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(Summary(job), HasSubstr("\n  recoveries 2; last failure: worker w1: rank 3 was"));
  EXPECT_THAT(Summary(Running(400)), Not(HasSubstr("recoveries")));
}

TEST(ProgressPrinter, OverwritesALiveLineWithinTheWidth) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*live=*/true, /*width=*/20);
  printer.Show(Running(1), absl::UnixEpoch());
  EXPECT_EQ(out.str(), "\rdemo-1  RUNNING  st\x1b[K");
  printer.Finish();
  EXPECT_THAT(out.str(), EndsWith("\n"));
}

TEST(ProgressPrinter, SaysOnceThatNobodyAnswersAndThenHowTheJobGoes) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*live=*/false, /*width=*/80);
  const absl::Time start = absl::UnixEpoch();
  printer.Show(Running(1), start);
  printer.ShowProblem("no answer");
  printer.ShowProblem("no answer");
  printer.Show(Running(1), start + absl::Milliseconds(100));
  EXPECT_EQ(out.str(), absl::StrCat(ProgressLine(Running(1)), "\nno answer\n",
                                    ProgressLine(Running(1)), "\n"));
}

TEST(ProgressPrinter, ALiveLineGivesWayToAProblem) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*live=*/true, /*width=*/10);
  printer.ShowProblem("no answer from anybody");
  printer.Finish();
  EXPECT_EQ(out.str(), "\rno answer\x1b[K\n");
}

TEST(ProgressPrinter, ShowsNothingAfterItWasSilenced) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*live=*/true, /*width=*/20);
  printer.Show(Running(1), absl::UnixEpoch());
  printer.Silence();
  const std::string before = out.str();
  EXPECT_THAT(before, EndsWith("\x1b[K\n"));
  printer.Show(Running(2), absl::UnixEpoch());
  printer.ShowProblem("no answer");
  printer.Finish();
  EXPECT_EQ(out.str(), before);
}

TEST(ProgressPrinter, ThinsPlainLinesButShowsEveryChangeOfState) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*live=*/false, /*width=*/80);
  const absl::Time start = absl::UnixEpoch();
  printer.Show(Running(1), start);
  printer.Show(Running(2), start + absl::Milliseconds(100));
  v1::Job paused = Running(2);
  paused.set_state(v1::Job::STATE_PAUSED);
  printer.Show(paused, start + absl::Milliseconds(200));
  printer.Show(Running(3), start + absl::Seconds(10));
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, HasSubstr("PAUSED"));
}

}  // namespace
}  // namespace weft::client

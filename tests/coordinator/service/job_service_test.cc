#include "coordinator/service/job_service.h"

#include "tests/coordinator/service/service_fixture.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;
using weft::testing::IsOk;
using weft::testing::StatusIs;

class JobServiceTest : public ServiceTest {
 protected:
  absl::StatusOr<v1::ListJobsResponse> List(const std::string& filter, int page_size = 0,
                                            const std::string& page_token = "") {
    v1::ListJobsRequest request;
    request.set_filter(filter);
    request.set_page_size(page_size);
    request.set_page_token(page_token);
    return Call(&v1::JobService::Stub::ListJobs, *jobs_, request);
  }
  absl::StatusOr<v1::Job> Pause(const std::string& name) {
    v1::PauseJobRequest request;
    request.set_name(name);
    return Call(&v1::JobService::Stub::PauseJob, *jobs_, request);
  }
  absl::StatusOr<v1::Job> Resume(const std::string& name) {
    v1::ResumeJobRequest request;
    request.set_name(name);
    return Call(&v1::JobService::Stub::ResumeJob, *jobs_, request);
  }
  absl::Status Delete(const std::string& name) {
    v1::DeleteJobRequest request;
    request.set_name(name);
    return Call(&v1::JobService::Stub::DeleteJob, *jobs_, request).status();
  }

  static std::vector<std::string> Names(const v1::ListJobsResponse& response) {
    std::vector<std::string> names;
    for (const v1::Job& job : response.jobs()) names.push_back(job.name());
    return names;
  }
};

TEST_F(JobServiceTest, ACreatedJobIsQueuedAndShowsItsDefaults) {
  ASSERT_OK_AND_ASSIGN(const v1::Job job, Create(SpecOf("demo")));
  EXPECT_EQ(job.name(), "jobs/demo-1");
  EXPECT_EQ(job.state(), v1::Job::STATE_QUEUED);
  EXPECT_EQ(job.spec().queue(), "default");
  EXPECT_EQ(job.spec().retry().max_retries(), 3);
  EXPECT_THAT(job.reason(), HasSubstr("worker"));  // what it waits for
  EXPECT_GT(job.create_time().seconds(), 0);
  EXPECT_FALSE(job.has_last_step());
  ASSERT_OK_AND_ASSIGN(const v1::Job got, Get("jobs/demo-1"));
  EXPECT_EQ(got.SerializeAsString(), job.SerializeAsString());
}

TEST_F(JobServiceTest, AJobSurvivesARestart) {
  ASSERT_OK_AND_ASSIGN(const v1::Job before, Create(SpecOf("demo")));
  RestartServer();
  ASSERT_OK_AND_ASSIGN(const v1::Job after, Get("jobs/demo-1"));
  EXPECT_EQ(after.spec().SerializeAsString(), before.spec().SerializeAsString());
  EXPECT_EQ(after.create_time().nanos(), before.create_time().nanos());
}

TEST_F(JobServiceTest, ARepeatedRequestReturnsTheFirstJob) {
  ASSERT_OK_AND_ASSIGN(const v1::Job first, Create(SpecOf("demo"), "id-1"));
  ASSERT_OK_AND_ASSIGN(const v1::Job again, Create(SpecOf("demo"), "id-1"));
  EXPECT_EQ(again.name(), first.name());
  RestartServer();
  ASSERT_OK_AND_ASSIGN(const v1::Job after_restart, Create(SpecOf("demo"), "id-1"));
  EXPECT_EQ(after_restart.name(), first.name());
  ASSERT_OK_AND_ASSIGN(const v1::Job other, Create(SpecOf("demo"), "id-2"));
  EXPECT_EQ(other.name(), "jobs/demo-2");
}

TEST_F(JobServiceTest, ARequestIdUsedForAnotherSpecIsRefused) {
  ASSERT_OK(Create(SpecOf("demo"), "id-1"));
  EXPECT_THAT(Create(SpecOf("other"), "id-1"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JobServiceTest, ValidateOnlyChecksAndStoresNothing) {
  ASSERT_OK_AND_ASSIGN(const v1::Job job, Create(SpecOf("demo"), "", /*validate_only=*/true));
  EXPECT_THAT(job.name(), IsEmpty());
  EXPECT_EQ(job.spec().priority(), 0);
  EXPECT_TRUE(job.spec().has_priority());
  v1::JobSpec wrong = SpecOf("demo");
  wrong.mutable_training()->set_steps(-1);
  EXPECT_THAT(Create(wrong, "", true), StatusIs(absl::StatusCode::kInvalidArgument));
  wrong = SpecOf("demo");
  wrong.set_queue("nowhere");
  EXPECT_THAT(Create(wrong, "", true),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("there are: default")));
  ASSERT_OK_AND_ASSIGN(const v1::ListJobsResponse listed, List(""));
  EXPECT_THAT(listed.jobs(), IsEmpty());
}

TEST_F(JobServiceTest, EveryViolationOfASpecIsNamedAtOnce) {
  v1::JobSpec spec = SpecOf("Not A Name");
  spec.mutable_training()->set_steps(-1);
  spec.mutable_model()->mutable_mixers(0)->mutable_softmax()->set_heads(5);
  const absl::Status status = Create(spec, std::string(129, 'x')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::vector<FieldViolation> violations = FieldViolationsOf(status);
  EXPECT_THAT(violations, SizeIs(4)) << status;
  for (const char* field : {"spec.name", "spec.training.steps", "request_id"}) {
    EXPECT_THAT(violations, Contains(Field(&FieldViolation::field, field))) << status;
  }
  EXPECT_THAT(violations, Contains(Field(&FieldViolation::field, StartsWith("spec.model.mixers"))));
}

TEST_F(JobServiceTest, ARequestWithoutASpecIsRefused) {
  const absl::Status status =
      Call(&v1::JobService::Stub::CreateJob, *jobs_, v1::CreateJobRequest()).status();
  EXPECT_THAT(FieldViolationsOf(status), ElementsAre(FieldViolation{"spec", "is required"}));
}

TEST_F(JobServiceTest, AnUnknownQueueIsNotFound) {
  v1::JobSpec spec = SpecOf("demo");
  spec.set_queue("nowhere");
  const auto says = HasSubstr("no queue \"nowhere\"; there are: default");
  EXPECT_THAT(Create(spec), StatusIs(absl::StatusCode::kNotFound, says));
  EXPECT_THAT(Create(spec, "", /*validate_only=*/true),
              StatusIs(absl::StatusCode::kNotFound, says));
}

TEST_F(JobServiceTest, AnUnknownJobIsNotFoundAndAWrongNameIsAnError) {
  ASSERT_OK(Create(SpecOf("demo")));
  EXPECT_THAT(Get("jobs/demo-2"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("jobs/demo-2")));
  EXPECT_THAT(Get("jobs/other-1"), StatusIs(absl::StatusCode::kNotFound));
  for (const char* name : {"", "demo-1", "jobs/", "jobs/demo", "jobs/demo-01", "jobs/demo-0",
                           "jobs/demo-1/x", "jobs/DEMO-1", "jobs/demo-99999999999999999999"}) {
    const absl::Status status = Get(name).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("jobs/{id}")))
        << name;
    EXPECT_THAT(FieldViolationsOf(status), ElementsAre(Field(&FieldViolation::field, "name")));
  }
}

TEST_F(JobServiceTest, ListsNewestFirstInPages) {
  for (int i = 0; i < 5; ++i) ASSERT_OK(Create(SpecOf("demo")));
  ASSERT_OK_AND_ASSIGN(v1::ListJobsResponse page, List("", 2));
  EXPECT_THAT(Names(page), ElementsAre("jobs/demo-5", "jobs/demo-4"));
  ASSERT_OK(Create(SpecOf("late")));  // does not shift the pages
  ASSERT_OK_AND_ASSIGN(page, List("", 2, page.next_page_token()));
  EXPECT_THAT(Names(page), ElementsAre("jobs/demo-3", "jobs/demo-2"));
  const std::string token = page.next_page_token();
  EXPECT_THAT(List("active=true", 2, token),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page_token")));
  ASSERT_OK_AND_ASSIGN(page, List("", 2, token));
  EXPECT_THAT(Names(page), ElementsAre("jobs/demo-1"));
  EXPECT_THAT(page.next_page_token(), IsEmpty());
}

TEST_F(JobServiceTest, WrongPagesAndFiltersNameTheField) {
  EXPECT_THAT(FieldViolationsOf(List("", -1).status()),
              ElementsAre(Field(&FieldViolation::field, "page_size")));
  EXPECT_THAT(FieldViolationsOf(List("", 0, "garbage").status()),
              ElementsAre(Field(&FieldViolation::field, "page_token")));
  EXPECT_THAT(FieldViolationsOf(List("state=SLEEPING").status()),
              ElementsAre(AllOf(Field(&FieldViolation::field, "filter"),
                                Field(&FieldViolation::description, HasSubstr("RUNNING")))));
}

TEST_F(JobServiceTest, FiltersByStateQueueNameAndActivity) {
  v1::CreateQueueRequest queue;
  queue.mutable_queue()->set_name("queues/night");
  ASSERT_OK(Call(&v1::QueueService::Stub::CreateQueue, *queues_, queue));
  ASSERT_OK(Create(SpecOf("one")));
  ASSERT_OK(Create(SpecOf("two")));
  v1::JobSpec night = SpecOf("two");
  night.set_queue("night");
  ASSERT_OK(Create(night));
  ASSERT_OK(Cancel("jobs/one-1"));
  const auto names = [this](const std::string& filter) {
    const auto listed = List(filter);
    EXPECT_THAT(listed, IsOk());
    return listed.ok() ? Names(*listed) : std::vector<std::string>();
  };
  EXPECT_THAT(names("state=CANCELLED"), ElementsAre("jobs/one-1"));
  EXPECT_THAT(names("active=true"), ElementsAre("jobs/two-3", "jobs/two-2"));
  EXPECT_THAT(names("spec_name=two AND queue=night"), ElementsAre("jobs/two-3"));
  EXPECT_THAT(names("active=false AND state=QUEUED"), IsEmpty());
}

TEST_F(JobServiceTest, APausedJobKeepsItsCheckpointAndResumes) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  ASSERT_OK_AND_ASSIGN(const v1::Job pausing, Pause(start.job()));
  EXPECT_EQ(pausing.state(), v1::Job::STATE_PAUSING);
  const auto stop = worker->Await(v1::CoordinatorMessage::kStop);
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->stop().mode(), v1::StopMember::MODE_SAVE);
  EXPECT_EQ(stop->stop().job(), start.job());
  worker->SendCheckpoint(start, 7, 30);
  Finish(*worker, start, v1::MemberExit::OUTCOME_SAVED);
  ASSERT_OK_AND_ASSIGN(const v1::Job paused, AwaitState(start.job(), v1::Job::STATE_PAUSED));
  EXPECT_EQ(paused.checkpoint_step(), 30);
  EXPECT_THAT(Pause(start.job()), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(Resume(start.job()));
  const auto again = worker->AwaitStart();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->generation(), 2);
  EXPECT_THAT(Resume(start.job()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(JobServiceTest, ACancelledJobStopsItsRanksAndStaysCancelled) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  ASSERT_OK(Cancel(start.job()));
  const auto stop = worker->Await(v1::CoordinatorMessage::kStop);
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->stop().mode(), v1::StopMember::MODE_KILL);
  Finish(*worker, start, v1::MemberExit::OUTCOME_KILLED);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_CANCELLED));
  EXPECT_THAT(Cancel(start.job()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CANCELLED")));
}

TEST_F(JobServiceTest, OnlyAnEndedJobCanBeDeletedAndNothingIsLeft) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendSteps(start, 1, 3);
  worker->SendLogs(start.job(), 0, {"a line"});
  ASSERT_TRUE(worker->Await(v1::CoordinatorMessage::kLogsStored).has_value());
  EXPECT_THAT(Delete(start.job()), StatusIs(absl::StatusCode::kFailedPrecondition));
  Finish(*worker, start);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_SUCCEEDED));
  const auto log = directory_.path() / "logs" / "demo-1.log";
  EXPECT_TRUE(std::filesystem::exists(log));
  EXPECT_OK(Delete(start.job()));
  EXPECT_THAT(Get(start.job()), StatusIs(absl::StatusCode::kNotFound));
  server_.reset();  // the archive has done its work when the server is gone
  EXPECT_FALSE(std::filesystem::exists(log));
}

TEST_F(JobServiceTest, ASucceededJobTellsWhatBecameOfIt) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  EXPECT_EQ(start.spec().training().steps(), 100);
  EXPECT_EQ(start.checkpoint_root(), "/checkpoints");
  ASSERT_EQ(start.members_size(), 1);
  EXPECT_EQ(start.members(0).worker(), "w1");
  EXPECT_EQ(start.world_size(), 1);
  worker->SendSteps(start, 1, 12);
  worker->SendCheckpoint(start, 3, 12);
  Finish(*worker, start);
  ASSERT_OK_AND_ASSIGN(v1::Job job, AwaitState(start.job(), v1::Job::STATE_SUCCEEDED));
  for (int restarted = 0; restarted < 2; ++restarted) {
    EXPECT_EQ(job.last_step().step(), 12);
    EXPECT_EQ(job.first_loss(), 5.0);
    EXPECT_EQ(job.validation_loss(), 0.6);
    ASSERT_EQ(job.validation_metrics_size(), 1);
    EXPECT_EQ(job.validation_metrics(0).value(), 0.75);
    EXPECT_EQ(job.last_step().metrics(0).name(), "accuracy");
    EXPECT_EQ(job.weights_hash(), std::string(64, 'a'));
    EXPECT_EQ(job.checkpoint_step(), 12);
    EXPECT_EQ(job.generation(), 1);
    EXPECT_EQ(job.recoveries(), 0);
    EXPECT_THAT(job.workers(), IsEmpty());
    EXPECT_TRUE(job.has_end_time());
    RestartServer();
    ASSERT_OK_AND_ASSIGN(job, Get(start.job()));
  }
}

TEST_F(JobServiceTest, ListsTheHistoryOfStepsThinnedAndInPages) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendSteps(start, 1, 50);
  Finish(*worker, start);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_SUCCEEDED));
  RestartServer();
  v1::ListStepsRequest request;
  request.set_name(start.job());
  request.set_page_size(30);
  ASSERT_OK_AND_ASSIGN(v1::ListStepsResponse page,
                       Call(&v1::JobService::Stub::ListSteps, *jobs_, request));
  ASSERT_EQ(page.steps_size(), 30);
  EXPECT_EQ(page.steps(29).step(), 30);
  request.set_page_token(page.next_page_token());
  ASSERT_OK_AND_ASSIGN(page, Call(&v1::JobService::Stub::ListSteps, *jobs_, request));
  ASSERT_EQ(page.steps_size(), 20);
  EXPECT_EQ(page.steps(19).loss(), 0.1);
  EXPECT_THAT(page.next_page_token(), IsEmpty());
  request.clear_page_token();
  request.set_max_points(5);
  ASSERT_OK_AND_ASSIGN(page, Call(&v1::JobService::Stub::ListSteps, *jobs_, request));
  ASSERT_EQ(page.steps_size(), 5);
  EXPECT_EQ(page.steps(0).step(), 1);
  EXPECT_EQ(page.steps(4).step(), 50);
}

TEST_F(JobServiceTest, ExplainsWhatAJobWaitsFor) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "first");
  ASSERT_OK(Create(SpecOf("second")));
  v1::ExplainJobRequest request;
  request.set_name("jobs/second-2");
  ASSERT_OK_AND_ASSIGN(const v1::Explanation explanation,
                       Call(&v1::JobService::Stub::ExplainJob, *jobs_, request));
  EXPECT_EQ(explanation.state(), v1::Job::STATE_QUEUED);
  EXPECT_THAT(explanation.summary(), HasSubstr("first-1"));
  ASSERT_EQ(explanation.blockers_size(), 1);
  EXPECT_EQ(explanation.blockers(0).rule(), "workers");
  EXPECT_EQ(explanation.blockers(0).needed(), 1);
  EXPECT_EQ(explanation.blockers(0).missing(), 1);
  EXPECT_THAT(explanation.blockers(0).holders(), ElementsAre(start.job()));
  EXPECT_FALSE(explanation.has_last_failure());
  ASSERT_OK_AND_ASSIGN(const v1::ListJobsResponse listed, List("spec_name=second"));
  ASSERT_EQ(listed.jobs_size(), 1);
  EXPECT_EQ(listed.jobs(0).reason(), explanation.summary());
}

TEST_F(JobServiceTest, AJobSaysWhatFailedLastAlsoAfterARestart) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  ASSERT_OK_AND_ASSIGN(v1::Job job, Get(start.job()));
  EXPECT_FALSE(job.has_last_failure());
  worker->SendExit(start, 1, v1::MemberExit::OUTCOME_FAILED, /*rank=*/0);
  worker->SendEmptyHeartbeat();
  const auto again = worker->AwaitStart();
  ASSERT_TRUE(again.has_value());
  worker->SendHeartbeat(*again, v1::MemberStatus::PHASE_TRAINING, 0);
  ASSERT_OK_AND_ASSIGN(job, AwaitState(start.job(), v1::Job::STATE_RUNNING));
  const v1::Failure before = job.last_failure();
  EXPECT_EQ(before.generation(), 1);
  EXPECT_EQ(before.worker(), "w1");
  EXPECT_TRUE(before.has_rank());
  EXPECT_EQ(before.rank(), 0);
  EXPECT_EQ(before.cause(), "rank_failed");
  EXPECT_EQ(before.reason(), "worker w1: as the test wants it");
  EXPECT_GE(before.time().seconds(), job.create_time().seconds());
  RestartServer();
  ASSERT_OK_AND_ASSIGN(job, Get(start.job()));
  EXPECT_EQ(job.last_failure().SerializeAsString(), before.SerializeAsString());
  v1::ExplainJobRequest request;
  request.set_name(start.job());
  ASSERT_OK_AND_ASSIGN(const v1::Explanation explanation,
                       Call(&v1::JobService::Stub::ExplainJob, *jobs_, request));
  EXPECT_EQ(explanation.last_failure().SerializeAsString(), before.SerializeAsString());
}

}  // namespace
}  // namespace weft::coordinator::testing

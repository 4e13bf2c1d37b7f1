#include "coordinator/service/resource_names.h"

#include "common/rpc/field_violations.h"
#include "tests/testing/status_matchers.h"

namespace weft::coordinator {
namespace {

using testing::StatusIs;

TEST(ResourceNamesTest, JobsAreNamedBySpecAndNumber) {
  ASSERT_OK_AND_ASSIGN(const JobName job, ParseJobResource("name", "jobs/my-demo-12"));
  EXPECT_EQ(job.name, "my-demo-12");
  EXPECT_EQ(job.id, JobId(12));
  EXPECT_EQ(JobResource(job.name), "jobs/my-demo-12");
}

TEST(ResourceNamesTest, CheckpointsAreNamedByJobAndStep) {
  ASSERT_OK_AND_ASSIGN(CheckpointName name, ParseCheckpointResource("name", "jobs/demo-1"));
  EXPECT_FALSE(name.step.has_value());
  ASSERT_OK_AND_ASSIGN(name, ParseCheckpointResource("name", "jobs/demo-1/checkpoints/100"));
  EXPECT_EQ(name.step, StepIndex(100));
  EXPECT_EQ(CheckpointResource(name.job.name, *name.step), "jobs/demo-1/checkpoints/100");
  for (const char* text :
       {"jobs/demo-1/checkpoints/", "jobs/demo-1/checkpoints/x", "jobs/demo-1/checkpoints/-1",
        "jobs/demo-1/checkpoints/007", "checkpoints/1", "jobs/x/checkpoints/1"}) {
    EXPECT_THAT(ParseCheckpointResource("name", text), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(ResourceNamesTest, WorkersAndQueuesHavePlainNames) {
  ASSERT_OK_AND_ASSIGN(const WorkerName worker, ParseWorkerResource("name", "workers/host-a"));
  EXPECT_EQ(worker, "host-a");
  ASSERT_OK_AND_ASSIGN(const QueueName queue, ParseQueueResource("name", "queues/default"));
  EXPECT_EQ(queue, "default");
  for (const char* text : {"host-a", "workers/", "workers/Host", "workers/a/b", "queues/a",
                           "workers/../x", "workers/-a"}) {
    const absl::Status status = ParseWorkerResource("worker", text).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << text;
    ASSERT_EQ(FieldViolationsOf(status).size(), 1U);
    EXPECT_EQ(FieldViolationsOf(status)[0].field, "worker");
  }
}

}  // namespace
}  // namespace weft::coordinator

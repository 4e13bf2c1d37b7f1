#include "coordinator/service/queue_service.h"

#include "tests/coordinator/service/service_fixture.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weft::testing::StatusIs;

class QueueServiceTest : public ServiceTest {
 protected:
  absl::StatusOr<v1::Queue> CreateQueue(const std::string& name, int max_workers) {
    v1::CreateQueueRequest request;
    request.mutable_queue()->set_name(name);
    request.mutable_queue()->set_max_workers(max_workers);
    return Call(&v1::QueueService::Stub::CreateQueue, *queues_, request);
  }
  absl::StatusOr<v1::Queue> GetQueue(const std::string& name) {
    v1::GetQueueRequest request;
    request.set_name(name);
    return Call(&v1::QueueService::Stub::GetQueue, *queues_, request);
  }
  absl::Status DeleteQueue(const std::string& name) {
    v1::DeleteQueueRequest request;
    request.set_name(name);
    return Call(&v1::QueueService::Stub::DeleteQueue, *queues_, request).status();
  }
};

TEST_F(QueueServiceTest, AQueueIsMadeChangedListedAndDeleted) {
  ASSERT_OK_AND_ASSIGN(v1::Queue queue, CreateQueue("queues/night", 3));
  EXPECT_EQ(queue.max_workers(), 3);
  EXPECT_THAT(CreateQueue("queues/night", 1), StatusIs(absl::StatusCode::kAlreadyExists));
  v1::UpdateQueueRequest update;
  *update.mutable_queue() = queue;
  update.mutable_queue()->set_max_workers(5);
  ASSERT_OK_AND_ASSIGN(queue, Call(&v1::QueueService::Stub::UpdateQueue, *queues_, update));
  EXPECT_EQ(queue.max_workers(), 5);
  RestartServer();
  ASSERT_OK_AND_ASSIGN(queue, GetQueue("queues/night"));
  EXPECT_EQ(queue.max_workers(), 5);
  v1::ListQueuesRequest list;
  list.set_page_size(1);
  ASSERT_OK_AND_ASSIGN(v1::ListQueuesResponse page,
                       Call(&v1::QueueService::Stub::ListQueues, *queues_, list));
  ASSERT_EQ(page.queues_size(), 1);
  EXPECT_EQ(page.queues(0).name(), "queues/default");
  list.set_page_token(page.next_page_token());
  ASSERT_OK_AND_ASSIGN(page, Call(&v1::QueueService::Stub::ListQueues, *queues_, list));
  ASSERT_EQ(page.queues_size(), 1);
  EXPECT_EQ(page.queues(0).name(), "queues/night");
  EXPECT_OK(DeleteQueue("queues/night"));
  EXPECT_THAT(GetQueue("queues/night"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(QueueServiceTest, TheDefaultQueueAndOneWithJobsStay) {
  EXPECT_THAT(DeleteQueue("queues/default"), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(CreateQueue("queues/night", 0));
  v1::JobSpec spec = SpecOf("demo");
  spec.set_queue("night");
  ASSERT_OK(Create(spec));
  EXPECT_THAT(DeleteQueue("queues/night"), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(const v1::Queue queue, GetQueue("queues/night"));
  EXPECT_EQ(queue.queued_jobs(), 1);
  EXPECT_EQ(queue.running_jobs(), 0);
}

TEST_F(QueueServiceTest, AQueueShowsWhatItsJobsUse) {
  const auto worker = Join("w1");
  Run(*worker, "demo");
  ASSERT_OK_AND_ASSIGN(const v1::Queue queue, GetQueue("queues/default"));
  EXPECT_EQ(queue.queued_jobs(), 0);
  EXPECT_EQ(queue.running_jobs(), 1);
  EXPECT_EQ(queue.used_workers(), 1);
}

TEST_F(QueueServiceTest, WrongFieldsAreNamed) {
  EXPECT_THAT(FieldViolationsOf(CreateQueue("night", 0).status()),
              ElementsAre(::testing::Field(&FieldViolation::field, "queue.name")));
  EXPECT_THAT(FieldViolationsOf(CreateQueue("queues/night", -1).status()),
              ElementsAre(::testing::Field(&FieldViolation::field, "queue.max_workers")));
  EXPECT_THAT(GetQueue("queues/nowhere"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"nowhere\"; there are: default")));
}

}  // namespace
}  // namespace weft::coordinator::testing

#include "coordinator/service/checkpoint_service.h"

#include "tests/coordinator/service/service_fixture.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using weft::testing::StatusIs;

class CheckpointServiceTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    worker_ = Join("w1");
    start_ = Run(*worker_, "demo");
    for (const int64_t step : {10, 20}) {
      worker_->SendCheckpoint(start_, step, step);
      ASSERT_TRUE(worker_->Await(v1::CoordinatorMessage::kAcknowledged).has_value());
    }
  }

  absl::StatusOr<v1::ListCheckpointsResponse> List(const std::string& parent, int page_size = 0,
                                                   const std::string& token = "") {
    v1::ListCheckpointsRequest request;
    request.set_parent(parent);
    request.set_page_size(page_size);
    request.set_page_token(token);
    return Call(&v1::CheckpointService::Stub::ListCheckpoints, *checkpoints_, request);
  }

  struct Sampling {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::SampleTextResponse>> reader;

    absl::Status Finish() {
      v1::SampleTextResponse ignored;
      while (reader->Read(&ignored)) {
      }
      return FromGrpc(reader->Finish());
    }
  };
  std::unique_ptr<Sampling> Sample(const v1::SampleTextRequest& request) {
    auto sampling = std::make_unique<Sampling>();
    SetTimeout(sampling->context, absl::Seconds(30));
    sampling->reader = checkpoints_->SampleText(&sampling->context, request);
    return sampling;
  }
  void SendChunk(int64_t id, const std::string& text, bool done) {
    v1::WorkerMessage message;
    message.mutable_sample()->set_id(id);
    message.mutable_sample()->set_text(text);
    message.mutable_sample()->set_done(done);
    worker_->Send(message);
  }

  std::unique_ptr<FakeWorker> worker_;
  v1::StartMember start_;
};

TEST_F(CheckpointServiceTest, ListsNewestFirst) {
  ASSERT_OK_AND_ASSIGN(v1::ListCheckpointsResponse page, List(start_.job(), 1));
  ASSERT_EQ(page.checkpoints_size(), 1);
  const v1::Checkpoint& newest = page.checkpoints(0);
  EXPECT_EQ(newest.name(), "jobs/demo-1/checkpoints/20");
  EXPECT_EQ(newest.path(), "/checkpoints/20");
  EXPECT_EQ(newest.weights_hash(), std::string(64, 'b'));
  EXPECT_EQ(newest.bytes(), 1000);
  EXPECT_EQ(newest.generation(), 1);
  ASSERT_OK_AND_ASSIGN(page, List(start_.job(), 1, page.next_page_token()));
  ASSERT_EQ(page.checkpoints_size(), 1);
  EXPECT_EQ(page.checkpoints(0).step(), 10);
  EXPECT_THAT(page.next_page_token(), IsEmpty());
  ASSERT_OK_AND_ASSIGN(page, List("jobs/-"));
  EXPECT_EQ(page.checkpoints_size(), 2);
  EXPECT_THAT(List("jobs/other-9"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(List(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CheckpointServiceTest, TextComesFromAWorkerAsItIsMade) {
  v1::SampleTextRequest request;
  request.set_name(start_.job());
  request.set_prompt("Once");
  const auto sampling = Sample(request);
  const auto run = worker_->Await(v1::CoordinatorMessage::kRunSample);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->run_sample().checkpoint_path(), "/checkpoints/20");
  EXPECT_EQ(run->run_sample().request().prompt(), "Once");
  EXPECT_EQ(run->run_sample().request().tokens(), 200);
  EXPECT_EQ(run->run_sample().request().temperature(), 0.8);
  SendChunk(run->run_sample().id(), " upon", false);
  v1::SampleTextResponse response;
  ASSERT_TRUE(sampling->reader->Read(&response));
  EXPECT_EQ(response.text(), " upon");
  SendChunk(run->run_sample().id(), " a time", true);
  ASSERT_TRUE(sampling->reader->Read(&response));
  EXPECT_EQ(response.text(), " a time");
  EXPECT_OK(sampling->Finish());
}

TEST_F(CheckpointServiceTest, AnOlderCheckpointCanBeNamed) {
  v1::SampleTextRequest request;
  request.set_name("jobs/demo-1/checkpoints/10");
  const auto sampling = Sample(request);
  const auto run = worker_->Await(v1::CoordinatorMessage::kRunSample);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->run_sample().checkpoint_path(), "/checkpoints/10");
  request.set_name("jobs/demo-1/checkpoints/11");
  EXPECT_THAT(Sample(request)->Finish(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CheckpointServiceTest, CancellingTheCallStopsTheWorker) {
  v1::SampleTextRequest request;
  request.set_name(start_.job());
  const auto sampling = Sample(request);
  const auto run = worker_->Await(v1::CoordinatorMessage::kRunSample);
  ASSERT_TRUE(run.has_value());
  sampling->context.TryCancel();
  const auto cancel = worker_->Await(v1::CoordinatorMessage::kCancelSample);
  ASSERT_TRUE(cancel.has_value());
  EXPECT_EQ(cancel->cancel_sample().id(), run->run_sample().id());
  SendChunk(run->run_sample().id(), "too late", true);  // does no harm
  EXPECT_THAT(sampling->Finish(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(CheckpointServiceTest, AnErrorOfTheWorkerReachesTheCaller) {
  v1::SampleTextRequest request;
  request.set_name(start_.job());
  const auto sampling = Sample(request);
  const auto run = worker_->Await(v1::CoordinatorMessage::kRunSample);
  ASSERT_TRUE(run.has_value());
  v1::WorkerMessage message;
  message.mutable_sample()->set_id(run->run_sample().id());
  message.mutable_sample()->set_error_code(static_cast<int>(absl::StatusCode::kDataLoss));
  message.mutable_sample()->set_error("the checkpoint is damaged");
  worker_->Send(message);
  EXPECT_THAT(sampling->Finish(),
              StatusIs(absl::StatusCode::kDataLoss, "the checkpoint is damaged"));
}

TEST_F(CheckpointServiceTest, ALostWorkerEndsItsSamples) {
  v1::SampleTextRequest request;
  request.set_name(start_.job());
  const auto sampling = Sample(request);
  ASSERT_TRUE(worker_->Await(v1::CoordinatorMessage::kRunSample).has_value());
  worker_.reset();
  EXPECT_THAT(sampling->Finish(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("w1")));
}

TEST_F(CheckpointServiceTest, WrongRequestsAreExplained) {
  v1::SampleTextRequest request;
  request.set_name(start_.job());
  request.set_tokens(70000);
  request.set_temperature(-1);
  request.set_top_k(-1);
  const absl::Status status = Sample(request)->Finish();
  EXPECT_THAT(FieldViolationsOf(status),
              ElementsAre(::testing::Field(&FieldViolation::field, "tokens"),
                          ::testing::Field(&FieldViolation::field, "temperature"),
                          ::testing::Field(&FieldViolation::field, "top_k")));
  v1::SampleTextRequest lengthy;
  lengthy.set_name(start_.job());
  lengthy.set_prompt(std::string(127 * 1024 + 1, 'x'));
  EXPECT_THAT(Sample(lengthy)->Finish(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("prompt: is 130049 bytes long; allowed: up to 130048")));
  ASSERT_OK(Create(SpecOf("other")));
  v1::SampleTextRequest without;
  without.set_name("jobs/other-2");
  EXPECT_THAT(Sample(without)->Finish(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no checkpoint yet")));
}

}  // namespace
}  // namespace weft::coordinator::testing

// A whole coordinator in the test's process: real gRPC on a free port, the real driver, SQLite in a
// fresh directory. Workers are FakeWorkers.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "common/rpc/field_violations.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"
#include "coordinator/service/coordinator_server.h"
#include "coordinator/store/sqlite_job_store.h"
#include "tests/coordinator/service/fake_worker.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "weft/v1/checkpoint.grpc.pb.h"
#include "weft/v1/job.grpc.pb.h"
#include "weft/v1/queue.grpc.pb.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::coordinator::testing {

// The smallest job that is valid.
inline v1::JobSpec SpecOf(const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_width(64);
  spec.mutable_model()->set_layers(1);
  spec.mutable_model()->add_mixers()->mutable_softmax()->set_heads(2);
  spec.mutable_data()->mutable_text()->add_paths("/usr/share/common-licenses");
  spec.mutable_training()->set_steps(100);
  spec.mutable_training()->set_batch_size(8);
  spec.mutable_training()->set_sequence_length(64);
  return spec;
}

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { StartServer(); }

  void StartServer() {
    const std::string directory = directory_.path().string();
    ASSERT_OK_AND_ASSIGN(auto store, SqliteJobStore::Open(directory));
    CoordinatorServer::Options options;
    options.stepped_down = [this](const absl::Status&) { stepped_down_.Notify(); };
    options.state_directory = directory;
    options.checkpoint_root = "/checkpoints";
    options.version = "0.1.0-test";
    // Nothing times out while a test runs on a busy machine.
    options.policy.heartbeat_timeout = absl::Minutes(5);
    options.policy.missing_grace = absl::Minutes(5);
    options.policy.stall_tolerance = absl::Minutes(5);
    options.policy.gather_time = absl::ZeroDuration();
    ASSERT_OK_AND_ASSIGN(server_, CoordinatorServer::Start(options, Between(std::move(store))));
    channel_ = NewChannel(server_->address());
    jobs_ = v1::JobService::NewStub(channel_);
    workers_ = v1::WorkerService::NewStub(channel_);
    queues_ = v1::QueueService::NewStub(channel_);
    checkpoints_ = v1::CheckpointService::NewStub(channel_);
  }

  // What a test puts between the coordinator and its store.
  virtual std::unique_ptr<JobStore> Between(std::unique_ptr<JobStore> store) { return store; }

  // A coordinator that was stopped and begins again with the same directory.
  void RestartServer() {
    server_.reset();
    StartServer();
  }

  // One unary call with a deadline: Call(&Stub::GetJob, *jobs_, request).
  template <class Stub, class Request, class Response>
  static absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                    const Request&, Response*),
                                       Stub& stub, const Request& request) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(30));
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  }

  absl::StatusOr<v1::Job> Create(const v1::JobSpec& spec, const std::string& request_id = "",
                                 bool validate_only = false) {
    v1::CreateJobRequest request;
    *request.mutable_spec() = spec;
    request.set_request_id(request_id);
    request.set_validate_only(validate_only);
    return Call(&v1::JobService::Stub::CreateJob, *jobs_, request);
  }
  absl::StatusOr<v1::Job> Get(const std::string& name) {
    v1::GetJobRequest request;
    request.set_name(name);
    return Call(&v1::JobService::Stub::GetJob, *jobs_, request);
  }
  absl::StatusOr<v1::Job> Cancel(const std::string& name) {
    v1::CancelJobRequest request;
    request.set_name(name);
    return Call(&v1::JobService::Stub::CancelJob, *jobs_, request);
  }

  // Follows the job until it `is` as wanted, which `what` says in words.
  absl::StatusOr<v1::Job> AwaitJob(const std::string& name, absl::string_view what,
                                   absl::FunctionRef<bool(const v1::Job&)> is) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(20));
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_step(-1);
    const auto stream = jobs_->WatchJob(&context, request);
    v1::WatchJobResponse response;
    while (stream->Read(&response)) {
      if (is(response.job())) {
        context.TryCancel();
        return response.job();
      }
    }
    const absl::Status status = FromGrpc(stream->Finish());
    return absl::FailedPreconditionError(absl::StrCat(name, " never came to ", what, "; last ",
                                                      v1::Job::State_Name(response.job().state()),
                                                      ", stream: ", status.ToString()));
  }

  // Follows the job until it is in `state`; what it was then. The coordinator tells, nobody polls.
  absl::StatusOr<v1::Job> AwaitState(const std::string& name, v1::Job::State state) {
    return AwaitJob(name, v1::Job::State_Name(state),
                    [state](const v1::Job& job) { return job.state() == state; });
  }
  // Follows the job until the coordinator has `step`.
  absl::StatusOr<v1::Job> AwaitStep(const std::string& name, int64_t step) {
    return AwaitJob(name, absl::StrCat("step ", step),
                    [step](const v1::Job& job) { return job.last_step().step() >= step; });
  }

  // A worker that has joined.
  std::unique_ptr<FakeWorker> Join(const std::string& name, const std::string& incarnation = "1") {
    auto worker = std::make_unique<FakeWorker>(server_->address());
    worker->SendHello(FakeWorker::HelloOf(name, incarnation));
    EXPECT_TRUE(worker->Await(v1::CoordinatorMessage::kWelcome).has_value());
    return worker;
  }

  // A job that runs on `worker`.
  v1::StartMember Run(FakeWorker& worker, const std::string& spec_name) {
    EXPECT_THAT(Create(SpecOf(spec_name)), weft::testing::IsOk());
    const auto start = worker.AwaitStart();
    EXPECT_TRUE(start.has_value());
    if (!start.has_value()) return {};
    worker.SendHeartbeat(*start, v1::MemberStatus::PHASE_TRAINING, 0);
    EXPECT_THAT(AwaitState(start->job(), v1::Job::STATE_RUNNING), weft::testing::IsOk());
    return *start;
  }

  // Runs it to its end.
  void Finish(FakeWorker& worker, const v1::StartMember& start,
              v1::MemberExit::Outcome outcome = v1::MemberExit::OUTCOME_SUCCEEDED) {
    worker.SendExit(start, 1, outcome);
    EXPECT_TRUE(worker.Await(v1::CoordinatorMessage::kAcknowledged).has_value());
    worker.SendEmptyHeartbeat();
  }

  weft::testing::TempDir directory_;
  absl::Notification stepped_down_;
  std::unique_ptr<CoordinatorServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::WorkerService::Stub> workers_;
  std::unique_ptr<v1::QueueService::Stub> queues_;
  std::unique_ptr<v1::CheckpointService::Stub> checkpoints_;
};

}  // namespace weft::coordinator::testing

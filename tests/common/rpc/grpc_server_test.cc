#include "common/rpc/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/metrics/prometheus_metrics.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"
#include "tests/testing/status_matchers.h"
#include "weft/v1/peer.grpc.pb.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::IsOkAndHolds;
using ::testing::Not;
using testing::StatusIs;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

// Answers "exit_status = length of the command", or waits for cancellation when the command is
// "hang".
class FakePeer final : public v1::PeerService::CallbackService {
 public:
  grpc::ServerUnaryReactor* RunRelayDaemon(grpc::CallbackServerContext* context,
                                           const v1::RunRelayDaemonRequest* request,
                                           v1::RunRelayDaemonResponse* response) override {
    class Hang final : public grpc::ServerUnaryReactor {
     public:
      explicit Hang(absl::Notification& begun) { begun.Notify(); }
      void OnCancel() override { Finish(grpc::Status(grpc::StatusCode::CANCELLED, "")); }
      void OnDone() override { delete this; }
    };
    if (request->command() == "hang") return new Hang(hanging);
    ++calls;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (fail_first && calls == 1) {
      reactor->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "try again"));
      return reactor;
    }
    response->set_exit_status(static_cast<int>(request->command().size()));
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  absl::Notification hanging;
  std::atomic<int> calls = 0;
  bool fail_first = false;
};

class GrpcServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GrpcServer::Options options;
    options.metrics = &metrics_;
    options.service_names = {v1::PeerService::service_full_name()};
    ASSERT_OK_AND_ASSIGN(server_, GrpcServer::Start(options, {&peer_}));
  }

  absl::StatusOr<int> Run(const std::shared_ptr<grpc::Channel>& channel,
                          const std::string& command) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(20));
    v1::RunRelayDaemonRequest request;
    request.set_command(command);
    v1::RunRelayDaemonResponse response;
    const grpc::Status status =
        v1::PeerService::NewStub(channel)->RunRelayDaemon(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.exit_status();
  }

  PrometheusMetrics metrics_;
  FakePeer peer_;
  std::unique_ptr<GrpcServer> server_;
};

// One message to a method whose proto Debian does not ship, and what comes back, both as bytes.
absl::StatusOr<std::string> CallRaw(const GrpcServer& server, const char* name,
                                    const std::string& request) {
  const auto channel = NewChannel(server.address());
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(20));
  const grpc::Slice slice(request);
  const grpc::ByteBuffer sent(&slice, 1);
  grpc::ByteBuffer received;
  grpc::Status status;
  absl::Notification done;
  grpc::GenericStub(channel).UnaryCall(&context, name, grpc::StubOptions(), &sent, &received,
                                       [&](grpc::Status result) {
                                         status = std::move(result);
                                         done.Notify();
                                       });
  done.WaitForNotification();
  if (!status.ok()) return FromGrpc(status);
  grpc::Slice answer;
  EXPECT_TRUE(received.DumpToSingleSlice(&answer).ok());
  return std::string(reinterpret_cast<const char*>(answer.begin()), answer.size());
}

TEST_F(GrpcServerTest, HealthIsToldForTheServerAndEachService) {
  const char* const check = "/grpc.health.v1.Health/Check";
  const std::string named = std::string("\x0a\x13") + "weft.v1.PeerService";
  for (const std::string& request : {std::string(), named}) {
    EXPECT_THAT(CallRaw(*server_, check, request), IsOkAndHolds("\x08\x02"));  // NOT_SERVING
  }
  server_->SetServing(true);
  for (const std::string& request : {std::string(), named}) {
    EXPECT_THAT(CallRaw(*server_, check, request), IsOkAndHolds("\x08\x01"));  // SERVING
  }
  EXPECT_THAT(CallRaw(*server_, check, "\x0a\x05other"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(GrpcServerTest, ReflectionListsTheServices) {
  const auto listed =
      CallRaw(*server_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              "\x3a\x01*");  // list_services: "*"
  ASSERT_OK(listed);
  EXPECT_THAT(*listed, HasSubstr("weft.v1.PeerService"));
}

TEST_F(GrpcServerTest, ServesOnTheAddressThatItNames) {
  EXPECT_GT(server_->port(), 0);
  EXPECT_EQ(server_->address(), absl::StrCat("127.0.0.1:", server_->port()));
  ASSERT_OK_AND_ASSIGN(const int length, Run(NewChannel(server_->address()), "four"));
  EXPECT_EQ(length, 4);
}

TEST_F(GrpcServerTest, ASecondServerOnThePortIsRefused) {
  GrpcServer::Options options;
  options.listen = server_->address();
  FakePeer other;
  EXPECT_THAT(GrpcServer::Start(options, {&other}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(server_->address()), HasSubstr("in use"))));
}

TEST_F(GrpcServerTest, AHugeMessageIsRefusedAndNobodyElseIsDisturbed) {
  const auto channel = NewChannel(server_->address());
  EXPECT_THAT(Run(channel, std::string(100 << 20, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Run(channel, "x"), IsOk());
  EXPECT_EQ(peer_.calls, 1);
}

TEST_F(GrpcServerTest, TimesCallsByMethodAndCode) {
  ASSERT_OK(Run(NewChannel(server_->address()), "x"));
  server_->Shutdown(absl::Seconds(5));
  EXPECT_THAT(
      metrics_.Text(),
      HasSubstr(
          "weft_rpc_seconds_count{method=\"weft.v1.PeerService/RunRelayDaemon\",code=\"OK\"} 1"));
}

TEST_F(GrpcServerTest, AMethodThatNobodyServesIsCountedAsUnknown) {
  for (const char* const method : {"/made.up/Name", "/weft.v1.PeerService/Other", "/odd\xff/x"}) {
    EXPECT_FALSE(CallRaw(*server_, method, "").ok());
  }
  EXPECT_OK(CallRaw(*server_, "/grpc.health.v1.Health/Check", ""));
  server_->Shutdown(absl::Seconds(5));
  const std::string text = metrics_.Text();
  EXPECT_THAT(text,
              AllOf(Not(HasSubstr("made.up")), Not(HasSubstr("Other")), Not(HasSubstr("odd"))));
  EXPECT_THAT(text, HasSubstr("weft_rpc_seconds_count{method=\"unknown\",code=\"UNIMPLEMENTED\"}"));
}

TEST_F(GrpcServerTest, NamedMethodsAreTriedAgainWhenUnavailable) {
  peer_.fail_first = true;
  EXPECT_THAT(Run(NewChannel(server_->address()), "x"), StatusIs(absl::StatusCode::kUnavailable));
  peer_.calls = 0;
  ChannelOptions options;
  options.retried_methods = {"weft.v1.PeerService/RunRelayDaemon"};
  EXPECT_THAT(Run(NewChannel(server_->address(), options), "x"), IsOk());
  EXPECT_EQ(peer_.calls, 2);
}

TEST_F(GrpcServerTest, ShutdownCancelsWhatDoesNotEnd) {
  absl::StatusOr<int> result = absl::UnknownError("not yet");
  std::thread caller([&] { result = Run(NewChannel(server_->address()), "hang"); });
  peer_.hanging.WaitForNotification();
  server_->Shutdown(absl::ZeroDuration());
  caller.join();
  EXPECT_FALSE(result.ok());
  EXPECT_THAT(Run(NewChannel(server_->address()), "x"), StatusIs(absl::StatusCode::kUnavailable));
  server_->Shutdown(absl::ZeroDuration());  // once more does no harm
}

TEST_F(GrpcServerTest, PeersCannotFillTheLog) {
  CaptureStderr();
  for (int i = 0; i < 100; ++i) gpr_log(GPR_ERROR, "Handshake failed");
  gpr_log(GPR_ERROR, "something else");
  const std::string log = GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 6) << log;
  EXPECT_THAT(log, AllOf(HasSubstr("warning grpc: Handshake failed"), HasSubstr("something else")));
}

}  // namespace
}  // namespace weft

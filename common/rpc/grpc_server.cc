#include "common/rpc/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/log/log.h"
#include "common/log/log_throttle.h"
#include "common/net/listen_address.h"
#include "common/rpc/rpc_metrics.h"

namespace weft {
namespace {

// gRPC writes to standard error in a form of its own; here it speaks through our log. What it calls
// an error is mostly a peer that went away, that has the wrong certificate, or garbage on the port:
// as often as the peer likes.
void LogFromGrpc(gpr_log_func_args* arguments) {
  if (arguments->severity != GPR_LOG_SEVERITY_ERROR) {
    return LogDebug("grpc", arguments->message);
  }
  static LogThrottle& throttle = *new LogThrottle(/*count=*/5, /*period=*/absl::Minutes(1));
  const std::string place = absl::StrCat(arguments->file, ":", arguments->line);
  const std::optional<int64_t> left_out = throttle.Admit(place, absl::Now());
  if (!left_out) return;
  if (*left_out == 0) return LogWarning("grpc", arguments->message);
  LogWarning("grpc", arguments->message, {{"left_out_before", *left_out}});
}

void InitializeOnce() {
  static absl::once_flag once;
  absl::call_once(once, [] {
    gpr_set_log_function(LogFromGrpc);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

void SetLimits(grpc::ServerBuilder& builder, const GrpcServer::Options& options) {
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
  grpc::ResourceQuota quota("weft");
  quota.Resize(static_cast<size_t>(options.max_buffer_bytes));
  builder.SetResourceQuota(quota);
  // Reflection alone is served by threads; all else by callbacks.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  // A second server on the port must fail, not share it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
  // A client that vanished without a word is noticed within 20 s; clients may ask as often as every
  // 5 s.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
}

}  // namespace

class GrpcServer::State {
 public:
  std::unique_ptr<grpc::Server> server;
  std::string address;
  int port = 0;
  std::vector<std::string> service_names;
};

GrpcServer::GrpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const Options& options, absl::Span<grpc::Service* const> services) {
  InitializeOnce();
  // gRPC does not say why it cannot listen; the operating system does.
  absl::StatusOr<ListenAddress> listen = CheckListenAddress(options.listen);
  if (!listen.ok()) return listen.status();
  auto state = std::make_unique<State>();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(
      options.listen,
      options.credentials != nullptr ? options.credentials : grpc::InsecureServerCredentials(),
      &state->port);
  SetLimits(builder, options);
  for (grpc::Service* service : services) builder.RegisterService(service);
  if (options.metrics != nullptr) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
        interceptors;
    interceptors.push_back(NewRpcMetrics(*options.metrics, options.service_names));
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
  }
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || state->port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen));
  }
  state->address = absl::StrCat(listen->host, ":", state->port);
  state->service_names = options.service_names;
  std::unique_ptr<GrpcServer> result(new GrpcServer(std::move(state)));
  result->SetServing(false);
  return result;
}

const std::string& GrpcServer::address() const { return state_->address; }

int GrpcServer::port() const { return state_->port; }

void GrpcServer::SetServing(bool serving) {
  if (auto* health = state_->server->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus("", serving);
    for (const std::string& name : state_->service_names) health->SetServingStatus(name, serving);
  }
}

void GrpcServer::Shutdown(absl::Duration grace) {
  SetServing(false);
  state_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
}

}  // namespace weft

// A gRPC server as every process of ours wants it: limits, keep-alive, health, reflection, and one
// order of shutting down. Services are of the callback API.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/metrics/metrics_sink.h"

namespace grpc {
class ServerCredentials;
class Service;
}  // namespace grpc

namespace weft {

class GrpcServer {
 public:
  struct Options {
    std::string listen = "127.0.0.1:0";  // host:port; port 0: any free one
    // Null: not encrypted. Else NewServerCredentials (tls_credentials.h).
    std::shared_ptr<grpc::ServerCredentials> credentials;
    // A larger message is refused with RESOURCE_EXHAUSTED before it is held in memory.
    int max_receive_bytes = 4 << 20;
    // What all calls together may buffer.
    int64_t max_buffer_bytes = int64_t{256} << 20;
    // What the health service can be asked about, beside the server as a whole, and whose methods
    // the metrics tell apart: "weft.v1.JobService".
    std::vector<std::string> service_names;
    MetricsSink* metrics = nullptr;  // weft_rpc_seconds{method,code}; must outlive the server
  };

  // Serves `services`, which must outlive the server. kUnavailable when the port is in use,
  // kInvalidArgument for an address that is none. Health says NOT_SERVING until SetServing(true).
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const Options& options, absl::Span<grpc::Service* const> services);
  // Shuts down with no grace.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // "host:port" as bound.
  [[nodiscard]] const std::string& address() const;
  [[nodiscard]] int port() const;
  // What the health service answers, for the server and for every service. Any thread.
  void SetServing(bool serving);
  // Health NOT_SERVING, no new calls, `grace` for the running ones, then they are cancelled;
  // returns when every handler has finished. Idempotent. Not from a handler.
  void Shutdown(absl::Duration grace);

 private:
  class State;
  explicit GrpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weft

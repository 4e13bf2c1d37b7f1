// HTTP for machines that watch a process:
//   /metrics   Prometheus text
//   /startupz  200 once it has started; 503 says what it is doing still
//   /livez     200 while the process works at all; 503 means: restart it
//   /readyz    200 while it can serve; 503 says why in the body
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/metrics/prometheus_metrics.h"

struct mg_context;

namespace weft {

class MetricsServer {
 public:
  // Asked at each probe, on a thread of the server; must not block.
  using Probe = std::function<absl::Status()>;

  struct Options {
    std::string listen = "127.0.0.1:0";  // host:port; port 0: any free one
    Probe started;                       // each of the three, when empty: always
    Probe live;
    Probe ready;
  };

  // `metrics` must outlive the server. kUnavailable when the port is in use, kInvalidArgument for
  // an address that is none.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const PrometheusMetrics& metrics,
                                                              Options options);
  // Waits for the requests that are being answered.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  [[nodiscard]] int port() const { return port_; }
  // "host:port" as bound.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  MetricsServer(const PrometheusMetrics& metrics, Options options);

  const PrometheusMetrics& metrics_;
  const Options options_;
  std::string host_;
  int port_ = 0;
  std::string address_;
  mg_context* context_ = nullptr;
};

}  // namespace weft

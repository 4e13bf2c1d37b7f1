#include "common/metrics/metrics_server.h"

#include <civetweb.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"
#include "common/log/log.h"
#include "common/net/listen_address.h"

namespace weft {
namespace {

int Answer(mg_connection* connection, int code, const char* content_type, const std::string& body) {
  mg_printf(
      connection,
      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
      code, code == 200 ? "OK" : "Service Unavailable", content_type, body.size());
  mg_write(connection, body.data(), body.size());
  return code;
}

int AnswerMetrics(mg_connection* connection, void* metrics) {
  return Answer(connection, 200, "text/plain; version=0.0.4; charset=utf-8",
                static_cast<const PrometheusMetrics*>(metrics)->Text());
}

int AnswerProbe(mg_connection* connection, void* probe) {
  const auto& ask = *static_cast<const MetricsServer::Probe*>(probe);
  const absl::Status status = ask ? ask() : absl::OkStatus();
  if (status.ok()) return Answer(connection, 200, "text/plain", "ok\n");
  return Answer(connection, 503, "text/plain", absl::StrCat(status.message(), "\n"));
}

int LogFromCivetweb(const mg_connection* /*connection*/, const char* message) {
  LogDebug("http", message);
  return 1;  // handled
}

}  // namespace

MetricsServer::MetricsServer(const PrometheusMetrics& metrics, Options options)
    : metrics_(metrics), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const PrometheusMetrics& metrics, Options options) {
  WEFT_ASSIGN_OR_RETURN(const ListenAddress listen, CheckListenAddress(options.listen));
  std::unique_ptr<MetricsServer> server(new MetricsServer(metrics, std::move(options)));
  // Connections that say nothing must not hold up a probe for as long as its patience: they are
  // given up soon, and there are threads for the others meanwhile.
  const char* const settings[] = {"listening_ports",
                                  server->options_.listen.c_str(),
                                  "num_threads",
                                  "8",
                                  "request_timeout_ms",
                                  "1000",
                                  nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = LogFromCivetweb;
  server->context_ = mg_start(&callbacks, nullptr, const_cast<const char**>(settings));
  if (server->context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", server->options_.listen));
  }
  mg_server_port ports[1] = {};
  if (mg_get_server_ports(server->context_, 1, ports) == 1) server->port_ = ports[0].port;
  server->host_ = listen.host;
  server->address_ = absl::StrCat(listen.host, ":", server->port_);
  // The handlers only read.
  mg_set_request_handler(server->context_, "/metrics$", AnswerMetrics,
                         const_cast<PrometheusMetrics*>(&server->metrics_));
  mg_set_request_handler(server->context_, "/startupz$", AnswerProbe,
                         const_cast<Probe*>(&server->options_.started));
  mg_set_request_handler(server->context_, "/livez$", AnswerProbe,
                         const_cast<Probe*>(&server->options_.live));
  mg_set_request_handler(server->context_, "/readyz$", AnswerProbe,
                         const_cast<Probe*>(&server->options_.ready));
  return server;
}

MetricsServer::~MetricsServer() {
  if (context_ == nullptr) return;
  // civetweb looks for its end only when its wait for connections is over, every two seconds. So
  // there are connections, until it has noticed.
  absl::Notification stopped;
  std::thread stopper([this, &stopped] {
    mg_stop(context_);
    stopped.Notify();
  });
  const std::string host(absl::StripPrefix(absl::StripSuffix(host_, "]"), "["));
  while (!stopped.WaitForNotificationWithTimeout(absl::Milliseconds(10))) {
    char error[64];
    mg_connection* const knock = mg_connect_client(host.c_str(), port_, 0, error, sizeof(error));
    if (knock != nullptr) mg_close_connection(knock);
  }
  stopper.join();
}

}  // namespace weft

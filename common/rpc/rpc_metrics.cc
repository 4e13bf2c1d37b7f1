#include "common/rpc/rpc_metrics.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weft {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class CallTimer final : public grpc::experimental::Interceptor {
 public:
  CallTimer(MetricsSink& metrics, absl::string_view method)
      : metrics_(metrics), method_(absl::StripPrefix(method, "/")), begin_(absl::Now()) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const auto code = static_cast<absl::StatusCode>(methods->GetSendStatus().error_code());
      metrics_.Observe(kRpcSeconds, {method_, absl::StatusCodeToString(code)},
                       absl::ToDoubleSeconds(absl::Now() - begin_));
    }
    methods->Proceed();
  }

 private:
  MetricsSink& metrics_;
  const std::string method_;
  const absl::Time begin_;
};

class CallTimerFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallTimerFactory(MetricsSink& metrics) : metrics_(metrics) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new CallTimer(metrics_, info->method());
  }

 private:
  MetricsSink& metrics_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewRpcMetrics(
    MetricsSink& metrics) {
  return std::make_unique<CallTimerFactory>(metrics);
}

}  // namespace weft

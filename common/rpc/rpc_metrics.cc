#include "common/rpc/rpc_metrics.h"

#include <google/protobuf/descriptor.h>

#include <functional>
#include <set>
#include <utility>

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

constexpr absl::string_view kUnknown = "unknown";

using MethodNames = std::set<std::string, std::less<>>;

// As calls name them, "weft.v1.JobService/GetJob".
MethodNames MethodsOf(const std::vector<std::string>& service_names) {
  MethodNames methods = {"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
                         "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
  for (const std::string& name : service_names) {
    const google::protobuf::ServiceDescriptor* const service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    for (int i = 0; service != nullptr && i < service->method_count(); ++i) {
      methods.insert(absl::StrCat(name, "/", service->method(i)->name()));
    }
  }
  return methods;
}

// `method` must outlive the call.
class CallTimer final : public grpc::experimental::Interceptor {
 public:
  CallTimer(MetricsSink& metrics, absl::string_view method)
      : metrics_(metrics), method_(method), begin_(absl::Now()) {}

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
  const absl::string_view method_;
  const absl::Time begin_;
};

class CallTimerFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  CallTimerFactory(MetricsSink& metrics, MethodNames methods)
      : metrics_(metrics), methods_(std::move(methods)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    const auto found = methods_.find(absl::StripPrefix(info->method(), "/"));
    return new CallTimer(metrics_, found == methods_.end() ? kUnknown : *found);
  }

 private:
  MetricsSink& metrics_;
  const MethodNames methods_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewRpcMetrics(
    MetricsSink& metrics, const std::vector<std::string>& service_names) {
  return std::make_unique<CallTimerFactory>(metrics, MethodsOf(service_names));
}

}  // namespace weft

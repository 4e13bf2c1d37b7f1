// Counts and times the calls that a gRPC server answers.
#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <string>
#include <vector>

#include "common/metrics/metrics_sink.h"

namespace weft {

inline constexpr Metric kRpcSeconds = {
    .name = "weft_rpc_seconds",
    .help = "Time from the start of a served call to its status; a stream counts when it ends.",
    .kind = MetricKind::kHistogram,
    .labels = {"method", "code"},
    .buckets = kSecondsBuckets};

// Only methods of these services ("weft.v1.JobService"), and gRPC's own health and reflection,
// become labels: anybody may call anything. All else is "unknown". `metrics` must outlive the
// server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewRpcMetrics(
    MetricsSink& metrics, const std::vector<std::string>& service_names);

}  // namespace weft

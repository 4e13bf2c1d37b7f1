#include "common/metrics/metrics_server.h"

#include <unistd.h>

#include <atomic>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/common/metrics/http_get.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::AllOf;
using testing::ConnectTo;
using ::testing::HasSubstr;
using testing::HttpGet;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr Metric kUp = {.name = "weft_test_up", .help = "Up.", .kind = MetricKind::kGauge};

TEST(MetricsServerTest, ServesTheMetricsOnAFreePort) {
  PrometheusMetrics metrics;
  metrics.Set(kUp, {}, 1);
  ASSERT_OK_AND_ASSIGN(const auto server, MetricsServer::Start(metrics, {}));
  EXPECT_GT(server->port(), 0);
  EXPECT_EQ(server->address(), absl::StrCat("127.0.0.1:", server->port()));
  EXPECT_THAT(
      HttpGet(server->port(), "/metrics"),
      AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("version=0.0.4"), HasSubstr("weft_test_up 1")));
}

TEST(MetricsServerTest, ProbesAnswerForTheProcess) {
  PrometheusMetrics metrics;
  std::atomic<bool> ready = false;
  MetricsServer::Options options;
  options.ready = [&ready] {
    return ready.load() ? absl::OkStatus() : absl::UnavailableError("still loading");
  };
  ASSERT_OK_AND_ASSIGN(const auto server, MetricsServer::Start(metrics, options));
  EXPECT_THAT(HttpGet(server->port(), "/startupz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet(server->port(), "/livez"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet(server->port(), "/readyz"),
              AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("still loading")));
  ready = true;
  EXPECT_THAT(HttpGet(server->port(), "/readyz"), StartsWith("HTTP/1.1 200"));
}

TEST(MetricsServerTest, OtherPathsDoNotExist) {
  PrometheusMetrics metrics;
  ASSERT_OK_AND_ASSIGN(const auto server, MetricsServer::Start(metrics, {}));
  EXPECT_THAT(HttpGet(server->port(), "/etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(HttpGet(server->port(), "/"), StartsWith("HTTP/1.1 404"));
}

TEST(MetricsServerTest, ConnectionsThatSayNothingDelayNoProbe) {
  PrometheusMetrics metrics;
  ASSERT_OK_AND_ASSIGN(const auto server, MetricsServer::Start(metrics, {}));
  std::vector<int> idle;
  const absl::Cleanup close_all = [&idle] {
    for (const int fd : idle) close(fd);
  };
  for (int i = 0; i < 5; ++i) idle.push_back(ConnectTo(server->port()));
  const absl::Time begin = absl::Now();
  EXPECT_THAT(HttpGet(server->port(), "/livez"), StartsWith("HTTP/1.1 200"));
  // Many hold up the server no longer than it takes to give them up.
  for (int i = 0; i < 10; ++i) idle.push_back(ConnectTo(server->port()));
  EXPECT_THAT(HttpGet(server->port(), "/livez"), StartsWith("HTTP/1.1 200"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(8));
}

TEST(MetricsServerTest, APortInUseIsNamed) {
  PrometheusMetrics metrics;
  ASSERT_OK_AND_ASSIGN(const auto first, MetricsServer::Start(metrics, {}));
  MetricsServer::Options options;
  options.listen = first->address();
  EXPECT_THAT(MetricsServer::Start(metrics, options),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(first->address()), HasSubstr("in use"))));
}

}  // namespace
}  // namespace weft

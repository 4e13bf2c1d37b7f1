#include "common/tls/certificate_metric.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/metrics/prometheus_metrics.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_authority.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::ReplaceFile;

constexpr char kName[] = "weft_tls_certificate_expiry_timestamp_seconds";

class CertificateMetricTest : public ::testing::Test {
 protected:
  void IssueUntil(int64_t unix_seconds) {
    authority_.IssueTo(directory_.path().string(),
                       {.names = {}, .until = absl::FromUnixSeconds(unix_seconds)});
  }

  const weft::testing::TempDir directory_;
  weft::testing::TestAuthority authority_;
  PrometheusMetrics sink_;
};

TEST_F(CertificateMetricTest, FollowsTheCertificateAndKeepsTheLastThatWasOne) {
  IssueUntil(2'000'000'000);
  CertificateMetric metric(sink_, absl::StrCat(directory_.path().string(), "/tls.crt"));
  metric.Measure();
  EXPECT_THAT(sink_.Text(), HasSubstr(absl::StrCat(kName, " 2000000000\n")));
  ReplaceFile(absl::StrCat(directory_.path().string(), "/tls.crt"), "-----BEGIN\n");
  metric.Measure();
  EXPECT_THAT(sink_.Text(), HasSubstr(absl::StrCat(kName, " 2000000000\n")));
  IssueUntil(2'100'000'000);
  metric.Measure();
  EXPECT_THAT(sink_.Text(), HasSubstr(absl::StrCat(kName, " 2100000000\n")));
}

TEST_F(CertificateMetricTest, HasNoSeriesWithoutTls) {
  CertificateMetric metric(sink_, "");
  metric.Measure();
  EXPECT_THAT(sink_.Text(), Not(HasSubstr(kName)));
}

}  // namespace
}  // namespace weft

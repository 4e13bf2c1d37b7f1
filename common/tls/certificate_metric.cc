#include "common/tls/certificate_metric.h"

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tls/tls_files.h"

namespace weft {
namespace {

constexpr Metric kCertificateExpiry = {
    .name = "weft_tls_certificate_expiry_timestamp_seconds",
    .help = "When this process's own certificate expires; absent without TLS."};

}  // namespace

void CertificateMetric::Measure() {
  if (path_.empty()) return;
  const absl::StatusOr<absl::Time> expiry = CertificateExpiry(path_);
  if (expiry.ok()) {
    sink_.Set(kCertificateExpiry, {}, absl::ToDoubleSeconds(*expiry - absl::UnixEpoch()));
  }
}

}  // namespace weft

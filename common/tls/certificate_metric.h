// When our own certificate expires, as a metric: whoever renews it is warned in time.
#pragma once

#include <string>
#include <utility>

#include "common/metrics/metrics_sink.h"

namespace weft {

class CertificateMetric {
 public:
  // `path`: of our own certificate (TlsFiles::cert); empty, and there is no series: we have none.
  // `sink` must outlive this.
  CertificateMetric(MetricsSink& sink, std::string path) : sink_(sink), path_(std::move(path)) {}

  // Reads the file and sets the series. A file that holds no certificate, or is being replaced,
  // leaves it as it was, for connections use the certificate of before, too. Blocks on the file.
  void Measure();

 private:
  MetricsSink& sink_;
  const std::string path_;
};

}  // namespace weft

#include "common/metrics/prometheus_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/synchronization/mutex.h"
#include "common/base/check.h"
#include "common/base/utf8.h"

namespace weft {
namespace {

constexpr size_t kMaxLabelBytes = 200;

constexpr Metric kDropped = {.name = "weft_metrics_dropped_total",
                             .help = "Measurements dropped because a metric had too many series.",
                             .kind = MetricKind::kCounter,
                             .labels = {"metric"}};

using Series =
    std::variant<std::unique_ptr<prometheus::Counter>, std::unique_ptr<prometheus::Gauge>,
                 std::unique_ptr<prometheus::Histogram>>;

Series NewSeries(const Metric& metric) {
  switch (metric.kind) {
    case MetricKind::kCounter:
      return std::make_unique<prometheus::Counter>();
    case MetricKind::kGauge:
      return std::make_unique<prometheus::Gauge>();
    case MetricKind::kHistogram:
      break;
  }
  return std::make_unique<prometheus::Histogram>(
      prometheus::Histogram::BucketBoundaries(metric.buckets.begin(), metric.buckets.end()));
}

prometheus::MetricType TypeOf(MetricKind kind) {
  switch (kind) {
    case MetricKind::kCounter:
      return prometheus::MetricType::Counter;
    case MetricKind::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricKind::kHistogram:
      break;
  }
  return prometheus::MetricType::Histogram;
}

size_t LabelCount(const Metric& metric) {
  size_t count = 0;
  while (count < metric.labels.size() && !metric.labels[count].empty()) ++count;
  return count;
}

// One value that is no UTF-8 would make the whole page unreadable to Prometheus, and values may
// come from anybody.
std::string LabelText(absl::string_view value) {
  std::string text = ToValidUtf8(value);
  text.resize(Utf8Prefix(text, kMaxLabelBytes).size());
  std::replace_if(text.begin(), text.end(), absl::ascii_iscntrl, ' ');
  return text;
}

}  // namespace

class PrometheusMetrics::Registry {
 public:
  explicit Registry(int series_limit) : series_limit_(static_cast<size_t>(series_limit)) {}

  // Calls `use` with the series, which is made when it does not exist.
  template <class Kind, class Use>
  void With(const Metric& metric, LabelValues labels, Use use) {
    WEFT_CHECK_MSG(labels.size() == LabelCount(metric), metric.name);
    const absl::MutexLock lock(&mutex_);
    Series* const series = FindOrAdd(metric, labels);
    if (series != nullptr) {
      auto* const of_kind = std::get_if<std::unique_ptr<Kind>>(series);
      WEFT_CHECK_MSG(of_kind != nullptr, metric.name);
      use(**of_kind);
    }
  }

  void Remove(const Metric& metric, LabelValues labels) {
    const absl::MutexLock lock(&mutex_);
    const auto family = families_.find(metric.name);
    if (family != families_.end()) family->second.series.erase(Key(labels));
  }

  void RemoveAll(absl::string_view label, absl::string_view value) {
    const std::string text = LabelText(value);
    const absl::MutexLock lock(&mutex_);
    for (auto& [name, family] : families_) {
      for (size_t i = 0; i < LabelCount(*family.metric); ++i) {
        if (family.metric->labels[i] != label) continue;
        for (auto it = family.series.begin(); it != family.series.end();) {
          it = it->first[i] == text ? family.series.erase(it) : std::next(it);
        }
      }
    }
  }

  [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const {
    const absl::MutexLock lock(&mutex_);
    std::vector<prometheus::MetricFamily> result;
    for (const auto& [name, family] : families_) {
      if (family.series.empty()) continue;
      prometheus::MetricFamily& out = result.emplace_back();
      out.name = std::string(name);
      out.help = std::string(family.metric->help);
      out.type = TypeOf(family.metric->kind);
      for (const auto& [values, series] : family.series) {
        prometheus::ClientMetric& point = out.metric.emplace_back(
            std::visit([](const auto& counted) { return counted->Collect(); }, series));
        for (size_t i = 0; i < values.size(); ++i) {
          point.label.push_back({std::string(family.metric->labels[i]), values[i]});
        }
      }
    }
    return result;
  }

 private:
  using LabelKey = std::vector<std::string>;
  struct Family {
    const Metric* metric = nullptr;
    std::map<LabelKey, Series> series;
  };

  static LabelKey Key(LabelValues labels) {
    LabelKey key;
    for (const absl::string_view value : labels) key.push_back(LabelText(value));
    return key;
  }

  Series* FindOrAdd(const Metric& metric, LabelValues labels)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Family& family = families_[metric.name];
    family.metric = &metric;
    LabelKey key = Key(labels);
    const auto found = family.series.find(key);
    if (found != family.series.end()) return &found->second;
    if (family.series.size() >= series_limit_ && &metric != &kDropped) {
      Series* const dropped = FindOrAdd(kDropped, {metric.name});
      std::get<std::unique_ptr<prometheus::Counter>>(*dropped)->Increment();
      return nullptr;
    }
    return &family.series.emplace(std::move(key), NewSeries(metric)).first->second;
  }

  const size_t series_limit_;
  mutable absl::Mutex mutex_;
  std::map<absl::string_view, Family> families_ ABSL_GUARDED_BY(mutex_);
};

PrometheusMetrics::PrometheusMetrics(int series_limit)
    : registry_(std::make_unique<Registry>(series_limit)) {}

PrometheusMetrics::~PrometheusMetrics() = default;

void PrometheusMetrics::Add(const Metric& counter, LabelValues labels, double amount) {
  registry_->With<prometheus::Counter>(
      counter, labels, [&](prometheus::Counter& series) { series.Increment(amount); });
}

void PrometheusMetrics::Set(const Metric& gauge, LabelValues labels, double value) {
  registry_->With<prometheus::Gauge>(gauge, labels,
                                     [&](prometheus::Gauge& series) { series.Set(value); });
}

void PrometheusMetrics::Observe(const Metric& histogram, LabelValues labels, double value) {
  registry_->With<prometheus::Histogram>(
      histogram, labels, [&](prometheus::Histogram& series) { series.Observe(value); });
}

void PrometheusMetrics::Remove(const Metric& metric, LabelValues labels) {
  registry_->Remove(metric, labels);
}

void PrometheusMetrics::RemoveAll(absl::string_view label, absl::string_view value) {
  registry_->RemoveAll(label, value);
}

std::string PrometheusMetrics::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry_->Collect());
  return out.str();
}

}  // namespace weft

#include "coordinator/store/record_codec.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::coordinator {
namespace {

using Json = nlohmann::json;

// --- the fields of each record: one list for both directions
// -----------------------------------------

template <class V>
void Fields(V& v, Reason& r) {
  v("code", r.code);
  v("text", r.text);
}
template <class V>
void Fields(V& v, Failure& f) {  // once it was a Reason alone: those are read still
  Fields(v, f.reason);
  v("generation", f.generation);
  v("worker", f.worker);
  v("rank", f.rank);
  v("at", f.at);
}
template <class V>
void Fields(V& v, JobRequest& r) {  // the spec is stored beside
  v("name", r.name);
  v("request_id", r.request_id);
  v("queue", r.queue);
  v("priority", r.priority);
  v("device_kind", r.device_kind);
  v("min_workers", r.min_workers);
  v("max_workers", r.max_workers);
  v("slots_per_worker", r.slots_per_worker);
  v("max_retries", r.max_retries);
  v("back_off", r.back_off);
  v("max_back_off", r.max_back_off);
  v("fixed_device_class", r.fixed_device_class);
}
template <class V>
void Fields(V& v, GangMember& m) {
  v("worker", m.worker);
  v("incarnation", m.incarnation);
  v("address", m.address);
  v("first_rank", m.first_rank);
  v("slots", m.slots);
  v("outcome", m.outcome);
  v("reason", m.reason);
  v("rank", m.rank);
  v("ended", m.ended);
}
template <class V>
void Fields(V& v, Checkpoint& c) {
  v("step", c.step);
  v("generation", c.generation);
  v("location", c.location);
  v("weights_hash", c.weights_hash);
  v("bytes", c.bytes);
  v("device_class", c.device_class);
  v("published", c.published);
}
template <class V>
void Fields(V& v, JobCounters& c) {
  v("failures", c.failures);
  v("host_losses", c.host_losses);
  v("recoveries", c.recoveries);
  v("failures_without_progress", c.failures_without_progress);
  v("losses_without_progress", c.losses_without_progress);
}
template <class V>
void Fields(V& v, Job& j) {
  v("id", j.id);
  v("name", j.name);
  v("request", j.request);
  v("state", j.state);
  v("reason", j.reason);
  v("last_failure", j.last_failure);
  v("goal", j.goal);
  v("generation", j.generation);
  v("device_class", j.device_class);
  v("gang", j.gang);
  v("stop", j.stop);
  v("stop_reason", j.stop_reason);
  v("counters", j.counters);
  v("step", j.step);
  v("weights_hash", j.weights_hash);
  v("checkpoints", j.checkpoints);
  v("created", j.created);
  v("started", j.started);
  v("finished", j.finished);
  v("changed", j.changed);
  v("deadline", j.deadline);
}
template <class V>
void Fields(V& v, WorkerOffer& o) {
  v("device_kind", o.device_kind);
  v("device_class", o.device_class);
  v("slots", o.slots);
  v("address", o.address);
  v("description", o.description);
}
template <class V>
void Fields(V& v, Worker& w) {  // what RestoreState takes
  v("name", w.name);
  v("offer", w.offer);
  v("draining", w.draining);
  v("drain_reason", w.drain_reason);
  v("drained_incarnation", w.drained_incarnation);
  v("registered", w.registered);
}
template <class V>
void Fields(V& v, QueueSettings& q) {
  v("name", q.name);
  v("max_workers", q.max_workers);
}

template <class V>
void Fields(V& v, JobAdded& f) {
  v("job", f.job);
  v("request", f.request);
  v("at", f.at);
}
template <class V>
void Fields(V& v, JobGoalSet& f) {
  v("job", f.job);
  v("goal", f.goal);
  v("state", f.state);
  v("reason", f.reason);
  v("at", f.at);
}
template <class V>
void Fields(V& v, JobDeleted& f) {
  v("job", f.job);
}
template <class V>
void Fields(V& v, GangPlaced& f) {
  v("job", f.job);
  v("generation", f.generation);
  v("device_class", f.device_class);
  v("members", f.members);
  v("at", f.at);
  v("start_deadline", f.start_deadline);
}
template <class V>
void Fields(V& v, GangRunning& f) {
  v("job", f.job);
  v("generation", f.generation);
  v("at", f.at);
}
template <class V>
void Fields(V& v, GangStopping& f) {
  v("job", f.job);
  v("generation", f.generation);
  v("mode", f.mode);
  v("reason", f.reason);
  v("at", f.at);
  v("deadline", f.deadline);
}
template <class V>
void Fields(V& v, MemberEnded& f) {
  v("job", f.job);
  v("generation", f.generation);
  v("worker", f.worker);
  v("outcome", f.outcome);
  v("reason", f.reason);
  v("step", f.step);
  v("weights_hash", f.weights_hash);
  v("at", f.at);
  v("rank", f.rank);
}
template <class V>
void Fields(V& v, GangReleased& f) {
  v("job", f.job);
  v("generation", f.generation);
  v("state", f.state);
  v("reason", f.reason);
  v("last_failure", f.last_failure);
  v("counters", f.counters);
  v("at", f.at);
  v("not_before", f.not_before);
}
template <class V>
void Fields(V& v, CheckpointRecorded& f) {
  v("job", f.job);
  v("checkpoint", f.checkpoint);
}
template <class V>
void Fields(V& v, WorkerRegistered& f) {
  v("worker", f.worker);
  v("offer", f.offer);
  v("at", f.at);
}
template <class V>
void Fields(V& v, WorkerDrainSet& f) {
  v("worker", f.worker);
  v("draining", f.draining);
  v("reason", f.reason);
  v("at", f.at);
  v("incarnation", f.incarnation);
}
template <class V>
void Fields(V& v, WorkerForgotten& f) {
  v("worker", f.worker);
}
template <class V>
void Fields(V& v, QueueSet& f) {
  v("settings", f.settings);
}
template <class V>
void Fields(V& v, QueueDeleted& f) {
  v("name", f.name);
}

// --- values
// ------------------------------------------------------------------------------------------

struct Writer {
  Json out = Json::object();
  template <class T>
  void operator()(const char* key, T& value) {
    out[key] = Value(value);
  }

  static Json Value(bool value) { return value; }
  static Json Value(int32_t value) { return value; }
  static Json Value(int64_t value) { return value; }
  static Json Value(const std::string& value) { return value; }
  // Nanoseconds since the epoch; what lies beyond has a name.
  static Json Value(absl::Time value) {
    if (value == absl::InfinitePast()) return "past";
    if (value == absl::InfiniteFuture()) return "future";
    return absl::ToUnixNanos(value);
  }
  static Json Value(absl::Duration value) { return absl::ToInt64Nanoseconds(value); }
  static Json Value(const SharedBytes& value) { return absl::Base64Escape(value.str()); }
  template <class Tag>
  static Json Value(StrongInt<Tag> value) {
    return value.value();
  }
  template <class T>
  static Json Value(std::vector<T>& values) {
    Json array = Json::array();
    for (T& value : values) array.push_back(Value(value));
    return array;
  }
  template <class T>
  static Json Value(std::optional<T>& value) {
    return value.has_value() ? Value(*value) : Json();
  }
  template <class T>
  requires std::is_enum_v<T>
  static Json Value(T value) { return static_cast<int64_t>(value); }
  template <class T>
  requires requires(Writer& writer, T& record) { Fields(writer, record); }
  static Json Value(T& value) {
    Writer writer;
    Fields(writer, value);
    return std::move(writer.out);
  }
};

struct Reader {
  const Json& in;
  std::string wrong = {};  // the first key whose value does not fit

  template <class T>
  void operator()(const char* key, T& value) {
    if (!wrong.empty()) return;
    const auto it = in.find(key);
    if (it == in.end()) return;
    if (!Get(*it, value)) wrong = key;
  }

  static bool Get(const Json& from, bool& value) {
    if (!from.is_boolean()) return false;
    value = from.get<bool>();
    return true;
  }
  static bool Get(const Json& from, int64_t& value) {
    if (!from.is_number_integer()) return false;
    value = from.get<int64_t>();
    return true;
  }
  static bool Get(const Json& from, int32_t& value) {
    int64_t wide = 0;
    if (!Get(from, wide) || wide < std::numeric_limits<int32_t>::min() ||
        wide > std::numeric_limits<int32_t>::max()) {
      return false;
    }
    value = static_cast<int32_t>(wide);
    return true;
  }
  static bool Get(const Json& from, std::string& value) {
    if (!from.is_string()) return false;
    value = from.get<std::string>();
    return true;
  }
  static bool Get(const Json& from, absl::Time& value) {
    if (from == "past" || from == "future") {
      value = from == "past" ? absl::InfinitePast() : absl::InfiniteFuture();
      return true;
    }
    int64_t nanoseconds = 0;
    if (!Get(from, nanoseconds)) return false;
    value = absl::FromUnixNanos(nanoseconds);
    return true;
  }
  static bool Get(const Json& from, absl::Duration& value) {
    int64_t nanoseconds = 0;
    if (!Get(from, nanoseconds)) return false;
    value = absl::Nanoseconds(nanoseconds);
    return true;
  }
  static bool Get(const Json& from, SharedBytes& value) {
    std::string bytes;
    if (!from.is_string() || !absl::Base64Unescape(from.get<std::string>(), &bytes)) return false;
    value = SharedBytes(std::move(bytes));
    return true;
  }
  template <class Tag>
  static bool Get(const Json& from, StrongInt<Tag>& value) {
    int64_t number = 0;
    if (!Get(from, number)) return false;
    value = StrongInt<Tag>(number);
    return true;
  }
  template <class T>
  static bool Get(const Json& from, std::vector<T>& values) {
    if (!from.is_array()) return false;
    values.clear();
    for (const Json& element : from) {
      T value;
      if (!Get(element, value)) return false;
      values.push_back(std::move(value));
    }
    return true;
  }
  template <class T>
  static bool Get(const Json& from, std::optional<T>& value) {
    value.reset();
    if (from.is_null()) return true;
    T present{};
    if (!Get(from, present)) return false;
    value = std::move(present);
    return true;
  }
  template <class T>
  requires std::is_enum_v<T>
  static bool Get(const Json& from, T& value) {
    int64_t number = 0;
    if (!Get(from, number) || number < 0 || number > std::numeric_limits<uint8_t>::max()) {
      return false;
    }
    value = static_cast<T>(number);
    return true;
  }
  template <class T>
  requires requires(Reader& reader, T& record) { Fields(reader, record); }
  static bool Get(const Json& from, T& value) {
    if (!from.is_object()) return false;
    Reader reader{from};
    Fields(reader, value);
    return reader.wrong.empty();
  }
};

template <class T>
std::string Encode(const T& value) {
  T copy = value;  // Fields() serves both directions and so takes a mutable record
  // Text from workers may be anything; what is not UTF-8 is replaced rather than refused.
  return Writer::Value(copy).dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class T>
absl::StatusOr<T> Decode(absl::string_view what, absl::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return absl::DataLossError(absl::StrCat("the ", what, " is not a JSON object"));
  }
  T value;
  Reader reader{json};
  Fields(reader, value);
  if (!reader.wrong.empty()) {
    return absl::DataLossError(
        absl::StrCat("the ", what, " has a value that does not fit in \"", reader.wrong, "\""));
  }
  return value;
}

// Tries each durable alternative of Fact in turn.
template <size_t kIndex = 0>
absl::StatusOr<Fact> DecodeNamed(absl::string_view name, absl::string_view text) {
  if constexpr (kIndex == std::variant_size_v<Fact>) {
    return absl::DataLossError(absl::StrCat("there is no fact \"", name, "\""));
  } else {
    using F = std::variant_alternative_t<kIndex, Fact>;
    if constexpr (requires(Reader & reader, F & fact) { Fields(reader, fact); }) {
      if (name == FactName(Fact(F{}))) {
        WEFT_ASSIGN_OR_RETURN(F fact, Decode<F>(name, text));
        return Fact(std::move(fact));
      }
    }
    return DecodeNamed<kIndex + 1>(name, text);
  }
}

}  // namespace

std::string EncodeJob(const Job& job) { return Encode(job); }

absl::StatusOr<Job> DecodeJob(absl::string_view text) {
  return Decode<Job>("record of a job", text);
}

std::string EncodeWorker(const Worker& worker) { return Encode(worker); }

absl::StatusOr<Worker> DecodeWorker(absl::string_view text) {
  return Decode<Worker>("record of a worker", text);
}

std::string EncodeFact(const Fact& fact) {
  return std::visit(
      [](const auto& it) -> std::string {
        using F = std::decay_t<decltype(it)>;
        if constexpr (requires(Writer & writer, F & f) { Fields(writer, f); }) {
          return Encode(it);
        } else {
          return "";  // volatile
        }
      },
      fact);
}

absl::StatusOr<Fact> DecodeFact(absl::string_view name, absl::string_view text) {
  return DecodeNamed(name, text);
}

}  // namespace weft::coordinator

#include "coordinator/store/postgres_connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/file_system.h"

namespace weft::coordinator {
namespace {

// What a list of values looks like to libpq.
struct Parameters {
  explicit Parameters(const std::vector<PostgresValues::Value>& from) {
    for (const PostgresValues::Value& value : from) {
      values.push_back(value.text.c_str());
      lengths.push_back(static_cast<int>(value.text.size()));
      formats.push_back(value.binary ? 1 : 0);
    }
  }
  [[nodiscard]] int size() const { return static_cast<int>(values.size()); }

  std::vector<const char*> values;
  std::vector<int> lengths;
  std::vector<int> formats;  // 1: binary
};

std::string OneLine(const char* message) {
  std::string line(absl::StripAsciiWhitespace(message));
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

// Empty when there is no file.
absl::StatusOr<std::string> ReadPassword(const std::string& file) {
  if (file.empty()) return std::string();
  const absl::StatusOr<std::string> text = ReadFile(RealFileSystem(), file, /*max_bytes=*/1 << 16);
  if (!text.ok()) {  // another one may be on its way
    return absl::UnavailableError(
        absl::StrCat("cannot read the password: ", text.status().message()));
  }
  return std::string(absl::StripTrailingAsciiWhitespace(*text));
}

}  // namespace

PostgresValues& PostgresValues::Int(int64_t value) {
  values_.push_back({absl::StrCat(value), false});
  return *this;
}

PostgresValues& PostgresValues::Text(absl::string_view value) {
  using Json = nlohmann::json;
  auto text =
      Json::parse(Json(std::string(value)).dump(-1, ' ', false, Json::error_handler_t::replace))
          .get<std::string>();
  std::replace(text.begin(), text.end(), '\0', ' ');
  values_.push_back({std::move(text), false});
  return *this;
}

PostgresValues& PostgresValues::Bytes(absl::string_view value) {
  values_.push_back({std::string(value), true});
  return *this;
}

int64_t PostgresRow::Int(int column) const {
  int64_t value = 0;
  return absl::SimpleAtoi(PQgetvalue(result_, 0, column), &value) ? value : 0;
}

std::string PostgresRow::Text(int column) const {
  return {PQgetvalue(result_, 0, column), static_cast<size_t>(PQgetlength(result_, 0, column))};
}

std::string PostgresRow::Bytes(int column) const {
  size_t size = 0;
  unsigned char* const bytes = PQunescapeBytea(
      reinterpret_cast<const unsigned char*>(PQgetvalue(result_, 0, column)), &size);
  if (bytes == nullptr) return "";
  std::string value(reinterpret_cast<const char*>(bytes), size);
  PQfreemem(bytes);
  return value;
}

void PostgresConnection::Clear::operator()(pg_result* result) const { PQclear(result); }

PostgresConnection::PostgresConnection(pg_conn* handle, absl::Duration patience)
    : handle_(handle),
      patience_(patience),
      name_(absl::StrCat("PostgreSQL database ", PQdb(handle), " at ", PQhost(handle))) {}

PostgresConnection::~PostgresConnection() { PQfinish(handle_); }

absl::StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Open(
    const Options& options) {
  WEFT_ASSIGN_OR_RETURN(const std::string password, ReadPassword(options.password_file));
  const std::string seconds =
      absl::StrCat(std::max<int64_t>(2, absl::ToInt64Seconds(options.patience)));
  // Later ones count: what stands before dbname may be set otherwise in the connection string, what
  // stands behind it may not. A silent network is noticed within the patience; of several hosts
  // the one that takes writes is meant.
  const std::array<const char*, 10> names = {"connect_timeout",
                                             "keepalives_idle",
                                             "keepalives_interval",
                                             "keepalives_count",
                                             "target_session_attrs",
                                             "dbname",
                                             "application_name",
                                             "client_encoding",
                                             password.empty() ? nullptr : "password",
                                             nullptr};
  const std::array<const char*, 10> values = {seconds.c_str(),
                                              seconds.c_str(),
                                              "2",
                                              "2",
                                              "read-write",
                                              options.target.c_str(),
                                              options.application_name.c_str(),
                                              "UTF8",
                                              password.c_str(),
                                              nullptr};
  pg_conn* const handle = PQconnectdbParams(names.data(), values.data(), /*expand_dbname=*/1);
  if (handle == nullptr) return absl::ResourceExhaustedError("no memory for libpq");
  auto connection = absl::WrapUnique(new PostgresConnection(handle, options.patience));
  if (PQstatus(handle) != CONNECTION_OK) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to PostgreSQL: ", OneLine(PQerrorMessage(handle))));
  }
  PQsetNoticeProcessor(
      handle, +[](void*, const char*) {}, nullptr);
  PQsetnonblocking(handle, 1);
  return connection;
}

absl::Status PostgresConnection::Lost(absl::string_view why) {
  lost_ = true;
  return absl::UnavailableError(absl::StrCat("lost the ", name_, ": ", why));
}

absl::Status PostgresConnection::Send(const std::string& sql, const PostgresValues& values) {
  if (lost_) return Lost("the session is over");
  // Without values the simple protocol, which takes several statements.
  int sent = 0;
  if (values.values().empty()) {
    sent = PQsendQuery(handle_, sql.c_str());
  } else {
    const Parameters parameters(values.values());
    sent = PQsendQueryParams(handle_, sql.c_str(), parameters.size(), nullptr,
                             parameters.values.data(), parameters.lengths.data(),
                             parameters.formats.data(), /*resultFormat=*/0);
  }
  return sent == 1 ? absl::OkStatus() : Lost(OneLine(PQerrorMessage(handle_)));
}

absl::Status PostgresConnection::SendCall(const char* statement, const PostgresValues& values) {
  const Parameters parameters(values.values());
  const int sent =
      PQsendQueryPrepared(handle_, statement, parameters.size(), parameters.values.data(),
                          parameters.lengths.data(), parameters.formats.data(), /*resultFormat=*/0);
  return sent == 1 ? absl::OkStatus() : Lost(OneLine(PQerrorMessage(handle_)));
}

absl::StatusOr<PostgresConnection::Result> PostgresConnection::Next() {
  const absl::Time deadline = absl::Now() + patience_;
  while (PQisBusy(handle_) == 1) {
    const int unsent = PQflush(handle_);
    if (unsent < 0) return Lost(OneLine(PQerrorMessage(handle_)));
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return Lost(absl::StrCat("no answer for ", absl::FormatDuration(patience_)));
    }
    pollfd socket = {.fd = PQsocket(handle_),
                     .events = static_cast<int16_t>(unsent == 1 ? POLLIN | POLLOUT : POLLIN),
                     .revents = 0};
    const int ready = poll(&socket, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (ready < 0 && errno != EINTR) return Lost("poll failed");
    if (ready > 0 && (socket.revents & ~POLLOUT) != 0 && PQconsumeInput(handle_) != 1) {
      return Lost(OneLine(PQerrorMessage(handle_)));
    }
  }
  return Result(PQgetResult(handle_));
}

absl::Status PostgresConnection::Drain(
    const std::function<absl::Status(const PostgresRow&)>& on_row) {
  absl::Status first;
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const Result result, Next());
    if (result == nullptr) break;
    if (PQresultStatus(result.get()) == PGRES_SINGLE_TUPLE) {
      if (first.ok() && on_row) first = on_row(PostgresRow(result.get()));
      continue;
    }
    const absl::Status status = StatusOf(result.get());
    if (first.ok()) first = status;
    if (lost_) return first;
  }
  return first;
}

absl::Status PostgresConnection::Execute(const std::string& sql) {
  WEFT_RETURN_IF_ERROR(Send(sql, {}));
  return Drain(nullptr);
}

absl::Status PostgresConnection::Query(
    const std::string& sql, const PostgresValues& values,
    const std::function<absl::Status(const PostgresRow&)>& on_row) {
  WEFT_RETURN_IF_ERROR(Send(sql, values));
  PQsetSingleRowMode(handle_);  // a large answer is never held whole
  return Drain(on_row);
}

absl::StatusOr<std::string> PostgresConnection::QueryText(const std::string& sql,
                                                          const PostgresValues& values) {
  std::string text;
  int64_t rows = 0;
  WEFT_RETURN_IF_ERROR(Query(sql, values, [&](const PostgresRow& row) {
    if (rows++ == 0) text = row.Text(0);
    return absl::OkStatus();
  }));
  if (rows == 0) return absl::DataLossError(absl::StrCat(name_, ": no answer to ", sql));
  return text;
}

absl::StatusOr<int64_t> PostgresConnection::QueryInt(const std::string& sql,
                                                     const PostgresValues& values) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, QueryText(sql, values));
  int64_t number = 0;
  if (absl::SimpleAtoi(text, &number)) return number;
  return absl::DataLossError(absl::StrCat(name_, ": no number in answer to ", sql));
}

absl::Status PostgresConnection::Prepare(const char* statement, const std::string& sql) {
  if (lost_) return Lost("the session is over");
  if (PQsendPrepare(handle_, statement, sql.c_str(), 0, nullptr) != 1) {
    return Lost(OneLine(PQerrorMessage(handle_)));
  }
  return Drain(nullptr);
}

absl::Status PostgresConnection::Run(const std::vector<PostgresCall>& calls) {
  if (lost_) return Lost("the session is over");
  if (PQenterPipelineMode(handle_) != 1) return Lost(OneLine(PQerrorMessage(handle_)));
  // BEGIN and COMMIT of our own: the answer to COMMIT says that it is durable, which the end of an
  // implicit transaction does not.
  const auto plain = [this](const char* sql) {
    return PQsendQueryParams(handle_, sql, 0, nullptr, nullptr, nullptr, nullptr, 0) == 1
               ? absl::OkStatus()
               : Lost(OneLine(PQerrorMessage(handle_)));
  };
  WEFT_RETURN_IF_ERROR(plain("BEGIN"));
  for (const PostgresCall& call : calls) {
    WEFT_RETURN_IF_ERROR(SendCall(call.statement, call.values));
  }
  WEFT_RETURN_IF_ERROR(plain("COMMIT"));
  if (PQpipelineSync(handle_) != 1) return Lost(OneLine(PQerrorMessage(handle_)));
  const absl::Status status = DrainPipeline();
  if (lost_) return status;
  if (PQexitPipelineMode(handle_) != 1) return Lost(OneLine(PQerrorMessage(handle_)));
  if (PQtransactionStatus(handle_) == PQTRANS_IDLE) return status;
  const std::string sqlstate = sqlstate_;
  WEFT_RETURN_IF_ERROR(Execute("ROLLBACK"));
  sqlstate_ = sqlstate;
  return status;
}

// Results of one statement after the other, each list ended by a null; then the sync.
absl::Status PostgresConnection::DrainPipeline() {
  absl::Status first;
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const Result result, Next());
    if (result == nullptr) continue;
    const ExecStatusType kind = PQresultStatus(result.get());
    if (kind == PGRES_PIPELINE_SYNC) return first;
    if (kind == PGRES_PIPELINE_ABORTED) continue;  // behind the first error
    const absl::Status status = StatusOf(result.get());
    if (first.ok()) first = status;
    if (lost_) return first;
  }
}

absl::Status PostgresConnection::StatusOf(const pg_result* result) {
  const ExecStatusType kind = PQresultStatus(result);
  if (kind == PGRES_COMMAND_OK || kind == PGRES_TUPLES_OK || kind == PGRES_EMPTY_QUERY) {
    return absl::OkStatus();
  }
  const char* const code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* const primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  sqlstate_ = code == nullptr ? "" : code;
  const std::string why = OneLine(primary == nullptr ? PQresultErrorMessage(result) : primary);
  // 57P0x: the server ends the session; without a code libpq itself lost it. 25006: the server has
  // become a read-only copy of another one, which a new session will find.
  if (code == nullptr || absl::StartsWith(sqlstate_, "57P") || sqlstate_ == "25006" ||
      PQstatus(handle_) != CONNECTION_OK) {
    return Lost(why);
  }
  const std::string text = absl::StrCat(name_, ": ", why, " (SQLSTATE ", sqlstate_, ")");
  if (absl::StartsWith(sqlstate_, "53")) {  // disk full, out of memory
    return absl::ResourceExhaustedError(absl::StrCat(text, "; nothing was stored"));
  }
  if (absl::StartsWith(sqlstate_, "40") || sqlstate_ == "55P03" || sqlstate_ == "57014") {
    return absl::UnavailableError(absl::StrCat(text, "; nothing was stored"));
  }
  if (absl::StartsWith(sqlstate_, "XX")) return absl::DataLossError(text);
  if (sqlstate_ == "42501") return absl::PermissionDeniedError(text);
  return absl::InternalError(text);
}

}  // namespace weft::coordinator

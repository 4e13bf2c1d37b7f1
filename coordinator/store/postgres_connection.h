// The little of PostgreSQL that the store needs: one session, whose every call has a deadline;
// batches of prepared statements in one transaction and one round trip; errors as statuses that
// name the database and never a password. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

struct pg_conn;
struct pg_result;

namespace weft::coordinator {

// Values of a statement's $1, $2, ... in order.
class PostgresValues {
 public:
  struct Value {
    std::string text;
    bool binary = false;
  };
  PostgresValues& Int(int64_t value);
  // PostgreSQL takes neither NUL nor what is not UTF-8 for text: such bytes are replaced.
  PostgresValues& Text(absl::string_view value);
  PostgresValues& Bytes(absl::string_view value);
  [[nodiscard]] const std::vector<Value>& values() const { return values_; }

 private:
  std::vector<Value> values_;
};

// A row of a result, while its callback runs. Columns from 0.
class PostgresRow {
 public:
  explicit PostgresRow(const pg_result* result) : result_(result) {}
  [[nodiscard]] int64_t Int(int column) const;
  [[nodiscard]] std::string Text(int column) const;
  [[nodiscard]] std::string Bytes(int column) const;

 private:
  const pg_result* result_;
};

// One use of a prepared statement.
struct PostgresCall {
  const char* statement;
  PostgresValues values;
};

class PostgresConnection {
 public:
  struct Options {
    std::string target;            // libpq's connection string
    std::string password_file;     // empty: as libpq finds one
    std::string application_name;  // by which other sessions see this one
    // A call without an answer for this long ends the connection.
    absl::Duration patience = absl::Seconds(5);
  };

  // kUnavailable: no such server, it does not let us in, or the password cannot be read.
  static absl::StatusOr<std::unique_ptr<PostgresConnection>> Open(const Options& options);
  ~PostgresConnection();
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  // Statements without values; several are one transaction.
  absl::Status Execute(const std::string& sql);
  absl::Status Query(const std::string& sql, const PostgresValues& values,
                     const std::function<absl::Status(const PostgresRow&)>& on_row);
  // The first column of the first row; kDataLoss when there is none.
  absl::StatusOr<std::string> QueryText(const std::string& sql, const PostgresValues& values = {});
  absl::StatusOr<int64_t> QueryInt(const std::string& sql, const PostgresValues& values = {});

  absl::Status Prepare(const char* statement, const std::string& sql);
  // All calls in one transaction, and one round trip. An error has undone all of them, unless
  // lost().
  absl::Status Run(const std::vector<PostgresCall>& calls);

  // The session is over; whether the last transaction was committed is not known.
  [[nodiscard]] bool lost() const { return lost_; }
  // Of the last error that the server reported, such as "23502".
  [[nodiscard]] const std::string& sqlstate() const { return sqlstate_; }
  // "PostgreSQL database weft at db.example".
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  struct Clear {
    void operator()(pg_result* result) const;
  };
  using Result = std::unique_ptr<pg_result, Clear>;

  PostgresConnection(pg_conn* handle, absl::Duration patience);
  absl::Status Send(const std::string& sql, const PostgresValues& values);
  absl::Status SendCall(const char* statement, const PostgresValues& values);
  // The next result, null when there is none left of the present statement.
  absl::StatusOr<Result> Next();
  // Reads the present statement's results to their end; the first error.
  absl::Status Drain(const std::function<absl::Status(const PostgresRow&)>& on_row);
  absl::Status DrainPipeline();
  absl::Status StatusOf(const pg_result* result);
  absl::Status Lost(absl::string_view why);

  pg_conn* const handle_;
  const absl::Duration patience_;
  std::string name_;
  std::string sqlstate_;
  bool lost_ = false;
};

}  // namespace weft::coordinator

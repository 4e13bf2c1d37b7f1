// The little of SQLite that the store needs: one connection, prepared statements, errors as
// statuses that name the file. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace weft::coordinator {

// A prepared statement. Bind in order, then Step() through the rows, then Reset().
class SqliteStatement {
 public:
  SqliteStatement(SqliteStatement&&) noexcept = default;
  SqliteStatement& operator=(SqliteStatement&&) noexcept = default;

  SqliteStatement& BindInt(int64_t value);
  SqliteStatement& BindText(absl::string_view value);
  SqliteStatement& BindBlob(absl::string_view value);
  // True: there is a row to read. False: done.
  absl::StatusOr<bool> Step();
  // Runs it to its end, and makes it ready for the next use.
  absl::Status Run();
  void Reset();

  // Of the present row, by column from 0.
  [[nodiscard]] int64_t Int(int column) const;
  [[nodiscard]] std::string Text(int column) const;

 private:
  friend class SqliteConnection;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  SqliteStatement(class SqliteConnection* connection, sqlite3_stmt* statement)
      : connection_(connection), statement_(statement) {}

  class SqliteConnection* connection_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
  int bind_error_ = 0;
};

class SqliteConnection {
 public:
  // Creates the file when there is none.
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& path);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  absl::Status Execute(const std::string& sql);
  absl::StatusOr<SqliteStatement> Prepare(absl::string_view sql);
  // The first column of the first row, as an integer.
  absl::StatusOr<int64_t> QueryInt(const std::string& sql);
  absl::StatusOr<std::string> QueryText(const std::string& sql);

  [[nodiscard]] const std::string& path() const { return path_; }

  // kResourceExhausted: full disk or limit; kUnavailable: busy, or a write that failed and changed
  // nothing; kDataLoss: damaged, or a failed sync, after which nobody knows what is on disk;
  // kFailedPrecondition: may not be opened or written; kInternal: anything else.
  [[nodiscard]] absl::Status StatusOf(int code) const;

 private:
  SqliteConnection(std::string path, sqlite3* handle);

  const std::string path_;
  sqlite3* const handle_;
};

}  // namespace weft::coordinator

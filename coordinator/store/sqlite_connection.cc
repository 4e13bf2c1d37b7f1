#include "coordinator/store/sqlite_connection.h"

#include <sqlite3.h>

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::coordinator {

void SqliteStatement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

SqliteStatement& SqliteStatement::BindInt(int64_t value) {
  bind_error_ |= sqlite3_bind_int64(statement_.get(), ++bound_, value);
  return *this;
}

SqliteStatement& SqliteStatement::BindText(absl::string_view value) {
  // A view of nothing must not become NULL.
  bind_error_ |=
      sqlite3_bind_text64(statement_.get(), ++bound_, value.data() == nullptr ? "" : value.data(),
                          value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}

SqliteStatement& SqliteStatement::BindBlob(absl::string_view value) {
  bind_error_ |=
      sqlite3_bind_blob64(statement_.get(), ++bound_, value.data() == nullptr ? "" : value.data(),
                          value.size(), SQLITE_TRANSIENT);
  return *this;
}

absl::StatusOr<bool> SqliteStatement::Step() {
  if (bind_error_ != SQLITE_OK) return connection_->StatusOf(bind_error_);
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const absl::Status status = connection_->StatusOf(code);
  Reset();
  return status;
}

absl::Status SqliteStatement::Run() {
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) break;
  }
  Reset();
  return absl::OkStatus();
}

void SqliteStatement::Reset() {
  sqlite3_reset(statement_.get());
  bound_ = 0;
  bind_error_ = SQLITE_OK;
}

int64_t SqliteStatement::Int(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string SqliteStatement::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  if (bytes == nullptr) return "";
  return std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

SqliteConnection::SqliteConnection(std::string path, sqlite3* handle)
    : path_(std::move(path)), handle_(handle) {}

SqliteConnection::~SqliteConnection() { sqlite3_close_v2(handle_); }

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path) {
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr) return absl::ResourceExhaustedError("no memory for SQLite");
  auto connection = absl::WrapUnique(new SqliteConnection(path, handle));
  if (code != SQLITE_OK) return connection->StatusOf(code);
  sqlite3_extended_result_codes(handle, 1);
  return connection;
}

absl::Status SqliteConnection::Execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : StatusOf(code);
}

absl::StatusOr<SqliteStatement> SqliteConnection::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return StatusOf(code);
  return SqliteStatement(this, statement);
}

absl::StatusOr<int64_t> SqliteConnection::QueryInt(const std::string& sql) {
  WEFT_ASSIGN_OR_RETURN(SqliteStatement statement, Prepare(sql));
  WEFT_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return absl::DataLossError(absl::StrCat(path_, ": no answer to ", sql));
  return statement.Int(0);
}

absl::StatusOr<std::string> SqliteConnection::QueryText(const std::string& sql) {
  WEFT_ASSIGN_OR_RETURN(SqliteStatement statement, Prepare(sql));
  WEFT_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return absl::DataLossError(absl::StrCat(path_, ": no answer to ", sql));
  return statement.Text(0);
}

absl::Status SqliteConnection::StatusOf(int code) const {
  const std::string text = absl::StrCat(path_, ": ", sqlite3_errmsg(handle_));
  switch (code) {
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_DIR_FSYNC:
      return absl::DataLossError(absl::StrCat(path_, ": the disk did not confirm a write"));
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_TRUNCATE:
      return absl::UnavailableError(absl::StrCat(text, " (a write failed; nothing was stored)"));
    default:
      break;
  }
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(
          path_, ": the disk is full, or the file is at its limit; nothing was stored"));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(absl::StrCat(text, " (another program holds it)"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(absl::StrCat(text, "; restore it from a copy"));
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return absl::FailedPreconditionError(text);
    default:
      return absl::InternalError(absl::StrCat(text, " (SQLite code ", code, ")"));
  }
}

}  // namespace weft::coordinator

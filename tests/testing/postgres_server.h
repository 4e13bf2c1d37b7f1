// A real PostgreSQL server for the time of an object: its own data folder, on a Unix socket, as a
// user without rights when the test runs as root (PostgreSQL refuses root). A machine without the
// server fails the test, and says which package is missing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/process/process_supervisor.h"
#include "tests/testing/temp_dir.h"

namespace weft::testing {

class PostgresServer {
 public:
  // Whether what is committed outlives a crash of the machine: as PostgreSQL is shipped, and too
  // slow for tests.
  enum class Sync { kOff, kOn };

  explicit PostgresServer(Sync sync = Sync::kOff);  // takes a second or two
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  // libpq's connection string of a new and empty database.
  std::string NewDatabase(const std::string& encoding = "UTF8");
  // Ends the server as a crash would, unless it has ended already; Start brings it back with what
  // was committed. A disk that is behind with its writing makes both take long.
  void Kill();
  void Start();

 private:
  void Launch();
  [[nodiscard]] bool IsReady() const;
  [[nodiscard]] std::string Said() const;  // by the server that was started last
  // Runs a program of PostgreSQL's to its end; ends the process when it fails.
  void RunToEnd(const std::string& program, std::vector<std::string> arguments);
  // How a program of the server's is started: as the user that owns the folder.
  [[nodiscard]] ChildOptions AsOwner(const std::string& program,
                                     std::vector<std::string> arguments) const;
  [[nodiscard]] std::string data() const { return (directory_.path() / "data").string(); }

  const Sync sync_;
  const TempDir directory_;
  std::string programs_;
  int databases_ = 0;
  ChildId server_;
  // Of the server that was started last, and what it said. The supervisor's thread uses them.
  struct Life {
    absl::Notification ended;
    absl::Mutex mutex;
    std::string said ABSL_GUARDED_BY(mutex);
  };
  std::shared_ptr<Life> life_;
  std::unique_ptr<ProcessSupervisor> supervisor_;
};

// One server for the whole program, started when first asked for: each test takes a database of its
// own.
PostgresServer& SharedPostgresServer();

}  // namespace weft::testing

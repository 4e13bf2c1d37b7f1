#include "tests/testing/postgres_server.h"

#include <pwd.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "tests/testing/await.h"

namespace weft::testing {
namespace {

constexpr char kRoot[] = "/usr/lib/postgresql";  // where Debian has it: VERSION/bin
constexpr char kUser[] = "weft";                 // of the database
constexpr absl::Duration kPatience = absl::Minutes(1);

std::string FindPrograms() {
  std::string newest;
  std::error_code error;
  for (const auto& version : std::filesystem::directory_iterator(kRoot, error)) {
    const std::string programs = (version.path() / "bin").string();
    if (std::filesystem::exists(programs + "/initdb", error)) newest = std::max(newest, programs);
  }
  WEFT_CHECK_MSG(!newest.empty(), absl::StrCat("this test needs a PostgreSQL server, and ", kRoot,
                                               " has none (Debian: postgresql)"));
  return newest;
}

}  // namespace

PostgresServer::PostgresServer(Sync sync) : sync_(sync), programs_(FindPrograms()) {
  auto supervisor = ProcessSupervisor::Create();
  WEFT_CHECK_MSG(supervisor.ok(), supervisor.status().ToString());
  supervisor_ = *std::move(supervisor);
  if (geteuid() == 0) {
    const passwd* const nobody = getpwnam("nobody");  // NOLINT(concurrency-mt-unsafe): one thread
    WEFT_CHECK(nobody != nullptr);
    WEFT_CHECK(chown(directory_.path().c_str(), nobody->pw_uid, nobody->pw_gid) == 0);
  }
  RunToEnd("initdb", {"--pgdata", data(), "--username", kUser, "--auth", "trust", "--locale", "C",
                      "--encoding", "UTF8", "--no-sync", "--no-instructions"});
  Start();
}

PostgresServer::~PostgresServer() { Kill(); }

ChildOptions PostgresServer::AsOwner(const std::string& program,
                                     std::vector<std::string> arguments) const {
  ChildOptions options;
  const std::string path = absl::StrCat(programs_, "/", program);
  options.program = path;
  std::vector<std::string> command = {path};
  if (geteuid() == 0) {
    options.program = "/usr/bin/setpriv";
    command = {"setpriv",        "--reuid",     "nobody", "--regid", "nogroup",
               "--clear-groups", "--pdeathsig", "KILL",   path};
  }
  command.insert(command.end(), arguments.begin(), arguments.end());
  options.arguments = std::move(command);
  options.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C"};
  options.directory = directory_.path().string();
  return options;
}

void PostgresServer::RunToEnd(const std::string& program, std::vector<std::string> arguments) {
  absl::Notification ended;
  ExitStatus exit;
  std::string output;  // complete when the program has ended
  ChildCallbacks callbacks;
  callbacks.on_output = [&output](OutputStream, absl::string_view text) {
    absl::StrAppend(&output, text);
  };
  callbacks.on_exit = [&](ExitStatus status) {
    exit = status;
    ended.Notify();
  };
  const auto child =
      supervisor_->Spawn(AsOwner(program, std::move(arguments)), std::move(callbacks));
  WEFT_CHECK_MSG(child.ok(), child.status().ToString());
  ended.WaitForNotification();
  WEFT_CHECK_MSG(exit.ok(), absl::StrCat(program, " ", exit.ToString(), ": ", output));
}

void PostgresServer::Start() {
  WEFT_CHECK(life_ == nullptr || life_->ended.HasBeenNotified());
  // For a moment, processes of a server that was killed hold on to its shared memory.
  const absl::Time deadline = absl::Now() + kPatience;
  do {
    Launch();
    Await([this] { return IsReady() || life_->ended.HasBeenNotified(); }, kPatience);
  } while (absl::StrContains(Said(), "is still in use") && absl::Now() < deadline);
  WEFT_CHECK_MSG(IsReady(), absl::StrCat("the PostgreSQL server did not start: ", Said()));
}

bool PostgresServer::IsReady() const {
  if (life_->ended.HasBeenNotified()) return false;
  std::ifstream file(data() + "/postmaster.pid");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return absl::StrContains(text, "\nready");
}

std::string PostgresServer::Said() const {
  const absl::MutexLock lock(&life_->mutex);
  return life_->said;
}

void PostgresServer::Launch() {
  const std::string socket_folder = directory_.path().string();
  life_ = std::make_shared<Life>();
  ChildCallbacks callbacks;
  callbacks.on_output = [life = life_](OutputStream, absl::string_view text) {
    const absl::MutexLock lock(&life->mutex);
    absl::StrAppend(&life->said, text);
  };
  callbacks.on_exit = [life = life_](ExitStatus) { life->ended.Notify(); };
  auto child = supervisor_->Spawn(
      AsOwner("postgres", {"-D", data(), "-k", socket_folder, "-c", "listen_addresses=", "-c",
                           "shared_buffers=16MB", "-c", "max_connections=40", "-c",
                           sync_ == Sync::kOn ? "fsync=on" : "fsync=off"}),
      std::move(callbacks));
  WEFT_CHECK_MSG(child.ok(), child.status().ToString());
  server_ = *child;
}

void PostgresServer::Kill() {
  supervisor_->Signal(server_, SIGQUIT);  // no checkpoint, no farewell
  // Its processes may be in the middle of writes that only the disk can end, so that it may wait
  // for them without being at fault. Without patience: they notice that it is gone.
  if (!life_->ended.WaitForNotificationWithTimeout(kPatience)) {
    supervisor_->Signal(server_, SIGKILL);
    life_->ended.WaitForNotification();
  }
  std::error_code ignored;
  std::filesystem::remove(data() + "/postmaster.pid", ignored);
}

std::string PostgresServer::NewDatabase(const std::string& encoding) {
  const std::string name = absl::StrCat("test", ++databases_);
  RunToEnd("createdb", {"--host", directory_.path().string(), "--username", kUser, "--template",
                        "template0", "--encoding", encoding, name});
  return absl::StrCat("host=", directory_.path().string(), " dbname=", name, " user=", kUser);
}

PostgresServer& SharedPostgresServer() {
  static PostgresServer server;
  return server;
}

}  // namespace weft::testing

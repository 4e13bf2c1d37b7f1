// weft-coordinator: the control plane. See --help.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/exit_codes.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/file_system.h"
#include "common/log/log.h"
#include "common/rpc/tls_credentials.h"
#include "coordinator/archive/postgres_step_history.h"
#include "coordinator/service/announcement.h"
#include "coordinator/service/config.h"
#include "coordinator/service/coordinator_server.h"
#include "coordinator/store/postgres_election.h"
#include "coordinator/store/sqlite_job_store.h"

namespace weft::coordinator {
namespace {

// By which the server says that it has stepped down.
constexpr int kSteppedDown = SIGUSR1;

// Signals that end the program, in an orderly way. Blocked in every thread, taken by sigwait in the
// first.
sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Waits; false when the program is told to end.
bool Pause(absl::Duration duration) {
  const sigset_t signals = EndSignals();
  const timespec limit = absl::ToTimespec(duration);
  return sigtimedwait(&signals, nullptr, &limit) < 0;
}

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

// Defaults < file < environment < flags.
absl::StatusOr<CoordinatorConfig> Configure(const std::string& file, ConfigSource flags) {
  // Read once, before any other thread exists.
  const Environment environment = [](const char* name) {
    return std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  };
  std::vector<ConfigSource> sources = {DefaultsFor(environment)};
  if (!file.empty()) {
    WEFT_ASSIGN_OR_RETURN(const std::string text, ReadFile(RealFileSystem(), file, 1 << 20));
    WEFT_ASSIGN_OR_RETURN(ConfigSource source, ParseConfigFile(file, text));
    sources.push_back(std::move(source));
  }
  sources.push_back(ReadEnvironment(environment));
  sources.push_back(std::move(flags));
  return MakeConfig(sources);
}

// The configuration, or the exit code when all has been said (--help, --version, wrong usage).
std::variant<CoordinatorConfig, int> ReadCommandLine(int argc, char** argv) {
  CLI::App app("The control plane of Weft: takes jobs, schedules them on workers, serves its API.",
               "weft-coordinator");
  std::string config_file;
  bool print_config = false;
  app.add_option("--config", config_file, "YAML file with a line 'setting: value' for each setting")
      ->envname("WEFT_COORDINATOR_CONFIG");
  app.add_flag("--print-config", print_config, "Print the effective configuration and end");
  app.set_version_flag("--version", "weft-coordinator " WEFT_VERSION " (" WEFT_PARTS ")");
  ConfigSource flags;
  flags.origin = "the command line";
  std::map<std::string, std::string> texts;
  for (const SettingText& setting : AllSettings()) {
    const std::string flag = absl::StrCat("--", absl::StrReplaceAll(setting.name, {{"_", "-"}}));
    app.add_option(
           flag, texts[setting.name],
           absl::StrCat(setting.help, setting.value.empty() ? "" : " [", setting.value,
                        setting.value.empty() ? "" : "]", "  (", VariableOf(setting.name), ")"))
        ->type_name("");
  }
  try {  // CLI11 speaks in exceptions
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? kExitOk : kExitUsage;
  }
  for (const auto& [name, text] : texts) {
    const std::string flag = absl::StrCat("--", absl::StrReplaceAll(name, {{"_", "-"}}));
    if (app.count(flag) > 0) flags.values.emplace_back(name, text);
  }
  absl::StatusOr<CoordinatorConfig> config = Configure(config_file, std::move(flags));
  if (!config.ok()) {
    std::cerr << "weft-coordinator: " << config.status().message() << "\n";
    return kExitUsage;
  }
  if (!config->postgres.empty()) {
    if (const absl::Status status = CheckPostgresTarget(config->postgres); !status.ok()) {
      std::cerr << "weft-coordinator: postgres: " << status.message() << "\n";
      return kExitUsage;
    }
  }
  if (print_config) {
    std::cout << ToYaml(*config);
    return kExitOk;
  }
  return *std::move(config);
}

// A file that is missing from the start is a mistake to tell of; later, another one may be on its
// way.
absl::Status CheckPasswordFile(const CoordinatorConfig& config) {
  if (config.postgres_password_file.empty()) return absl::OkStatus();
  return ReadFile(RealFileSystem(), config.postgres_password_file, /*max_bytes=*/1 << 16).status();
}

PostgresOptions DatabaseOf(const CoordinatorConfig& config) {
  PostgresOptions options;
  options.target = config.postgres;
  options.holder = HostName();
  options.password_file = config.postgres_password_file;
  options.lease = config.leader_lease;
  return options;
}

// How jobs are found, and where the steps are kept, which is beside them.
absl::StatusOr<CoordinatorServer::FindStore> ChooseStore(const CoordinatorConfig& config,
                                                         CoordinatorServer::Options& options) {
  if (config.postgres.empty()) {
    // At once, before anything else: a second coordinator on the folder must not take any port.
    WEFT_ASSIGN_OR_RETURN(auto store, SqliteJobStore::Open(config.state_dir));
    return CoordinatorServer::FindStore(
        [opened = std::unique_ptr<JobStore>(std::move(store))](
            const CoordinatorServer::Tell&) mutable { return std::move(opened); });
  }
  const PostgresOptions database = DatabaseOf(config);
  options.open_steps = [database](StepHistory::Options steps) {
    return OpenPostgresStepHistory(database, steps);
  };
  return CoordinatorServer::FindStore([database](const CoordinatorServer::Tell& tell) {
    return AwaitLeadership(database, {.pause = Pause, .tell = tell});
  });
}

// Until a signal, or until it has stepped down: that status.
absl::Status Serve(const CoordinatorConfig& config) {
  CoordinatorServer::Options options;
  WEFT_ASSIGN_OR_RETURN(options.credentials, NewServerCredentials(config.tls));
  options.certificate = config.tls.cert;
  WEFT_RETURN_IF_ERROR(RealFileSystem().CreateDirectories(config.state_dir));
  WEFT_RETURN_IF_ERROR(RealFileSystem().CreateDirectories(config.checkpoint_root));
  WEFT_ASSIGN_OR_RETURN(auto find, ChooseStore(config, options));
  absl::Status stepped_down;  // written before the signal below, read after it
  options.state_directory = config.state_dir;
  options.log_directory = config.log_root;
  options.listen = config.listen;
  options.metrics_listen = config.metrics_listen;
  options.checkpoint_root = config.checkpoint_root;
  options.version = WEFT_VERSION;
  options.policy = config.policy;
  options.log_bytes_per_job = config.log_megabytes_per_job << 20;
  options.steps_kept_per_job = config.steps_kept_per_job;
  options.hang_timeout = config.hang_timeout;
  options.stepped_down = [&stepped_down](const absl::Status& why) {
    stepped_down = why;
    kill(getpid(), kSteppedDown);
  };
  WEFT_ASSIGN_OR_RETURN(const auto server,
                        CoordinatorServer::Start(std::move(options), std::move(find)));
  WEFT_ASSIGN_OR_RETURN(const Announcement announcement,
                        Announcement::Write(config.state_dir, server->address(),
                                            server->metrics_address(), WEFT_VERSION));
  malloc_trim(0);  // what loading has needed
  LogInfo("coordinator", "serves",
          {{"address", server->address()},
           {"tls", config.tls.empty()      ? "no"
                   : config.tls.ca.empty() ? "yes"
                                           : "mutual"},
           {"metrics", server->metrics_address()}});
  sigset_t signals = EndSignals();
  sigaddset(&signals, kSteppedDown);
  int signal = 0;
  sigwait(&signals, &signal);
  if (signal == kSteppedDown) {
    LogError("coordinator", "steps down", {{"why", stepped_down.message()}});
  } else {
    LogInfo("coordinator", "stops", {{"signal", signal == SIGINT ? "SIGINT" : "SIGTERM"}});
  }
  server->Stop();
  return signal == kSteppedDown ? stepped_down : absl::OkStatus();
}

// Where coordinators share a database, one that has lost leadership stands by again.
absl::Status ServeAndStandBy(const CoordinatorConfig& config) {
  while (true) {
    absl::Status status = Serve(config);
    if (absl::IsCancelled(status)) return absl::OkStatus();  // told to end while it stood by
    if (config.postgres.empty() || !absl::IsAborted(status)) return status;
    if (!Pause(absl::Seconds(1))) return absl::OkStatus();
  }
}

int Main(int argc, char** argv) {
  // A thread's own heap costs megabytes and gains nothing here: the loop does nearly all the work.
  mallopt(M_ARENA_MAX, 2);   // NOLINT(concurrency-mt-unsafe): there is one thread yet
  signal(SIGPIPE, SIG_IGN);  // NOLINT(concurrency-mt-unsafe): there is one thread yet
  sigset_t signals = EndSignals();
  sigaddset(&signals, kSteppedDown);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::variant<CoordinatorConfig, int> read = ReadCommandLine(argc, argv);
  if (const int* code = std::get_if<int>(&read); code != nullptr) return *code;
  const auto& config = std::get<CoordinatorConfig>(read);
  SetLogLevel(config.log_level).IgnoreError();  // checked with the rest
  LogInfo("coordinator", "starts", {{"version", WEFT_VERSION}});
  for (const absl::string_view line : absl::StrSplit(ToYaml(config), '\n', absl::SkipEmpty())) {
    LogInfo("config", line);
  }
  absl::Status status = CheckPasswordFile(config);
  if (status.ok()) status = ServeAndStandBy(config);
  if (status.ok()) return kExitOk;
  std::cerr << "weft-coordinator: " << status.message() << "\n";
  return absl::IsFailedPrecondition(status) || absl::IsAborted(status) ? kExitConflict : kExitError;
}

}  // namespace
}  // namespace weft::coordinator

int main(int argc, char** argv) { return weft::coordinator::Main(argc, argv); }

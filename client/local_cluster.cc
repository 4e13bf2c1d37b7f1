#include "client/local_cluster.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/programs.h"
#include "client/session.h"
#include "common/base/exit_codes.h"
#include "common/base/status_macros.h"
#include "weft/v1/worker.grpc.pb.h"

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX names it so

namespace weft::client {
namespace {

constexpr size_t kTailBytes = 2000;
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr absl::Duration kStartLimit = absl::Seconds(30);

// Ours, without what it says of TLS: a local cluster speaks over loopback alone, not encrypted.
std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view variable(*entry);
    if (absl::StartsWith(variable, "WEFT_COORDINATOR_TLS_") ||
        absl::StartsWith(variable, "WEFT_WORKER_TLS_")) {
      continue;
    }
    environment.emplace_back(*entry);
  }
  return environment;
}

}  // namespace

std::string LastWords(absl::string_view program, absl::string_view output) {
  output = absl::StripAsciiWhitespace(output);
  const std::string name = absl::StrCat(program, ": ");
  const size_t said = absl::StartsWith(output, name) ? 0 : output.rfind(absl::StrCat("\n", name));
  if (said == absl::string_view::npos) {
    const size_t line_end = output.rfind('\n');
    return std::string(output.substr(line_end == absl::string_view::npos ? 0 : line_end + 1));
  }
  return std::string(absl::StripPrefix(absl::StripPrefix(output.substr(said), "\n"), name));
}

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(
    const LocalClusterOptions& options) {
  std::error_code error;
  std::filesystem::create_directories(options.state_directory / "logs", error);
  if (error) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot create ", options.state_directory.string(), ": ", error.message()));
  }
  WEFT_ASSIGN_OR_RETURN(auto supervisor, ProcessSupervisor::Create());
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(options, std::move(supervisor)));
  WEFT_RETURN_IF_ERROR(cluster->StartAll());
  return cluster;
}

LocalCluster::LocalCluster(const LocalClusterOptions& options,
                           std::unique_ptr<ProcessSupervisor> supervisor)
    : options_(options), supervisor_(std::move(supervisor)) {
  processes_.push_back(std::make_unique<Process>(MakeCoordinator()));
  for (int i = 1; i <= options_.workers; ++i) {
    processes_.push_back(std::make_unique<Process>(MakeWorker(i)));
  }
}

LocalCluster::~LocalCluster() { Stop(absl::ZeroDuration()); }

LocalCluster::Process LocalCluster::MakeCoordinator() const {
  Process process;
  process.name = "coordinator";
  process.options.program = ProgramPath("weft-coordinator");
  process.options.arguments = {"weft-coordinator",
                               "--state-dir",
                               options_.state_directory.string(),
                               "--listen",
                               options_.listen,
                               "--metrics-listen",
                               absl::StrCat(options_.metrics_host, ":", options_.metrics_port)};
  return process;
}

LocalCluster::Process LocalCluster::MakeWorker(int index) const {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int threads = options_.threads_per_worker > 0 ? options_.threads_per_worker
                                                      : std::max(1, cores / options_.workers);
  const int port = options_.metrics_port == 0 ? 0 : options_.metrics_port + index;
  Process process;
  process.name = absl::StrCat("w", index);
  process.options.program = ProgramPath("weft-worker");
  process.options.arguments = {"weft-worker",
                               "--coordinator-file",
                               (options_.state_directory / "coordinator.json").string(),
                               "--name",
                               process.name,
                               "--state-dir",
                               (options_.state_directory / "workers" / process.name).string(),
                               "--threads",
                               absl::StrCat(threads),
                               "--metrics-listen",
                               absl::StrCat(options_.metrics_host, ":", port)};
  return process;
}

absl::Status LocalCluster::StartAll() {
  const absl::Time deadline = absl::Now() + kStartLimit;
  WEFT_RETURN_IF_ERROR(Spawn(*processes_.front()));
  WEFT_RETURN_IF_ERROR(AwaitCoordinator(deadline));
  for (size_t i = 1; i < processes_.size(); ++i) WEFT_RETURN_IF_ERROR(Spawn(*processes_[i]));
  return AwaitWorkers(deadline);
}

absl::Status LocalCluster::Spawn(Process& process) {
  process.options.environment = OwnEnvironment();
  const std::filesystem::path log = options_.state_directory / "logs" / (process.name + ".log");
  ChildCallbacks callbacks;
  callbacks.on_output = [this, &process, log](OutputStream, absl::string_view text) {
    std::ofstream(log, std::ios::app | std::ios::binary) << text;
    const absl::MutexLock lock(&mutex_);
    absl::StrAppend(&process.tail, text);
    if (process.tail.size() > kTailBytes) {
      process.tail.erase(0, process.tail.size() - kTailBytes);
    }
  };
  callbacks.on_exit = [this, &process](ExitStatus status) {
    const absl::MutexLock lock(&mutex_);
    process.running = false;
    process.exit = status;
  };
  {
    const absl::MutexLock lock(&mutex_);
    process.running = true;
    process.tail.clear();
  }
  absl::StatusOr<ChildId> child = supervisor_->Spawn(process.options, std::move(callbacks));
  if (!child.ok()) {
    const absl::MutexLock lock(&mutex_);
    process.running = false;
    return child.status();
  }
  process.child = *child;
  return absl::OkStatus();
}

bool LocalCluster::IsRunning(const Process& process) {
  const absl::MutexLock lock(&mutex_);
  return process.running;
}

absl::Status LocalCluster::Died(const Process& process) {
  const absl::MutexLock lock(&mutex_);
  const std::string& program = process.options.arguments.front();
  const std::string words = LastWords(program, process.tail);
  if (process.exit.code == 0 || words.empty()) {  // a signal leaves no time to say why
    return absl::InternalError(absl::StrCat(
        "the ", process.name, " ", process.exit.ToString(),
        words.empty() ? "" : "; the last line of its log: ",
        words.substr(words.rfind('\n') + 1)));  // all of it without a line's end: npos + 1 is 0
  }
  switch (process.exit.code) {
    case kExitConflict:
      return absl::FailedPreconditionError(words);
    case kExitUsage:
      return absl::InvalidArgumentError(words);
    default:
      return absl::InternalError(words);
  }
}

absl::Status LocalCluster::AwaitCoordinator(absl::Time deadline) {
  const Process& coordinator = *processes_.front();
  while (absl::Now() < deadline) {
    if (!IsRunning(coordinator)) return Died(coordinator);
    std::ifstream file(options_.state_directory / "coordinator.json");
    const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    // The file of an earlier coordinator that was killed names another process.
    if (json.is_object() && json.value("pid", 0) == supervisor_->PidOf(coordinator.child)) {
      address_ = json.value("address", "");
      return absl::OkStatus();
    }
    absl::SleepFor(kPoll);
  }
  return absl::UnavailableError("the coordinator did not serve in time");
}

absl::Status LocalCluster::AwaitWorkers(absl::Time deadline) {
  Session session;
  session.UseLocal(address_);
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::WorkerService::NewStub(channel);
  while (absl::Now() < deadline) {
    for (const auto& process : processes_) {
      if (!IsRunning(*process)) return Died(*process);
    }
    const auto listed =
        session.Call(&v1::WorkerService::Stub::ListWorkers, *stub, v1::ListWorkersRequest());
    if (listed.ok()) {
      const auto ready = std::count_if(
          listed->workers().begin(), listed->workers().end(),
          [](const v1::Worker& worker) { return worker.state() != v1::Worker::STATE_LOST; });
      if (ready >= options_.workers) return absl::OkStatus();
    }
    absl::SleepFor(kPoll);
  }
  return absl::UnavailableError(absl::StrCat("the workers did not join in time; see ",
                                             (options_.state_directory / "logs").string()));
}

absl::Status LocalCluster::Revive() {
  for (const auto& process : processes_) {
    if (IsRunning(*process)) continue;
    std::cerr << "weft: " << Died(*process).message() << "\nweft: starting the " << process->name
              << " again\n";
    WEFT_RETURN_IF_ERROR(Spawn(*process));
  }
  return absl::OkStatus();
}

void LocalCluster::AwaitEnd(const std::vector<Process*>& processes, absl::Time deadline) {
  const auto all_ended = [&] {
    return std::none_of(processes.begin(), processes.end(),
                        [this](const Process* process) { return IsRunning(*process); });
  };
  while (!all_ended() && absl::Now() < deadline) absl::SleepFor(kPoll);
  for (const Process* process : processes) {
    if (IsRunning(*process)) supervisor_->Signal(process->child, SIGKILL);
  }
  const absl::Time killed_by = absl::Now() + absl::Seconds(5);
  while (!all_ended() && absl::Now() < killed_by) absl::SleepFor(kPoll);
}

void LocalCluster::Stop(absl::Duration grace) {
  std::vector<Process*> workers;
  for (size_t i = 1; i < processes_.size(); ++i) workers.push_back(processes_[i].get());
  Process* coordinator = processes_.front().get();
  const absl::Time deadline = absl::Now() + grace;
  for (const Process* worker : workers) {
    if (IsRunning(*worker)) supervisor_->Signal(worker->child, SIGTERM);
  }
  AwaitEnd(workers, deadline);
  if (IsRunning(*coordinator)) supervisor_->Signal(coordinator->child, SIGTERM);
  AwaitEnd({coordinator}, absl::Now() + std::min(grace, absl::Seconds(5)));
}

}  // namespace weft::client

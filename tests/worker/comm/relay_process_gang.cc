#include "tests/worker/comm/relay_process_gang.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::testing {
namespace {

namespace fs = std::filesystem;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets any
  return value == nullptr ? "" : value;
}

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> all;
  for (char** variable = environ; *variable != nullptr; ++variable) all.emplace_back(*variable);
  return all;
}

std::string ReadWhole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Calls `use` with the pid, the environment and the command line of every process.
template <typename Use>
void ForEachProcess(const Use& use) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const std::string environment =
        absl::StrCat(std::string(1, '\0'), ReadWhole(entry.path() / "environ"));
    use(static_cast<pid_t>(pid), environment, ReadWhole(entry.path() / "cmdline"));
  }
}

// One variable as it stands in /proc/PID/environ.
std::string Needle(absl::string_view name, absl::string_view value) {
  return absl::StrCat(std::string(1, '\0'), name, "=", value, std::string(1, '\0'));
}

}  // namespace

worker::RelayPrograms RequireRelayPrograms() {
  const auto programs = worker::FindRelayPrograms(Variable("WEFT_BIN_DIR"), Variable("PATH"));
  WEFT_CHECK_MSG(programs.ok(), programs.status().ToString());
  return *programs;
}

std::vector<pid_t> ProcessesWithVariable(const std::string& beginning) {
  std::vector<pid_t> all;
  ForEachProcess([&](pid_t pid, const std::string& environment, const std::string& /*command*/) {
    if (absl::StrContains(environment, absl::StrCat(std::string(1, '\0'), beginning))) {
      all.push_back(pid);
    }
  });
  return all;
}

RelayProcessGang::RelayProcessGang(std::vector<int> hosts)
    : hosts_(std::move(hosts)), environment_(OwnEnvironment()) {
  worker::RelayLauncherOptions options;
  options.programs = RequireRelayPrograms();
  options.agent_socket = (scratch_.path() / "agent.sock").string();
  options.scratch = scratch_.path();
  options.interfaces = "lo";
  launcher_.emplace(options);
  auto server = worker::RemoteShellServer::Listen(
      options.agent_socket, {[this](auto session, auto request) { OnRequest(session, request); },
                             [this](auto session) { OnHangup(session); }});
  WEFT_CHECK_MSG(server.ok(), server.status().ToString());
  server_ = *std::move(server);
  const int ranks = std::accumulate(hosts_.begin(), hosts_.end(), 0);
  for (int rank = 0; rank < ranks; ++rank) {
    exchanges_.push_back(std::make_unique<worker::RelayExchange>());
  }
}

RelayProcessGang::~RelayProcessGang() {
  EndGeneration();
  server_ = nullptr;
}

pid_t RelayProcessGang::Spawn(const worker::CommandLine& line) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (Variable("WEFT_TEST_SHOW_MPI").empty()) {
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  }
  posix_spawn_file_actions_addchdir_np(&actions, line.working_directory.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<char*> arguments;
  for (const std::string& word : line.arguments)
    arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& one : line.environment)
    variables.push_back(const_cast<char*>(one.c_str()));
  variables.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawn(&child, line.program.c_str(), &actions, &attributes,
                                arguments.data(), variables.data());
  WEFT_CHECK_MSG(error == 0, absl::StrCat("cannot start ", line.program, ": error ", error));
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return child;
}

void RelayProcessGang::StartGeneration(int64_t generation) {
  EndGeneration();
  gang_ = {"contract", worker::Generation(generation), hosts(),
           absl::StrCat("token-", getpid(), "-", generation)};
  int first_rank = 0;
  for (int host = 0; host < hosts(); ++host) {
    worker::RelaySiteOptions options;
    options.job = gang_.job;
    options.generation = gang_.generation;
    options.host = host;
    options.hosts = hosts();
    options.first_rank = first_rank;
    options.local_ranks = hosts_[static_cast<size_t>(host)];
    options.ranks = ranks();
    options.relay_program = RequireRelayPrograms().relay;
    options.scratch = scratch_.path();
    first_rank += options.local_ranks;
    auto site = worker::RelaySite::Create(options);
    WEFT_CHECK_MSG(site.ok(), site.status().ToString());
    channels_.push_back((*site)->channel_name());
    sites_.push_back(*std::move(site));
  }
  const auto line = launcher_->Mpirun(gang_, environment_);
  WEFT_CHECK_MSG(line.ok(), line.status().ToString());
  mpirun_ = Spawn(*line);
  absl::MutexLock lock(&mutex_);
  waiters_.emplace_back([this, child = mpirun_] {
    int status = 0;
    waitpid(child, &status, 0);
    AbortSites(absl::UnavailableError(absl::StrCat("mpirun has ended, status ", status)));
  });
}

void RelayProcessGang::OnRequest(worker::RemoteShellServer::Session session,
                                 worker::RemoteShellRequest request) {
  if (requests_ == Requests::kIgnore) return;
  const std::optional<int> member = worker::MemberIndexOf(request.host);
  if (requests_ == Requests::kRefuse || request.token != gang_.token || !member.has_value() ||
      *member >= hosts()) {
    server_->Finish(session, 1, "unknown gang or host");
    return;
  }
  const pid_t child =
      Spawn(sites_[static_cast<size_t>(*member)]->Shell(request.command, environment_));
  absl::MutexLock lock(&mutex_);
  shells_[session] = child;
  waiters_.emplace_back([this, session, child, host = *member] {
    int status = 0;
    waitpid(child, &status, 0);
    sites_[static_cast<size_t>(host)]->Abort(
        absl::UnavailableError(absl::StrCat("orted of host ", host, " has ended")));
    {
      absl::MutexLock shell_lock(&mutex_);
      shells_.erase(session);
    }
    server_->Finish(session, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "");
  });
}

void RelayProcessGang::OnHangup(worker::RemoteShellServer::Session session) {
  absl::MutexLock lock(&mutex_);
  const auto at = shells_.find(session);
  if (at != shells_.end()) kill(-at->second, SIGKILL);
}

void RelayProcessGang::AbortSites(const absl::Status& why) {
  for (const auto& site : sites_) site->Abort(why);
}

void RelayProcessGang::EndGeneration() {
  AbortSites(absl::AbortedError("the generation is over"));
  if (mpirun_ > 0) kill(-mpirun_, SIGKILL);
  // Killing mpirun kills its shells (weft-rsh), and their hang-up the commands; do not rely on it.
  while (true) {
    std::vector<std::thread> waiters;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [session, child] : shells_) kill(-child, SIGKILL);
      waiters.swap(waiters_);
    }
    if (waiters.empty()) break;
    for (std::thread& waiter : waiters) waiter.join();
  }
  mpirun_ = 0;
  if (!sites_.empty()) launcher_->RemoveScratch(gang_);
  sites_.clear();
}

worker::Membership RelayProcessGang::MembershipOf(int rank) const {
  int local_rank = rank;
  size_t host = 0;
  while (local_rank >= hosts_[host]) local_rank -= hosts_[host++];
  return {gang_.job, gang_.generation, rank, ranks(), local_rank, sites_[host]->channel_name()};
}

pid_t RelayProcessGang::ProcessOf(int host, const std::string& program) const {
  const std::string channel =
      Needle("WEFT_RELAY_CHANNEL", sites_[static_cast<size_t>(host)]->channel_name());
  pid_t found = 0;
  ForEachProcess([&](pid_t pid, const std::string& environment, const std::string& command) {
    const std::string name = fs::path(command.substr(0, command.find('\0'))).filename().string();
    if (name == program && absl::StrContains(environment, channel)) found = pid;
  });
  return found;
}

std::vector<pid_t> RelayProcessGang::Processes() const {
  std::vector<pid_t> all = ProcessesWithVariable(absl::StrCat("WEFT_GANG_TOKEN=", gang_.token));
  for (const std::string& channel : channels_) {
    const auto more = ProcessesWithVariable(absl::StrCat("WEFT_RELAY_CHANNEL=", channel));
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

std::vector<std::string> RelayProcessGang::Leftovers() const {
  std::vector<std::string> left;
  for (const std::string& channel : channels_) {
    if (fs::exists("/dev/shm" + channel)) left.push_back(channel);
  }
  for (const auto& entry : fs::directory_iterator(scratch_.path())) {
    if (entry.path().filename() != "agent.sock") left.push_back(entry.path().string());
  }
  return left;
}

}  // namespace weft::testing

#include "tests/testing/test_cluster.h"

#include <arpa/inet.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/process/file_descriptor.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/tls_credentials.h"
#include "tests/testing/await.h"

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX names it so

namespace weft::testing {
namespace {

constexpr absl::Duration kStartLimit = absl::Seconds(30);

std::vector<std::string> EnvironmentWith(const std::map<std::string, std::string>& extra) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    variables[pair.first] = pair.second;
  }
  for (const auto& [name, value] : extra) variables[name] = value;
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

// Pids by parent, from /proc.
std::multimap<pid_t, pid_t> ProcessTree() {
  std::multimap<pid_t, pid_t> tree;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    std::ifstream stat(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
    // "pid (name) state ppid ...": the name may hold anything, so look behind its last parenthesis.
    const size_t end = text.rfind(')');
    if (end == std::string::npos) continue;
    const std::vector<std::string> fields = absl::StrSplit(text.substr(end + 2), ' ');
    pid_t parent = 0;
    if (fields.size() > 1 && fields[0] != "Z" && absl::SimpleAtoi(fields[1], &parent)) {
      tree.emplace(parent, pid);
    }
  }
  return tree;
}

// A port that nobody listens on now, outside of those that the system gives to connections: it
// stays free until it is used.
int UnusedPort() {
  static int next = 20000 + getpid() % 1000 * 10;
  while (true) {
    const FileDescriptor trial(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(++next));
    if (bind(trial.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return next;
  }
}

bool AwaitWithin(absl::Duration limit, const std::function<bool()>& condition) {
  return Await(condition, limit);
}

void Deadline(grpc::ClientContext& context) { SetTimeout(context, absl::Seconds(20)); }

}  // namespace

std::string ProgramDirectory() {
  const char* directory = std::getenv("WEFT_BIN_DIR");  // NOLINT(concurrency-mt-unsafe)
  WEFT_CHECK_MSG(directory != nullptr, "WEFT_BIN_DIR is not set; run the test with ctest");
  return directory;
}

v1::JobSpec TinySpec(const std::string& text_path, int64_t steps) {
  v1::JobSpec spec;
  spec.set_name("tiny");
  v1::ModelSpec& model = *spec.mutable_model();
  model.set_width(32);
  model.set_layers(2);
  model.set_mlp_width(64);
  model.add_mixers()->mutable_delta()->set_heads(2);
  model.add_mixers()->mutable_softmax()->set_heads(2);
  spec.mutable_data()->mutable_text()->add_paths(text_path);
  v1::TrainingSpec& training = *spec.mutable_training();
  training.set_steps(steps);
  training.set_batch_size(8);
  training.set_shards(8);
  training.set_sequence_length(32);
  training.set_seed(7);
  training.mutable_learning_rate()->set_peak(3e-3);
  spec.mutable_checkpoint()->set_every_steps(20);
  spec.mutable_evaluation()->set_every_steps(0);
  spec.mutable_evaluation()->set_sequences(4);
  spec.mutable_retry()->mutable_initial_backoff()->set_nanos(50'000'000);
  spec.mutable_retry()->mutable_max_backoff()->set_seconds(1);
  return spec;
}

TestCluster::TestCluster() {
  auto supervisor = ProcessSupervisor::Create();
  WEFT_CHECK_MSG(supervisor.ok(), supervisor.status().ToString());
  supervisor_ = *std::move(supervisor);
  std::ofstream text(text_path());
  for (int i = 0; i < 4000; ++i) text << "the " << i % 97 << " quick brown foxes; ";
}

TestCluster::~TestCluster() {
  if (::testing::Test::HasFailure()) std::cerr << Output();
  // Kills and reaps whatever still runs; nobody is left then to remove their shared memory.
  supervisor_.reset();
  for (const std::string& name : SharedMemory()) std::filesystem::remove("/dev/shm/" + name);
}

std::string TestCluster::OutputOf(const std::string& name) {
  const absl::MutexLock lock(&mutex_);
  return processes_[name].output;
}

std::string TestCluster::ErrorsOf(const std::string& name) {
  const absl::MutexLock lock(&mutex_);
  return processes_[name].errors;
}

std::string TestCluster::Output() {
  const absl::MutexLock lock(&mutex_);
  std::string all;
  for (const auto& [name, process] : processes_) {
    absl::StrAppend(&all, "---- ", name, "\n", process.output, process.errors);
  }
  return all;
}

absl::Status TestCluster::Spawn(const std::string& name, const std::string& program,
                                std::vector<std::string> arguments,
                                const std::map<std::string, std::string>& environment) {
  ChildOptions options;
  options.program =
      absl::StartsWith(program, "/") ? program : absl::StrCat(ProgramDirectory(), "/", program);
  arguments.insert(arguments.begin(), program);
  options.arguments = std::move(arguments);
  options.environment = EnvironmentWith(environment);
  ChildCallbacks callbacks;
  callbacks.on_output = [this, name](OutputStream stream, absl::string_view text) {
    const absl::MutexLock lock(&mutex_);
    Process& process = processes_[name];
    absl::StrAppend(stream == OutputStream::kStdout ? &process.output : &process.errors, text);
  };
  callbacks.on_exit = [this, name](ExitStatus status) {
    const absl::MutexLock lock(&mutex_);
    processes_[name].running = false;
    processes_[name].exit = status;
  };
  {
    const absl::MutexLock lock(&mutex_);
    processes_[name].running = true;
  }
  WEFT_ASSIGN_OR_RETURN(const ChildId child, supervisor_->Spawn(options, std::move(callbacks)));
  const absl::MutexLock lock(&mutex_);
  processes_[name].child = child;
  return absl::OkStatus();
}

bool TestCluster::IsRunning(const std::string& name) {
  const absl::MutexLock lock(&mutex_);
  return processes_[name].running;
}

absl::Status TestCluster::StartCoordinator(const std::vector<std::string>& flags) {
  // The port is chosen once and kept, as a real service keeps its address through a restart.
  std::vector<std::string> arguments = {
      "--state-dir",      state_directory(),
      "--listen",         address_.empty() ? "127.0.0.1:0" : address_,
      "--metrics-listen", "127.0.0.1:0"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  std::filesystem::create_directories(state_directory());
  WEFT_RETURN_IF_ERROR(Spawn("coordinator", "weft-coordinator", arguments, {}));
  const pid_t pid = PidOf("coordinator");
  const bool serves = AwaitWithin(kStartLimit, [&] {
    std::ifstream file(absl::StrCat(state_directory(), "/coordinator.json"));
    const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || json.value("pid", 0) != pid) return !IsRunning("coordinator");
    address_ = json.value("address", "");
    metrics_address_ = json.value("metrics_address", "");
    return true;
  });
  if (!serves || !IsRunning("coordinator")) {
    return absl::UnavailableError("the coordinator did not start");
  }
  channel_.reset();
  return absl::OkStatus();
}

absl::Status TestCluster::StartReplica(const std::string& name, const std::string& postgres,
                                       const std::vector<std::string>& flags) {
  std::string& address = replicas_[name];
  if (address.empty()) address = absl::StrCat("127.0.0.1:", UnusedPort());
  std::vector<std::string> arguments = {
      "--state-dir",       absl::StrCat(directory(), "/", name),
      "--listen",          address,
      "--metrics-listen",  "127.0.0.1:0",
      "--checkpoint-root", absl::StrCat(state_directory(), "/checkpoints"),
      "--postgres",        postgres};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return Spawn(name, "weft-coordinator", arguments, {});
}

absl::StatusOr<std::string> TestCluster::AwaitLeader(const std::string& but) {
  std::string leader;
  const bool serves = AwaitWithin(kStartLimit, [&] {
    for (const auto& [name, address] : replicas_) {
      if (name == but || !IsRunning(name)) continue;
      std::ifstream file(absl::StrCat(directory(), "/", name, "/coordinator.json"));
      const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
      // The file of one that was killed names a process that is gone.
      if (!json.is_object() || json.value("pid", 0) != PidOf(name)) continue;
      metrics_address_ = json.value("metrics_address", "");
      leader = name;
      return true;
    }
    return false;
  });
  if (!serves) return absl::UnavailableError("no coordinator leads");
  address_ = replicas_.at(leader);
  channel_.reset();
  return leader;
}

std::string TestCluster::addresses() const {
  if (replicas_.empty()) return address_;
  std::vector<std::string> all;
  for (const auto& [name, address] : replicas_) all.push_back(address);
  return absl::StrJoin(all, ",");
}

absl::Status TestCluster::StartWorker(const std::string& name,
                                      const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"--coordinator",    addresses(),
                                        "--name",           name,
                                        "--state-dir",      absl::StrCat(directory(), "/", name),
                                        "--metrics-listen", "127.0.0.1:0"};
  if (std::find(flags.begin(), flags.end(), "--threads") == flags.end()) {
    arguments.insert(arguments.end(), {"--threads", "1"});
  }
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  WEFT_RETURN_IF_ERROR(Spawn(name, "weft-worker", arguments, {}));
  worker_pids_.push_back(PidOf(name));
  auto stub = v1::WorkerService::NewStub(channel());
  const bool joined = AwaitWithin(kStartLimit, [&] {
    grpc::ClientContext context;
    Deadline(context);
    v1::GetWorkerRequest request;
    request.set_name(absl::StrCat("workers/", name));
    v1::Worker worker;
    return !IsRunning(name) || (stub->GetWorker(&context, request, &worker).ok() &&
                                worker.state() == v1::Worker::STATE_READY);
  });
  if (!joined || !IsRunning(name)) {
    return absl::UnavailableError(absl::StrCat("the worker ", name, " did not join"));
  }
  return absl::OkStatus();
}

std::string TestCluster::WorkerMetrics(const std::string& name) {
  std::string address;
  AwaitWithin(kStartLimit, [&] {
    std::ifstream file(absl::StrCat(directory(), "/", name, "/worker.json"));
    const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) address = json.value("metrics_address", "");
    return !address.empty();
  });
  return address;
}

absl::Status TestCluster::StartProgram(const std::string& name, const std::string& program,
                                       const std::vector<std::string>& arguments) {
  return Spawn(name, program, arguments, {});
}

absl::Status TestCluster::Start(int workers) {
  WEFT_RETURN_IF_ERROR(StartCoordinator());
  for (int i = 1; i <= workers; ++i) WEFT_RETURN_IF_ERROR(StartWorker(absl::StrCat("w", i)));
  return absl::OkStatus();
}

void TestCluster::Kill(const std::string& name, int signal) {
  const pid_t pid = PidOf(name);
  if (pid > 0) kill(pid, signal);
  AwaitExit(name, absl::Seconds(40));
}

int TestCluster::AwaitExit(const std::string& name, absl::Duration limit) {
  if (!AwaitWithin(limit, [&] { return !IsRunning(name); })) return -1;
  const absl::MutexLock lock(&mutex_);
  return processes_[name].exit.ShellCode();
}

pid_t TestCluster::PidOf(const std::string& name) {
  ChildId child;
  {
    const absl::MutexLock lock(&mutex_);
    child = processes_[name].child;
  }
  return supervisor_->PidOf(child);
}

std::vector<pid_t> TestCluster::Descendants(const std::string& name, const std::string& program) {
  const auto tree = ProcessTree();
  std::vector<pid_t> found;
  std::vector<pid_t> open = {PidOf(name)};
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    const auto [first, last] = tree.equal_range(parent);
    for (auto it = first; it != last; ++it) {
      open.push_back(it->second);
      std::error_code error;
      const auto path =
          std::filesystem::read_symlink(absl::StrCat("/proc/", it->second, "/exe"), error);
      if (path.filename() == program) found.push_back(it->second);
    }
  }
  return found;
}

bool TestCluster::AwaitMetric(const std::string& text) {
  return AwaitWithin(absl::Seconds(10), [&] {
    const auto metrics = HttpGet(metrics_address_, "/metrics");
    return metrics.ok() && absl::StrContains(*metrics, text);
  });
}

std::vector<std::string> TestCluster::SharedMemory() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", error)) {
    const std::string name = entry.path().filename();
    // weft-relay.<pid namespace>.<pid of the agent>.<...>: worker/relay names them.
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    pid_t pid = 0;
    if (parts.size() > 3 && parts[0] == "weft-relay" && absl::SimpleAtoi(parts[2], &pid) &&
        std::count(worker_pids_.begin(), worker_pids_.end(), pid) > 0) {
      found.push_back(name);
    }
  }
  return found;
}

ProgramResult TestCluster::RunProgram(const std::string& name,
                                      const std::vector<std::string>& arguments,
                                      const std::map<std::string, std::string>& environment) {
  const std::string id = absl::StrCat("run ", ++programs_run_, ": ", name);
  ProgramResult result;
  if (const absl::Status status = Spawn(id, name, arguments, environment); !status.ok()) {
    result.exit_code = -1;
    result.errors = status.ToString();
    return result;
  }
  result.exit_code = AwaitExit(id, absl::Seconds(90));
  const absl::MutexLock lock(&mutex_);
  result.output = processes_[id].output;
  result.errors = processes_[id].errors;
  return result;
}

std::map<std::string, std::string> TestCluster::CliEnvironment() const {
  return {{"WEFT_ADDRESS", addresses()},
          {"WEFT_TLS_CA", tls_.ca},
          {"WEFT_TLS_CERT", tls_.cert},
          {"WEFT_TLS_KEY", tls_.key}};
}

ProgramResult TestCluster::Cli(const std::vector<std::string>& arguments) {
  return RunProgram("weft", arguments, CliEnvironment());
}

ProgramResult TestCluster::Shell(const std::string& line) {
  std::map<std::string, std::string> environment = CliEnvironment();
  environment["PATH"] = absl::StrCat(ProgramDirectory(), ":/usr/bin:/bin");
  return RunProgram("/bin/bash", {"-c", line}, environment);
}

void TestCluster::UseTls(const TlsFiles& files) {
  tls_ = files;
  channel_ = nullptr;
}

std::shared_ptr<grpc::Channel> TestCluster::channel() {
  if (channel_ == nullptr) {
    ChannelOptions options;
    auto credentials = NewChannelCredentials(tls_);
    WEFT_CHECK_MSG(credentials.ok(), credentials.status().ToString());
    options.credentials = *credentials;
    channel_ = NewChannel(address_, options);
  }
  return channel_;
}

absl::StatusOr<v1::Job> TestCluster::Submit(const v1::JobSpec& spec) {
  grpc::ClientContext context;
  Deadline(context);
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  v1::Job job;
  WEFT_RETURN_IF_ERROR(
      FromGrpc(v1::JobService::NewStub(channel())->CreateJob(&context, request, &job)));
  return job;
}

absl::StatusOr<v1::Job> TestCluster::GetJob(const std::string& name) {
  grpc::ClientContext context;
  Deadline(context);
  v1::GetJobRequest request;
  request.set_name(name);
  v1::Job job;
  WEFT_RETURN_IF_ERROR(
      FromGrpc(v1::JobService::NewStub(channel())->GetJob(&context, request, &job)));
  return job;
}

absl::StatusOr<v1::Job> TestCluster::AwaitJob(const std::string& name,
                                              const std::function<bool(const v1::Job&)>& condition,
                                              absl::Duration limit) {
  absl::StatusOr<v1::Job> job;
  if (AwaitWithin(limit, [&] {
        job = GetJob(name);
        return job.ok() && condition(*job);
      })) {
    return job;
  }
  return absl::DeadlineExceededError(absl::StrCat(
      "waited for ", name, ": ", job.ok() ? job->ShortDebugString() : job.status().ToString()));
}

absl::StatusOr<v1::Job> TestCluster::AwaitState(const std::string& name, v1::Job::State state,
                                                absl::Duration limit) {
  return AwaitJob(
      name, [state](const v1::Job& job) { return job.state() == state; }, limit);
}

absl::StatusOr<v1::Job> TestCluster::AwaitStep(const std::string& name, int64_t step,
                                               absl::Duration limit) {
  return AwaitJob(
      name, [step](const v1::Job& job) { return job.last_step().step() >= step; }, limit);
}

absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(address, absl::MaxSplits(':', 1));
  int port = 0;
  if (!absl::SimpleAtoi(parts.second, &port)) return absl::InvalidArgumentError(address);
  const FileDescriptor socket_descriptor(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in target{};
  target.sin_family = AF_INET;
  target.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, parts.first.c_str(), &target.sin_addr);
  if (connect(socket_descriptor.get(), reinterpret_cast<sockaddr*>(&target), sizeof(target)) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot reach ", address));
  }
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: ", address, "\r\nConnection: close\r\n\r\n");
  if (write(socket_descriptor.get(), request.data(), request.size()) < 0) {
    return absl::UnavailableError("cannot send");
  }
  std::string answer;
  char buffer[4096];
  while (true) {
    const ssize_t count = read(socket_descriptor.get(), buffer, sizeof(buffer));
    if (count <= 0) break;
    answer.append(buffer, static_cast<size_t>(count));
  }
  const size_t body = answer.find("\r\n\r\n");
  if (body == std::string::npos) return absl::DataLossError("not an HTTP answer");
  return answer.substr(body + 4);
}

}  // namespace weft::testing

// weft-worker: the agent of one host.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/exit_codes.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/log/log.h"
#include "common/metrics/metrics_server.h"
#include "common/metrics/prometheus_metrics.h"
#include "common/rpc/tls_credentials.h"
#include "kernels/device/cpu/instruction_set.h"
#include "worker/agent/agent.h"
#include "worker/agent/host_devices.h"
#include "worker/agent/leftovers.h"
#include "worker/agent/own_environment.h"
#include "worker/agent/worker_options.h"

namespace weft::worker {
namespace {

inline constexpr Metric kBuild = {.name = "weft_build_info",
                                  .help = "1; the labels tell the version.",
                                  .labels = {"program", "version"}};

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// The first signal saves, the second one kills. SIGUSR1 from ourselves ends the waiting.
class SignalWaiter {
 public:
  SignalWaiter(Agent& agent, absl::Duration grace)
      : thread_([&agent, grace] {
          sigset_t signals = StopSignals();
          sigaddset(&signals, SIGUSR1);
          StopMode mode = StopMode::kSave;
          for (int signal = 0; sigwait(&signals, &signal) == 0 && signal != SIGUSR1;) {
            LogInfo(
                "agent",
                mode == StopMode::kSave ? "stopping; again to stop at once" : "stopping at once",
                {{"signal", SignalName(signal)}});
            agent.RequestShutdown(mode, grace);
            mode = StopMode::kKill;
          }
        }) {}
  ~SignalWaiter() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

 private:
  std::thread thread_;
};

absl::StatusOr<std::vector<Gpu>> FindGpus() {
  WEFT_ASSIGN_OR_RETURN(const auto nvml, Nvml::Open());
  WEFT_ASSIGN_OR_RETURN(const std::vector<Gpu> gpus, nvml->Gpus());
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  return VisibleGpus(gpus, std::getenv("CUDA_VISIBLE_DEVICES"));
}

absl::StatusOr<std::vector<v1::Device>> FindDevices(const WorkerOptions& options) {
  const DeviceChoice choice = {.kind = options.device,
                               .devices = options.devices,
                               .threads = options.threads,
                               .cuda = WEFT_HAVE_CUDA};
  WEFT_ASSIGN_OR_RETURN(
      ChosenDevices chosen,
      ChooseDevices(FindHostResources(), FindGpus(), choice,
                    absl::StrCat("cpu-", kernels::NameOf(kernels::BestInstructionSet()))));
  LogInfo("agent", chosen.why);
  return std::move(chosen.devices);
}

absl::StatusOr<AgentOptions> MakeAgentOptions(const WorkerOptions& options) {
  AgentOptions made;
  made.name = options.name;
  made.version = WEFT_VERSION;
  made.incarnation = absl::StrCat(absl::ToUnixMicros(absl::Now()));
  made.coordinator = [options]() -> absl::StatusOr<std::string> {
    if (!options.coordinator.empty()) return options.coordinator;
    return ReadCoordinatorFile(options.coordinator_file);
  };
  made.tls = options.tls;
  WEFT_ASSIGN_OR_RETURN(made.channel_credentials, NewChannelCredentials(options.tls));
  WEFT_ASSIGN_OR_RETURN(made.server_credentials, NewServerCredentials(options.tls));
  made.state_directory = options.state_directory;
  made.hang_timeout = options.hang_timeout;
  made.program_directory = ProgramDirectory();
  WEFT_ASSIGN_OR_RETURN(made.devices, FindDevices(options));
  made.listen = options.listen;
  made.advertise = options.advertise;
  made.interfaces = options.interfaces;
  made.data_root = options.data_root;
  made.environment = OwnEnvironment();
  return made;
}

// For those who look for this worker: tests, tools, people. Gone when the worker is.
class AnnouncementFile {
 public:
  AnnouncementFile(const WorkerOptions& options, const Agent& agent, const MetricsServer& metrics)
      : path_(absl::StrCat(options.state_directory, "/worker.json")) {
    const nlohmann::json content = {{"name", options.name},
                                    {"pid", getpid()},
                                    {"peer_address", agent.peer_address()},
                                    {"metrics_address", metrics.address()}};
    const absl::Status written = WriteFileDurably(RealFileSystem(), path_, content.dump(2) + "\n");
    if (!written.ok()) {
      LogWarning("agent", "cannot announce itself", {{"why", written.message()}});
    }
  }
  ~AnnouncementFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

 private:
  const std::string path_;
};

absl::Status Serve(const WorkerOptions& options) {
  WEFT_RETURN_IF_ERROR(SetLogLevel(options.log_level));
  WEFT_ASSIGN_OR_RETURN(const FileDescriptor lock, LockStateDirectory(options.state_directory));
  WEFT_ASSIGN_OR_RETURN(AgentOptions agent_options, MakeAgentOptions(options));
  PrometheusMetrics metrics;
  metrics.Set(kBuild, {"weft-worker", WEFT_VERSION}, 1);
  WEFT_ASSIGN_OR_RETURN(const auto agent, Agent::Start(std::move(agent_options), metrics));
  MetricsServer::Options server_options;
  server_options.listen = options.metrics_listen;
  server_options.live = [&agent] { return agent->Live(); };
  server_options.ready = [&agent] { return agent->Ready(); };
  WEFT_ASSIGN_OR_RETURN(const auto server, MetricsServer::Start(metrics, server_options));
  LogInfo("agent", "serving",
          {{"worker", options.name},
           {"peers", agent->peer_address()},
           {"metrics", server->address()},
           {"state", options.state_directory}});
  const AnnouncementFile announcement(options, *agent, *server);
  const SignalWaiter signals(*agent, options.grace);
  return agent->Wait();
}

int Main(int argc, char** argv) {
  // Blocked in every thread, so that only the one that waits gets them.
  sigset_t signals = StopSignals();
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  const ParsedOptions parsed = ParseWorkerOptions(WEFT_VERSION, argc, argv);
  if (parsed.exit_code.has_value()) return *parsed.exit_code;
  const absl::Status status = Serve(parsed.options);
  if (!status.ok()) {
    const std::string message(status.message());
    std::fprintf(stderr, "weft-worker: %s\n", message.c_str());
  }
  return ExitCodeOf(status.code());
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }

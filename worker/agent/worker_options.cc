#include "worker/agent/worker_options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/exit_codes.h"
#include "common/net/listen_address.h"

namespace weft::worker {
namespace {

constexpr size_t kMaxNameBytes = 40;

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// Options whose texts are parsed after all of them were read.
struct DurationTexts {
  std::string grace = "30s";
  std::string hang_timeout = "10s";
};

void AddOptions(CLI::App& app, WorkerOptions& options, DurationTexts& durations) {
  app.set_config("--config", "", "A file of options: a line `name = value` for each");
  app.allow_config_extras(CLI::config_extras_mode::error);
  const auto add = [&app](const std::string& name, auto& value, const std::string& help) {
    std::string variable = absl::AsciiStrToUpper(name);
    std::replace(variable.begin(), variable.end(), '-', '_');
    return app.add_option("--" + name, value, help)
        ->envname("WEFT_WORKER_" + variable)
        ->capture_default_str();
  };
  add("coordinator", options.coordinator,
      "The coordinator's address, host:port; of coordinators that share a database all, comma "
      "separated");
  add("coordinator-file", options.coordinator_file,
      "Instead: the coordinator.json in a local coordinator's state directory");
  add("tls-ca", options.tls.ca,
      "Authorities of the coordinator's and the other workers' certificates, PEM; turns TLS on");
  add("tls-cert", options.tls.cert, "This worker's certificate, PEM: as a client and for peers");
  add("tls-key", options.tls.key, "Key of that certificate, PEM");
  add("name", options.name, "This worker's name; default: made from the host's name");
  add("state-dir", options.state_directory, "Logs and scratch files; each worker has its own");
  add("listen", options.listen, "Where other workers reach this one, host:port; port 0: any");
  add("advertise", options.advertise,
      "The address that other workers are told, host:port; default: where this one listens");
  add("metrics-listen", options.metrics_listen,
      "Where /metrics, /startupz, /livez and /readyz are served, host:port");
  add("data-root", options.data_root, "Where the relative data paths of jobs start");
  add("interfaces", options.interfaces,
      "Network interfaces or networks for gradients, comma separated; default: all but loopback");
  add("threads", options.threads, "Threads to compute with, of all devices; 0: one for each core");
  add("device", options.device,
      "What to offer: cpu, gpu, or auto: GPUs where there are any, else cores");
  add("devices", options.devices, "Devices that the cores are offered as: one rank runs on each");
  add("grace", durations.grace, "How long checkpoints may take after SIGTERM, like 30s");
  add("hang-timeout", durations.hang_timeout,
      "How long the agent's loop may be stuck before /livez asks for a restart");
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->envname("WEFT_LOG_LEVEL")
      ->capture_default_str();
}

std::vector<std::string> Problems(WorkerOptions& options, const DurationTexts& durations) {
  std::vector<std::string> problems;
  const auto complain = [&problems](absl::string_view flag, const absl::Status& status) {
    if (!status.ok()) problems.push_back(absl::StrCat("--", flag, ": ", status.message()));
  };
  if (options.coordinator.empty() == options.coordinator_file.empty()) {
    problems.emplace_back("give either --coordinator or --coordinator-file");
  }
  if (!options.coordinator.empty()) {
    for (const absl::string_view one : absl::StrSplit(options.coordinator, ',')) {
      complain("coordinator", ParseListenAddress(std::string(one)).status());
    }
  }
  if (!options.tls.empty() &&
      (options.tls.ca.empty() || options.tls.cert.empty() || options.tls.key.empty())) {
    problems.emplace_back(
        "give all of --tls-ca, --tls-cert and --tls-key, or none: a worker serves others, too");
  }
  complain("listen", ParseListenAddress(options.listen).status());
  complain("metrics-listen", ParseListenAddress(options.metrics_listen).status());
  if (!options.advertise.empty()) {
    complain("advertise", ParseListenAddress(options.advertise).status());
  }
  if (options.name.empty()) options.name = WorkerNameOf(HostName());
  complain("name", CheckWorkerName(options.name));
  if (options.threads < 0) problems.emplace_back("--threads: at least 0");
  if (options.device != "auto" && options.device != "cpu" && options.device != "gpu") {
    problems.push_back(
        absl::StrCat("--device: \"", options.device, "\" is none of auto, cpu, gpu"));
  }
  if (options.devices < 1) problems.emplace_back("--devices: at least 1");
  const auto parse = [&problems](const char* flag, const std::string& text, absl::Duration& value) {
    if (absl::ParseDuration(text, &value) && value >= absl::ZeroDuration()) return;
    problems.push_back(absl::StrCat(flag, ": \"", text, "\" is no duration like 30s or 2m"));
  };
  parse("--grace", durations.grace, options.grace);
  parse("--hang-timeout", durations.hang_timeout, options.hang_timeout);
  std::error_code error;
  for (std::string* path : {&options.state_directory, &options.data_root}) {
    *path = std::filesystem::absolute(*path, error).lexically_normal().string();
  }
  return problems;
}

}  // namespace

ParsedOptions ParseWorkerOptions(const std::string& version, int argc, const char* const* argv) {
  ParsedOptions parsed;
  DurationTexts durations;
  CLI::App app(
      "The agent of one host: offers its devices to a coordinator and runs ranks on them.");
  app.set_version_flag("--version", absl::StrCat("weft-worker ", version));
  AddOptions(app, parsed.options, durations);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? kExitOk : kExitUsage;
    return parsed;
  }
  const std::vector<std::string> problems = Problems(parsed.options, durations);
  if (!problems.empty()) {
    std::cerr << "weft-worker: " << absl::StrJoin(problems, "\nweft-worker: ") << "\n";
    parsed.exit_code = kExitUsage;
  }
  return parsed;
}

std::string WorkerNameOf(const std::string& host_name) {
  std::string name;
  for (const char c : host_name) {
    name.push_back(absl::ascii_isalnum(c) ? absl::ascii_tolower(c) : '-');
  }
  if (name.empty() || !absl::ascii_isalpha(name.front())) name = absl::StrCat("w-", name);
  name.resize(std::min(name.size(), kMaxNameBytes));
  while (name.back() == '-') name.pop_back();
  return name;
}

absl::Status CheckWorkerName(const std::string& name) {
  if (!name.empty() && WorkerNameOf(name) == name) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name,
                   "\" is no name of a worker: lower-case letters, digits and '-', starting with a "
                   "letter, not ending with '-', at most ",
                   kMaxNameBytes, " characters"));
}

absl::StatusOr<std::string> ReadCoordinatorFile(const std::string& path) {
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) {
    const auto address = json.find("address");
    if (address != json.end() && address->is_string()) return address->get<std::string>();
  }
  return absl::UnavailableError(
      absl::StrCat(path, " names no address: no coordinator serves there now"));
}

}  // namespace weft::worker

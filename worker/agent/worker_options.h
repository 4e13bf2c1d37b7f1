// What weft-worker is told: flags, before the environment (WEFT_WORKER_*), before a file
// (--config), before the defaults.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tls/tls_files.h"

namespace weft::worker {

struct WorkerOptions {
  std::string coordinator;       // host:port, or several, comma separated
  std::string coordinator_file;  // or: the coordinator.json of a local one
  TlsFiles tls;                  // of the line to the coordinator and of those between agents
  std::string name;
  std::string state_directory = "weft-worker";
  std::string listen = "127.0.0.1:0";
  std::string advertise;
  std::string metrics_listen = "127.0.0.1:0";
  std::string data_root = ".";
  std::string interfaces;
  std::string log_level = "info";
  int threads = 0;
  std::string device = "auto";  // auto, cpu, gpu
  int devices = 1;
  absl::Duration grace = absl::Seconds(30);
  absl::Duration hang_timeout = absl::Seconds(10);
};

// Reads the command line; prints help, the version or what is wrong, all of it at once. The value
// is the exit code when the program must end now.
struct ParsedOptions {
  WorkerOptions options;
  std::optional<int> exit_code;
};
ParsedOptions ParseWorkerOptions(const std::string& version, int argc, const char* const* argv);

// A host's name as a worker's name: lower case, anything but letters, digits and '-' replaced by
// '-', at most 40 characters, starting with a letter.
std::string WorkerNameOf(const std::string& host_name);

// OK for a name that a worker may have.
absl::Status CheckWorkerName(const std::string& name);

// The address in a coordinator.json. kUnavailable when there is none (yet).
absl::StatusOr<std::string> ReadCoordinatorFile(const std::string& path);

}  // namespace weft::worker

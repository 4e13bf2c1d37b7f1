// What weft-coordinator can be told: by a YAML file, by the environment, by flags. One table makes
// all three, so that they never disagree.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/tls/tls_files.h"
#include "coordinator/core/policy.h"

namespace weft::coordinator {

struct CoordinatorConfig {
  std::string state_dir;
  std::string listen = "127.0.0.1:7733";
  std::string metrics_listen = "127.0.0.1:9733";
  TlsFiles tls;          // its ca is that of the clients
  std::string postgres;  // empty: SQLite in state_dir
  std::string postgres_password_file;
  absl::Duration leader_lease = absl::Seconds(10);
  std::string checkpoint_root;  // empty: <state_dir>/checkpoints
  std::string log_root;         // empty: <state_dir>/logs
  std::string log_level = "info";
  int64_t log_megabytes_per_job = 64;
  int64_t steps_kept_per_job = 20000;
  absl::Duration hang_timeout = absl::Minutes(1);
  Policy policy;
};

// Texts of settings from one source, by name ("heartbeat_timeout").
struct ConfigSource {
  std::string origin;  // for messages: "coordinator.yaml", "the environment"
  std::vector<std::pair<std::string, std::string>> values;
};

// One setting as documentation and flags need it.
struct SettingText {
  std::string name;  // "heartbeat_timeout": flag --heartbeat-timeout, variable
                     // WEFT_COORDINATOR_HEARTBEAT_TIMEOUT
  std::string help;
  std::string value;  // the default
};
std::vector<SettingText> AllSettings();

// The variable of a setting; log_level and state_dir are shared with the other programs:
// WEFT_LOG_LEVEL, WEFT_STATE_DIR.
std::string VariableOf(absl::string_view setting);

// Reads the text of a configuration file. kInvalidArgument names the line.
absl::StatusOr<ConfigSource> ParseConfigFile(const std::string& origin, const std::string& text);
// `lookup` returns a variable of the environment, or null.
using Environment = std::function<const char*(const char*)>;
// Defaults that depend on who runs the program: the state folder.
ConfigSource DefaultsFor(const Environment& lookup);
ConfigSource ReadEnvironment(const Environment& lookup);

// Later sources override earlier ones. kInvalidArgument with one line for each thing that is wrong:
// unknown names, values that are none, settings that do not fit together.
absl::StatusOr<CoordinatorConfig> MakeConfig(const std::vector<ConfigSource>& sources);

// As YAML that ParseConfigFile reads.
std::string ToYaml(const CoordinatorConfig& config);

}  // namespace weft::coordinator

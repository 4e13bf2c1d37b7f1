#include "coordinator/service/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "common/log/log.h"
#include "common/net/listen_address.h"

namespace weft::coordinator {
namespace {

using Target = std::variant<std::string*, int*, int64_t*, absl::Duration*>;

struct Setting {
  const char* name;
  const char* help;
  Target target;
};

std::vector<Setting> SettingsOf(CoordinatorConfig& config) {
  Policy& policy = config.policy;
  return {
      {"state_dir", "Folder of the database, the logs and, by default, the checkpoints",
       &config.state_dir},
      {"listen", "Address of the gRPC services, host:port; port 0 means any free one",
       &config.listen},
      {"metrics_listen", "Address of /metrics, /startupz, /livez and /readyz, host:port",
       &config.metrics_listen},
      {"tls_cert", "Certificate of the gRPC services, PEM; with it clients must speak TLS",
       &config.tls.cert},
      {"tls_key", "Key of that certificate, PEM", &config.tls.key},
      {"tls_client_ca", "Authorities, PEM; with it clients and workers must show a certificate",
       &config.tls.ca},
      {"postgres",
       "Connection string, without a password, of a PostgreSQL database that several coordinators "
       "share, such as 'host=db dbname=weft user=weft'; default: SQLite in the state folder",
       &config.postgres},
      {"postgres_password_file",
       "File with the password; default: as libpq finds one (PGPASSFILE, PGPASSWORD)",
       &config.postgres_password_file},
      {"leader_lease",
       "With PostgreSQL: the server's silence from a leader after which another coordinator leads",
       &config.leader_lease},
      {"checkpoint_root",
       "Folder of all checkpoints, as the workers see it; default: in the state folder",
       &config.checkpoint_root},
      {"log_root",
       "Folder of the jobs' logs; of coordinators that share a database one that all of them see; "
       "default: in the state folder",
       &config.log_root},
      {"log_level", "debug, info, warning or error", &config.log_level},
      {"log_megabytes_per_job", "Logs that are kept of a job", &config.log_megabytes_per_job},
      {"steps_kept_per_job", "Points that are kept of a job's history", &config.steps_kept_per_job},
      {"hang_timeout", "How long the event loop may be stuck before /livez asks for a restart",
       &config.hang_timeout},
      {"heartbeat_interval", "How often workers are asked to send a heartbeat",
       &policy.heartbeat_interval},
      {"heartbeat_timeout", "Silence after which a connected worker is lost",
       &policy.heartbeat_timeout},
      {"reconnect_grace", "How long a disconnected worker may take to return",
       &policy.reconnect_grace},
      {"adoption_grace", "The same after a restart of the coordinator", &policy.adoption_grace},
      {"gather_time", "After a start, how long only gangs of full size are placed",
       &policy.gather_time},
      {"start_timeout", "How long a gang may take from its placement to its first step",
       &policy.start_timeout},
      {"save_timeout", "How long a gang may take to save before it is stopped without",
       &policy.save_timeout},
      {"release_timeout", "How long a stopped rank may take to end before it is given up",
       &policy.release_timeout},
      {"missing_grace", "How long a rank may be missing in heartbeats before it is taken for dead",
       &policy.missing_grace},
      {"forget_lost_worker", "When a lost worker that holds nothing leaves the list",
       &policy.forget_lost_worker},
      {"stall_tolerance", "A wake-up later than this shows that the coordinator itself was stopped",
       &policy.stall_tolerance},
      {"max_losses_without_progress",
       "Lost hosts between two checkpoints beyond which a loss counts as the job's own failure",
       &policy.max_losses_without_progress},
      {"max_queued_jobs", "Waiting jobs beyond which a submit is refused", &policy.max_queued_jobs},
  };
}

std::string Print(const Target& target) {
  if (const auto* const* text = std::get_if<std::string*>(&target)) return **text;
  if (const auto* const* number = std::get_if<int*>(&target)) return absl::StrCat(**number);
  if (const auto* const* number = std::get_if<int64_t*>(&target)) return absl::StrCat(**number);
  return absl::FormatDuration(*std::get<absl::Duration*>(target));
}

// What is wrong with the text, or nothing.
std::string Assign(const Target& target, const std::string& text) {
  if (auto* const* to = std::get_if<std::string*>(&target)) {
    **to = text;
    return "";
  }
  if (auto* const* to = std::get_if<int*>(&target)) {
    return absl::SimpleAtoi(text, *to) ? "" : "allowed: a whole number";
  }
  if (auto* const* to = std::get_if<int64_t*>(&target)) {
    return absl::SimpleAtoi(text, *to) ? "" : "allowed: a whole number";
  }
  return absl::ParseDuration(text, std::get<absl::Duration*>(target))
             ? ""
             : "allowed: a duration with its unit, like 500ms, 5s or 10m";
}

void ApplySource(const ConfigSource& source, const std::vector<Setting>& settings,
                 std::vector<std::string>& problems) {
  for (const auto& [name, text] : source.values) {
    const auto found =
        std::find_if(settings.begin(), settings.end(),
                     [&name = name](const Setting& setting) { return name == setting.name; });
    if (found == settings.end()) {
      problems.push_back(
          absl::StrCat(source.origin, ": there is no setting '", name, "'; allowed: ",
                       absl::StrJoin(settings, ", ", [](std::string* out, const Setting& setting) {
                         out->append(setting.name);
                       })));
      continue;
    }
    if (const std::string wrong = Assign(found->target, text); !wrong.empty()) {
      problems.push_back(absl::StrCat(source.origin, ": ", name, ": '", text, "'; ", wrong));
    }
  }
}

void CheckValues(const CoordinatorConfig& config, std::vector<std::string>& problems) {
  const auto complain = [&problems](absl::string_view name, const absl::Status& status) {
    if (!status.ok()) problems.push_back(absl::StrCat(name, ": ", status.message()));
  };
  if (config.state_dir.empty()) problems.emplace_back("state_dir: must not be empty");
  complain("listen", ParseListenAddress(config.listen).status());
  complain("metrics_listen", ParseListenAddress(config.metrics_listen).status());
  complain("log_level", ParseLogLevel(config.log_level).status());
  if (config.log_megabytes_per_job < 1 || config.log_megabytes_per_job > 1000000) {
    problems.emplace_back("log_megabytes_per_job: allowed: 1 to 1000000");
  }
  if (config.steps_kept_per_job < 100 || config.steps_kept_per_job > 10000000) {
    problems.emplace_back("steps_kept_per_job: allowed: 100 to 10000000");
  }
  if (config.postgres.empty() && !config.postgres_password_file.empty()) {
    problems.emplace_back("postgres_password_file: is for postgres, which is not set");
  }
  if (config.leader_lease < absl::Seconds(1) || config.leader_lease > absl::Minutes(10)) {
    problems.emplace_back("leader_lease: allowed: 1s to 10m");
  }
  if (config.hang_timeout <= absl::ZeroDuration()) {
    problems.emplace_back("hang_timeout: must be positive");
  }
  if (const absl::Status status = config.policy.Validate(); !status.ok()) {
    problems.emplace_back(status.message());
  }
}

std::string DefaultStateDirectory(const char* xdg, const char* home) {
  if (xdg != nullptr && *xdg != '\0') return absl::StrCat(xdg, "/weft");
  if (home != nullptr && *home != '\0') return absl::StrCat(home, "/.local/state/weft");
  return "/var/lib/weft";
}

}  // namespace

std::vector<SettingText> AllSettings() {
  CoordinatorConfig defaults;
  std::vector<SettingText> all;
  for (const Setting& setting : SettingsOf(defaults)) {
    all.push_back({setting.name, setting.help, Print(setting.target)});
  }
  return all;
}

std::string VariableOf(absl::string_view setting) {
  const bool shared = setting == "log_level" || setting == "state_dir";
  return absl::StrCat(shared ? "WEFT_" : "WEFT_COORDINATOR_", absl::AsciiStrToUpper(setting));
}

absl::StatusOr<ConfigSource> ParseConfigFile(const std::string& origin, const std::string& text) {
  ConfigSource source;
  source.origin = origin;
  std::set<std::string> seen;
  try {  // yaml-cpp speaks in exceptions
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return source;
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(
          absl::StrCat(origin, ": lines 'setting: value' are expected"));
    }
    for (const auto& entry : root) {
      const auto name = entry.first.as<std::string>();
      const std::string where = absl::StrCat(origin, ", line ", entry.first.Mark().line + 1);
      if (!entry.second.IsScalar()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": ", name, ": one value is expected"));
      }
      if (!seen.insert(name).second) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, " is given twice"));
      }
      source.values.emplace_back(name, entry.second.as<std::string>());
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": ", error.what()));
  }
  return source;
}

ConfigSource DefaultsFor(const Environment& lookup) {
  const std::string directory = DefaultStateDirectory(lookup("XDG_STATE_HOME"), lookup("HOME"));
  return {.origin = "the defaults", .values = {{"state_dir", directory}}};
}

ConfigSource ReadEnvironment(const Environment& lookup) {
  ConfigSource source;
  source.origin = "the environment";
  for (const SettingText& setting : AllSettings()) {
    if (const char* const value = lookup(VariableOf(setting.name).c_str()); value != nullptr) {
      source.values.emplace_back(setting.name, value);
    }
  }
  return source;
}

absl::StatusOr<CoordinatorConfig> MakeConfig(const std::vector<ConfigSource>& sources) {
  CoordinatorConfig config;
  config.tls.ca_name = "tls_client_ca";
  std::vector<std::string> problems;
  const std::vector<Setting> settings = SettingsOf(config);
  for (const ConfigSource& source : sources) ApplySource(source, settings, problems);
  CheckValues(config, problems);
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  if (config.log_root.empty()) config.log_root = absl::StrCat(config.state_dir, "/logs");
  if (config.checkpoint_root.empty()) {
    config.checkpoint_root = absl::StrCat(config.state_dir, "/checkpoints");
  }
  // Ranks are told where checkpoints are, and have folders of their own.
  std::error_code error;
  for (std::string* path : {&config.state_dir, &config.checkpoint_root, &config.log_root}) {
    *path = std::filesystem::absolute(*path, error).lexically_normal().string();
  }
  return config;
}

std::string ToYaml(const CoordinatorConfig& config) {
  CoordinatorConfig copy = config;
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const Setting& setting : SettingsOf(copy)) {
    out << YAML::Key << setting.name << YAML::Value << Print(setting.target);
  }
  out << YAML::EndMap;
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace weft::coordinator

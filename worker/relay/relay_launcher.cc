#include "worker/relay/relay_launcher.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/log/log.h"
#include "worker/comm/process_identity.h"
#include "worker/comm/relay_channel.h"
#include "worker/relay/relay_environment.h"
#include "worker/relay/remote_shell.h"

namespace weft::worker {
namespace {

namespace fs = std::filesystem;

// Invented names, which nobody resolves: mpirun takes them for machines other than its own, so that
// every host, the lead's included, is reached in the same way. They must only differ from what this
// machine is called; the second prefix is for machines that happen to be called like the first.
constexpr std::array<absl::string_view, 2> kAliasPrefixes = {"weft-h", "gang-h"};

absl::string_view AliasPrefix() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return kAliasPrefixes[0];
  const std::string own = absl::AsciiStrToLower(name.data());
  return absl::StartsWith(own, kAliasPrefixes[0]) ? kAliasPrefixes[1] : kAliasPrefixes[0];
}

// A short name for a job in paths and shared memory: two jobs never get the same one by accident.
std::string JobLabel(absl::string_view job) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return absl::StrFormat("%016x", hash);
}

constexpr absl::string_view kSegmentPrefix = "weft-relay.";
constexpr absl::string_view kFolderPrefix = "relay-";

// Processes of another pid namespace cannot be told alive from dead: their segments are theirs.
std::string PidNamespace() {
  std::error_code error;
  const std::string link = fs::read_symlink("/proc/self/ns/pid", error).string();
  std::string digits;
  for (const char c : link) {
    if (absl::ascii_isdigit(static_cast<unsigned char>(c))) digits.push_back(c);
  }
  return digits.empty() ? "0" : digits;
}

std::string SegmentName(const RelaySiteOptions& options) {
  const ProcessIdentity self = ThisProcess();
  return absl::StrCat("/", kSegmentPrefix, PidNamespace(), ".", self.pid, ".", self.start_ticks,
                      ".", JobLabel(options.job), ".", options.generation.value(), ".",
                      options.host);
}

// Whether the process that made a segment of this name is of our namespace and has ended.
bool IsLeftover(absl::string_view segment) {
  if (!absl::ConsumePrefix(&segment, kSegmentPrefix)) return false;
  const std::vector<absl::string_view> fields = absl::StrSplit(segment, '.');
  ProcessIdentity owner;
  return fields.size() == 6 && fields[0] == PidNamespace() &&
         absl::SimpleAtoi(fields[1], &owner.pid) &&
         absl::SimpleAtoi(fields[2], &owner.start_ticks) && IsGone(owner);
}

fs::path FolderOf(const fs::path& scratch, absl::string_view job, Generation generation,
                  absl::string_view place) {
  return scratch / absl::StrCat(kFolderPrefix, JobLabel(job), "-", generation.value(), "-", place);
}

absl::Status MakeFolder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  if (!error && fs::create_directory(folder, error)) {
    fs::permissions(folder, fs::perms::owner_all, error);
    if (!error) return absl::OkStatus();
  }
  if (!error) return absl::AlreadyExistsError(absl::StrCat(folder.string(), " exists"));
  return absl::ErrnoToStatus(error.value(), absl::StrCat("making ", folder.string()));
}

void RemoveFolder(const fs::path& folder) {
  std::error_code ignored;  // what cannot be removed now goes when the agent starts the next time
  fs::remove_all(folder, ignored);
}

// What tells Open MPI of another launcher or batch system, and what is set anew.
constexpr std::array<absl::string_view, 15> kForeign = {
    "OMPI_", "PMIX_", "PMI_",    "PRTE_",   "ORTE_",       "SLURM_",     "PBS_",       "LSB_",
    "JSM_",  "SGE_",  "COBALT_", "TMPDIR=", "WEFT_RELAY_", "WEFT_GANG_", "WEFT_AGENT_"};

// The agent's environment without kForeign; `programs` comes first in its PATH.
std::vector<std::string> CleanEnvironment(absl::Span<const std::string> environment,
                                          const fs::path& programs) {
  std::vector<std::string> clean;
  std::string path = absl::StrCat("PATH=", programs.string());
  std::string home = "HOME=/";  // some versions do not start without
  for (const std::string& variable : environment) {
    const auto starts = [&](absl::string_view prefix) {
      return absl::StartsWith(variable, prefix);
    };
    if (starts("PATH=")) {
      absl::StrAppend(&path, ":", variable.substr(5));
    } else if (starts("HOME=")) {
      home = variable;
    } else if (std::none_of(kForeign.begin(), kForeign.end(), starts)) {
      clean.push_back(variable);
    }
  }
  clean.push_back(std::move(path));
  clean.push_back(std::move(home));
  return clean;
}

void Append(std::vector<std::string>& to, std::initializer_list<absl::string_view> words) {
  for (const absl::string_view word : words) to.emplace_back(word);
}

void AppendParameter(std::vector<std::string>& to, absl::string_view name,
                     absl::string_view value) {
  Append(to, {"--mca", name, value});
}

std::vector<std::string> MpirunArguments(const RelayGang& gang, absl::string_view interfaces) {
  const absl::string_view prefix = AliasPrefix();
  std::vector<std::string> aliases;
  aliases.reserve(static_cast<size_t>(gang.hosts));
  for (int i = 0; i < gang.hosts; ++i) aliases.push_back(absl::StrCat(prefix, i, ":1"));
  std::vector<std::string> words;
  Append(words, {"mpirun", "-np", absl::StrCat(gang.hosts), "--host", absl::StrJoin(aliases, ",")});
  Append(words, {"--bind-to", "none", "--stdin", "none", "--wdir", "/"});
  // The launcher: our remote shell, found by PATH (its parameter would split a path with spaces),
  // for all hosts directly (no tree of daemons that start daemons), all at once.
  AppendParameter(words, "plm", "rsh");
  AppendParameter(words, "plm_rsh_agent", "weft-rsh");
  AppendParameter(words, "plm_rsh_num_concurrent", absl::StrCat(gang.hosts + 1));
  AppendParameter(words, "routed", "radix");
  AppendParameter(words, "routed_radix", absl::StrCat(gang.hosts + 1));
  // The default encoding of host names overruns its buffer for names with 50 characters before the
  // first digit or dot; the naive one takes any name. Aliases are never looked up.
  AppendParameter(words, "regx", "naive");
  AppendParameter(words, "if_base_do_not_resolve", "1");
  // The transport: TCP and nothing that needs tuning or leaves shared memory behind.
  AppendParameter(words, "pml", "ob1");
  AppendParameter(words, "btl", "tcp,self");
  if (!interfaces.empty()) {
    AppendParameter(words, "btl_tcp_if_include", interfaces);
    AppendParameter(words, "oob_tcp_if_include", interfaces);
  }
  // Machines are shared with the ranks: no relay may spin for long.
  AppendParameter(words, "mpi_yield_when_idle", "1");
  // The end: at once. Without these a lost relay takes 2 s, a silent network 8 minutes to be felt.
  AppendParameter(words, "odls_base_sigkill_timeout", "0");
  AppendParameter(words, "oob_tcp_keepalive_time", "1");
  AppendParameter(words, "oob_tcp_keepalive_intvl", "1");
  AppendParameter(words, "oob_tcp_keepalive_probes", "3");
  // Every host has weft-relay where its own agent says, not where the lead has it.
  Append(words, {"/bin/sh", "-c", absl::StrCat("exec \"$", kRelayProgramVariable, "\"")});
  return words;
}

}  // namespace

RelayLauncher::RelayLauncher(RelayLauncherOptions options) : options_(std::move(options)) {}

absl::StatusOr<CommandLine> RelayLauncher::Mpirun(const RelayGang& gang,
                                                  absl::Span<const std::string> environment) const {
  if (gang.hosts < 2 || gang.token.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("relays are for two hosts or more, with a token;"
                     " this gang has ",
                     gang.hosts));
  }
  const fs::path folder = FolderOf(options_.scratch, gang.job, gang.generation, "mpirun");
  WEFT_RETURN_IF_ERROR(MakeFolder(folder));
  CommandLine line;
  line.program = options_.programs.mpirun;
  line.arguments = MpirunArguments(gang, options_.interfaces);
  line.working_directory = "/";
  line.environment = CleanEnvironment(environment, fs::path(options_.programs.rsh).parent_path());
  line.environment.push_back(absl::StrCat("TMPDIR=", folder.string()));
  line.environment.push_back(absl::StrCat(kAgentSocketVariable, "=", options_.agent_socket));
  line.environment.push_back(absl::StrCat(kGangTokenVariable, "=", gang.token));
  // Containers run as root; Open MPI wants to be told twice that this is meant.
  line.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT=1");
  line.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
  return line;
}

void RelayLauncher::RemoveScratch(const RelayGang& gang) const {
  RemoveFolder(FolderOf(options_.scratch, gang.job, gang.generation, "mpirun"));
}

std::optional<int> MemberIndexOf(absl::string_view host) {
  for (const absl::string_view prefix : kAliasPrefixes) {
    int index = 0;
    absl::string_view digits = host;
    if (absl::ConsumePrefix(&digits, prefix) && !digits.empty() &&
        std::all_of(digits.begin(), digits.end(),
                    [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }) &&
        absl::SimpleAtoi(digits, &index)) {
      return index;
    }
  }
  return std::nullopt;
}

RelaySite::RelaySite(RelaySiteOptions options, std::unique_ptr<RelayChannel> channel)
    : options_(std::move(options)), channel_(std::move(channel)) {}

absl::StatusOr<std::unique_ptr<RelaySite>> RelaySite::Create(const RelaySiteOptions& options) {
  RelayChannelOptions channel_options;
  channel_options.job = options.job;
  channel_options.generation = options.generation;
  channel_options.host = options.host;
  channel_options.hosts = options.hosts;
  channel_options.first_rank = options.first_rank;
  channel_options.local_ranks = options.local_ranks;
  channel_options.ranks = options.ranks;
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<RelayChannel> channel,
                        RelayChannel::Create(SegmentName(options), channel_options));
  auto site = std::unique_ptr<RelaySite>(new RelaySite(options, std::move(channel)));
  WEFT_RETURN_IF_ERROR(MakeFolder(site->folder()));
  return site;
}

RelaySite::~RelaySite() {
  channel_->Abort(absl::AbortedError("the generation has ended"));
  RemoveFolder(folder());
}

fs::path RelaySite::folder() const {
  return FolderOf(options_.scratch, options_.job, options_.generation,
                  absl::StrCat("h", options_.host));
}

const std::string& RelaySite::channel_name() const { return channel_->name(); }

bool RelaySite::relay_joined() const { return channel_->relay_joined(); }

CommandLine RelaySite::Relay(absl::Span<const std::string> environment) const {
  return {.program = options_.relay_program,
          .arguments = {"weft-relay"},
          .environment = Environment(environment),
          .working_directory = "/"};
}

CommandLine RelaySite::Shell(absl::string_view command,
                             absl::Span<const std::string> environment) const {
  return {.program = "/bin/sh",
          .arguments = {"sh", "-c", std::string(command)},
          .environment = Environment(environment),
          .working_directory = "/"};
}

std::vector<std::string> RelaySite::Environment(absl::Span<const std::string> environment) const {
  // orted looks for the remote shell too, although it starts no others: it lies beside the relay.
  std::vector<std::string> variables =
      CleanEnvironment(environment, fs::path(options_.relay_program).parent_path());
  variables.push_back(absl::StrCat("TMPDIR=", folder().string()));
  variables.push_back(absl::StrCat(kRelayChannelVariable, "=", channel_name()));
  variables.push_back(absl::StrCat(kRelayProgramVariable, "=", options_.relay_program));
  variables.push_back(
      absl::StrCat(kRelayStartSecondsVariable, "=",
                   std::clamp<int64_t>(absl::ToInt64Seconds(options_.start_timeout), 1, 3600)));
  return variables;
}

void RelaySite::Abort(const absl::Status& why) { channel_->Abort(why); }

absl::Status RelaySite::RemoveLeftovers(const fs::path& scratch) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
    const std::string name = entry.path().filename().string();
    if (!IsLeftover(name)) continue;
    // Another user's may stay: its name is no site's of ours, and that user's agent removes it.
    if (const absl::Status removed = SharedMemory::Remove(absl::StrCat("/", name)); !removed.ok()) {
      LogWarning("relays", "shared memory of a dead process stays",
                 {{"segment", name}, {"why", removed.message()}});
    }
  }
  for (const auto& entry : fs::directory_iterator(scratch, error)) {
    if (!absl::StartsWith(entry.path().filename().string(), kFolderPrefix)) continue;
    std::error_code removed;
    fs::remove_all(entry.path(), removed);
    if (removed) {
      return absl::ErrnoToStatus(removed.value(), absl::StrCat("removing ", entry.path().string()));
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::worker

// How the relays of a gang are started, without ssh: command lines, environments, scratch folders
// and the clean-up. Nothing here starts a process; the agents do, and call this library.
//
// A gang on one host: its agent creates the RelaySite and runs RelaySite::Relay, without MPI.
//
// Who calls what, for one generation of a gang over H > 1 hosts:
//   every member's agent  RelaySite::Create: the host's shared memory and scratch folder. Its own
//                         ranks get channel_name() in their Membership.
//   the lead's agent      RelayLauncher::Mpirun: spawn it in its own process group. mpirun then
//   runs
//                         weft-rsh once for EVERY host, the lead's own included, and so the lead's
//                         RemoteShellServer gets H requests.
//   the lead's agent      on_request: check the token, MemberIndexOf(host), and hand the command to
//                         that member's agent (itself included).
//   every member's agent  runs RelaySite::Shell(command) in its own process group; tells the lead
//                         the exit status, which calls Finish. On on_hangup the lead tells the
//                         member, which kills the group.
//   every member's agent  at the end of the generation, or when a rank, mpirun or a shell ends
//                         unasked: site.Abort(why) (wakes the ranks at once), kill the groups with
//                         SIGKILL, destroy the site.
//   any agent at start    RelaySite::RemoveLeftovers, for what a killed agent left.
// mpirun has no deadline of its own for a start: the ranks' Prepare has, and so has weft-relay
// (RelaySiteOptions::start_timeout); an agent that supervises may ask relay_joined().
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

class RelayChannel;

// A process to start: absolute program, its arguments (argv[0] included), its whole environment.
struct CommandLine {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=value
  std::string working_directory;
};

struct RelayPrograms {
  std::string mpirun;
  std::string relay;  // weft-relay
  std::string rsh;    // weft-rsh
};

// Looks for mpirun and orted in `path` (a PATH) and for our programs in `program_directory`, and
// asks mpirun for its version. kFailedPrecondition with what is missing and what to install; also
// for another MPI than Open MPI 4 (5 has other options). Runs `mpirun --version`: up to 10 s.
absl::StatusOr<RelayPrograms> FindRelayPrograms(const std::filesystem::path& program_directory,
                                                const std::string& path);

// One generation of a gang, as its lead sees it.
struct RelayGang {
  std::string job;
  Generation generation;
  int hosts = 0;      // member i runs MPI rank i
  std::string token;  // a secret of the generation; weft-rsh sends it back
};

struct RelayLauncherOptions {
  RelayPrograms programs;
  std::string agent_socket;       // where the lead's RemoteShellServer listens
  std::filesystem::path scratch;  // the same folder as RelaySiteOptions::scratch
  // Interfaces or networks (CIDR), comma separated, that carry the gang's traffic: "eth0",
  // "10.0.0.0/8". Empty: all but the loopback. "lo" when every member is on this machine.
  std::string interfaces;
};

class RelayLauncher {
 public:
  explicit RelayLauncher(RelayLauncherOptions options);

  // The mpirun that starts the gang, and its scratch folder (made here). `environment` is the
  // agent's own; variables that would lead Open MPI to another launcher are left out.
  // kInvalidArgument for fewer than two hosts or no token.
  [[nodiscard]] absl::StatusOr<CommandLine> Mpirun(const RelayGang& gang,
                                                   absl::Span<const std::string> environment) const;
  // Removes mpirun's scratch folder; call when it has ended.
  void RemoveScratch(const RelayGang& gang) const;

 private:
  RelayLauncherOptions options_;
};

// The member that an alias of RelayLauncher means, or nothing when it is none.
std::optional<int> MemberIndexOf(absl::string_view host);

struct RelaySiteOptions {
  std::string job;
  Generation generation;
  int host = 0;  // this member's index
  int hosts = 0;
  int first_rank = 0;  // of this host's ranks, which are numbered consecutively
  int local_ranks = 1;
  int ranks = 0;  // of the gang
  std::string relay_program;
  std::filesystem::path scratch;  // a folder of this agent alone
  // A relay that has not met all others by then ends itself.
  absl::Duration start_timeout = absl::Seconds(15);
};

// One host's part in one generation: the shared memory and the scratch folder of its relay.
class RelaySite {
 public:
  // kAlreadyExists when this host has the generation already; kResourceExhausted when /dev/shm or
  // the disk is full.
  static absl::StatusOr<std::unique_ptr<RelaySite>> Create(const RelaySiteOptions& options);
  // Aborts the channel, removes the shared memory and the folder. The processes that used them
  // should be dead by now; those that are not find the abort and leave.
  ~RelaySite();
  RelaySite(const RelaySite&) = delete;
  RelaySite& operator=(const RelaySite&) = delete;

  [[nodiscard]] const std::string& channel_name() const;  // for Membership::relay_channel
  // Whether this host's relay has met those of all other hosts: the gang can exchange.
  [[nodiscard]] bool relay_joined() const;
  // weft-relay itself, for a gang on this host alone.
  [[nodiscard]] CommandLine Relay(absl::Span<const std::string> environment) const;
  // `sh -c command` with what orted and weft-relay need on this host.
  [[nodiscard]] CommandLine Shell(absl::string_view command,
                                  absl::Span<const std::string> environment) const;
  // Wakes this host's ranks with `why`, and tells the relay to leave. Any thread.
  void Abort(const absl::Status& why);

  // Removes folders under `scratch` and shared memory whose owner is dead. Safe beside living
  // agents of the same machine. Shared memory that cannot be removed (another user's) is logged.
  static absl::Status RemoveLeftovers(const std::filesystem::path& scratch);

 private:
  RelaySite(RelaySiteOptions options, std::unique_ptr<RelayChannel> channel);
  [[nodiscard]] std::filesystem::path folder() const;
  [[nodiscard]] std::vector<std::string> Environment(
      absl::Span<const std::string> environment) const;

  RelaySiteOptions options_;
  std::unique_ptr<RelayChannel> channel_;
};

}  // namespace weft::worker

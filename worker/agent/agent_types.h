// The words of the agent's core: what happens to it (events, past tense), what it wants done
// (actions, imperative), and the plain values they carry. No protobuf, no threads, no clock.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/strong_int.h"

namespace weft::worker {

using Generation = StrongInt<struct GenerationTag>;
// Numbers a report that must be acknowledged; unique within the life of the agent's process.
using ReportId = StrongInt<struct ReportIdTag>;
// A peer's wish that we run a relay daemon; numbered by whoever brings it.
using DaemonRequestId = StrongInt<struct DaemonRequestIdTag>;

// This worker's part of one generation of a job.
struct MemberKey {
  std::string job;
  Generation generation;
  friend auto operator<=>(const MemberKey&,
                          const MemberKey&) = default;  // NOLINT(modernize-use-nullptr)
};

enum class MemberPhase : uint8_t { kStarting, kRestoring, kTraining, kSaving, kStopping };

// How a member, or one of its ranks, ended. Severity grows downwards: a member's outcome is the
// worst of what is known about it, whatever came first.
enum class MemberOutcome : uint8_t {
  kSucceeded,
  kSaved,
  kKilled,
  kPeerLost,
  kFailed,
  kUserError,
};

enum class StopMode : uint8_t { kSave, kKill };

// What the coordinator asks for.
struct MemberOrder {
  MemberKey key;
  std::vector<int> ranks;  // of this worker, ascending
  int members = 1;         // workers of the gang
  int member_index = 0;    // of this one; member 0 leads: it starts the relays
  std::string payload;     // the whole order, opaque to the core
  // Several ranks exchange through relays; those of several workers, over MPI.
  [[nodiscard]] bool has_relays() const { return members > 1 || ranks.size() > 1; }
  // What the lead starts: one relay, or the program that starts one on every worker.
  [[nodiscard]] absl::string_view launcher() const { return members > 1 ? "mpirun" : "weft-relay"; }
  [[nodiscard]] bool leads() const { return member_index == 0; }
};

struct ExitReport {
  MemberKey key;
  MemberOutcome outcome = MemberOutcome::kFailed;
  std::string message;  // one sentence for a person
  int64_t step = 0;     // the last one that was applied
  std::string weights_hash;
  std::optional<int> rank = std::nullopt;  // that decided the outcome, where one did
};

struct CheckpointReport {
  MemberKey key;
  std::string payload;  // what the rank said, opaque to the core
};

// Sent again until it is acknowledged.
struct Report {
  ReportId id;
  std::variant<ExitReport, CheckpointReport> content;
};

struct MemberSnapshot {
  MemberKey key;
  MemberPhase phase = MemberPhase::kStarting;
  int64_t step = 0;
};

// Which process of a member's relays: mpirun (of the lead) or the daemon that mpirun asked for.
enum class RelayPart : uint8_t { kLauncher, kDaemon };

// --- events -------------------------------------------------------------------------------------

// The coordinator welcomed us; nothing that was sent before counts as arrived.
struct LinkRestored {};
struct LinkLost {};
struct StartReceived {
  MemberOrder order;
};
struct StopReceived {
  MemberKey key;
  StopMode mode = StopMode::kKill;
  std::string reason;
};
struct AcknowledgementReceived {
  std::vector<ReportId> ids;
};
struct RankAdvanced {
  MemberKey key;
  int rank = 0;
  MemberPhase phase = MemberPhase::kStarting;
  int64_t step = 0;
};
// The rank's own last word; its process ends soon after.
struct RankFinished {
  MemberKey key;
  int rank = 0;
  MemberOutcome outcome = MemberOutcome::kFailed;
  std::string message;
  int64_t step = 0;
  std::string weights_hash;
};
// The rank's process is gone, or could not be started.
struct RankEnded {
  MemberKey key;
  int rank = 0;
  bool was_sigkill = false;  // what we use ourselves: alone it says nothing about the rank
  std::string how;           // "was killed by SIGSEGV", "could not be started: ..."
};
struct CheckpointWritten {
  MemberKey key;
  std::string payload;
};
struct RelayEnded {
  MemberKey key;
  RelayPart part = RelayPart::kLauncher;
  bool clean = false;  // status 0
  std::string how;     // as in RankEnded
};
// The lead could not reach the agent of another member, or lost it.
struct PeerUnreachable {
  MemberKey key;
  std::string how;  // "worker b cannot be reached: ..."
};
struct DaemonRequested {
  DaemonRequestId request;
  MemberKey key;
};
// Nobody waits for the answer any more. A daemon that already runs is the executor's to kill.
struct DaemonRequestCancelled {
  DaemonRequestId request;
};
// The agent has to end: with kSave as much as possible is saved by the deadline, with kKill all
// ends at once. May come again, more urgent.
struct ShutdownRequested {
  StopMode mode = StopMode::kSave;
  absl::Time deadline;
};
// The wake-up that was asked for.
struct TimePassed {};

using AgentEvent = std::variant<LinkRestored, LinkLost, StartReceived, StopReceived,
                                AcknowledgementReceived, RankAdvanced, RankFinished, RankEnded,
                                CheckpointWritten, RelayEnded, PeerUnreachable, DaemonRequested,
                                DaemonRequestCancelled, ShutdownRequested, TimePassed>;

// --- actions ------------------------------------------------------------------------------------

// Start all ranks of the order and, when it leads a gang with relays, the launcher. Each process is
// taken to run until its RankEnded or RelayEnded; one that cannot be started has them at once.
struct SpawnMember {
  MemberOrder order;
};
// Ask every rank to save a checkpoint and end.
struct AskToSave {
  MemberKey key;
};
// Wake the ranks that wait for the relays: they are gone. The ranks go on to end by themselves.
struct AbortExchange {
  MemberKey key;
  std::string why;
};
// End all its processes at once: ranks, launcher, daemon.
struct KillMember {
  MemberKey key;
};
// All its processes are gone: remove what they shared.
struct ReleaseMember {
  MemberKey key;
};
struct RunDaemon {
  DaemonRequestId request;
  MemberKey key;
};
struct RefuseDaemon {
  DaemonRequestId request;
  absl::Status why;
};
struct SendReport {
  Report report;
};
// A member changed its phase, or the agent shuts down: the coordinator should know before the next
// regular heartbeat.
struct SendHeartbeat {};
// All has ended and is told, as far as possible.
struct Quit {};

using AgentAction = std::variant<SpawnMember, AskToSave, AbortExchange, KillMember, ReleaseMember,
                                 RunDaemon, RefuseDaemon, SendReport, SendHeartbeat, Quit>;

}  // namespace weft::worker

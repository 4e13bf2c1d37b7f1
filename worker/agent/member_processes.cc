#include "worker/agent/member_processes.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "common/log/log.h"
#include "worker/agent/agent_messages.h"

namespace weft::worker {
namespace {

// A secret that cannot be guessed by another user of the host.
std::string NewToken() {
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

ChildOptions ToChild(const CommandLine& line) {
  ChildOptions options;
  options.program = line.program;
  options.arguments = line.arguments;
  options.environment = line.environment;
  options.directory = line.working_directory;
  return options;
}

// Of "host:port".
bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]:");
}

std::string NotStarted(const absl::Status& why) {
  return absl::StrCat("could not be started: ", why.message());
}

}  // namespace

MemberProcesses::MemberProcesses(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
                                 RelayDaemons& daemons, Callbacks callbacks)
    : options_(std::move(options)),
      loop_(loop),
      supervisor_(supervisor),
      daemons_(daemons),
      callbacks_(std::move(callbacks)) {}

MemberProcesses::Live* MemberProcesses::Find(const MemberKey& key) {
  const auto found = live_.find(key);
  return found == live_.end() ? nullptr : &found->second;
}

std::vector<MemberProcesses::RankProcess> MemberProcesses::running_ranks() const {
  std::vector<RankProcess> running;
  for (const auto& [key, live] : live_) {
    for (const v1::GangMember& member : live.order.members()) {
      for (const v1::GangRank& rank : member.ranks()) {
        const auto child = live.ranks.find(rank.rank());
        if (child == live.ranks.end()) continue;
        running.push_back({rank.device_index(), supervisor_.PidOf(child->second)});
      }
    }
  }
  return running;
}

// --- start --------------------------------------------------------------------------------------

void MemberProcesses::Do(const SpawnMember& action) {
  const MemberOrder& order = action.order;
  Live& live = live_[order.key];
  live.key = order.key;
  live.order.ParseFromString(order.payload);  // serialized by this process
  const absl::Status site = order.has_relays() ? MakeSite(live, order) : absl::OkStatus();
  for (size_t i = 0; i < order.ranks.size(); ++i) {
    const absl::Status spawned = site.ok() ? SpawnRank(live, order, static_cast<int>(i)) : site;
    if (!spawned.ok()) {
      callbacks_.on_event(RankEnded{order.key, order.ranks[i], false, NotStarted(spawned)});
    }
  }
  if (!order.has_relays() || !order.leads()) return;
  const absl::Status launched = site.ok() ? SpawnLauncher(live, order) : site;
  if (!launched.ok()) {
    callbacks_.on_event(RelayEnded{order.key, RelayPart::kLauncher, false, NotStarted(launched)});
  }
}

absl::Status MemberProcesses::MakeSite(Live& live, const MemberOrder& order) {
  if (order.members > 1) WEFT_RETURN_IF_ERROR(options_.relay_programs.status());
  RelaySiteOptions site;
  site.job = order.key.job;
  site.generation = order.key.generation;
  site.host = order.member_index;
  site.hosts = order.members;
  site.first_rank = order.ranks.front();
  site.local_ranks = static_cast<int>(order.ranks.size());
  site.ranks = live.order.world_size();
  site.relay_program = options_.relay_program;
  site.scratch = options_.scratch;
  site.start_timeout = options_.relay_start_timeout;
  WEFT_ASSIGN_OR_RETURN(live.site, RelaySite::Create(site));
  return absl::OkStatus();
}

absl::Status MemberProcesses::SpawnRank(Live& live, const MemberOrder& order, int local_rank) {
  const int rank = order.ranks[static_cast<size_t>(local_rank)];
  const auto& ranks = live.order.members(order.member_index).ranks();
  const auto placed = std::find_if(ranks.begin(), ranks.end(), [rank](const v1::GangRank& entry) {
    return entry.rank() == rank;
  });
  const auto device = std::find_if(
      options_.devices.begin(), options_.devices.end(),
      [placed](const v1::Device& entry) { return entry.index() == placed->device_index(); });
  if (device == options_.devices.end()) {
    return absl::NotFoundError(absl::StrCat("this worker has no device ", placed->device_index()));
  }
  ChildOptions options;
  options.program = options_.rank_program;
  // A name for people who look at the list of processes.
  options.arguments = {absl::StrCat("weft-rank ", order.key.job, " rank=", rank,
                                    " generation=", order.key.generation.value())};
  options.environment = options_.environment;
  if (!device->uuid().empty()) {
    // Of two entries of one name the first counts.
    options.environment.insert(options.environment.begin(),
                               absl::StrCat("CUDA_VISIBLE_DEVICES=", device->uuid()));
  }
  options.with_messages = true;

  const MemberKey key = order.key;
  ChildCallbacks child;
  child.on_output = [this, key, rank](OutputStream stream, absl::string_view text) {
    callbacks_.on_output(key, rank, stream, text);
  };
  child.on_message = [this, key, rank](absl::StatusOr<std::string> bytes) {
    loop_.Post([this, key, rank, bytes = std::move(bytes)] { OnRankMessage(key, rank, bytes); });
  };
  child.on_exit = [this, key, rank](ExitStatus status) {
    callbacks_.on_output_end(key, rank);
    loop_.Post([this, key, rank, status] { OnRankExit(key, rank, status); });
  };
  WEFT_ASSIGN_OR_RETURN(live.ranks[rank], supervisor_.Spawn(options, std::move(child)));

  v1::AgentToRank message;
  v1::RankAssignment& assignment = *message.mutable_assignment();
  assignment.set_job(key.job);
  assignment.set_generation(key.generation.value());
  *assignment.mutable_spec() = live.order.spec();
  assignment.set_rank(rank);
  assignment.set_world_size(live.order.world_size());
  assignment.set_local_rank(local_rank);
  assignment.set_local_ranks(static_cast<int>(order.ranks.size()));
  if (live.site != nullptr) assignment.set_relay_channel(live.site->channel_name());
  assignment.set_threads(device->threads());
  *assignment.mutable_device() = *device;
  assignment.set_checkpoint_root(live.order.checkpoint_root());
  assignment.set_data_root(options_.data_root);
  supervisor_.Send(live.ranks[rank], message.SerializeAsString());
  return absl::OkStatus();
}

RelayGang MemberProcesses::GangOf(const Live& live) const {
  return RelayGang{live.key.job, live.key.generation, live.order.members_size(), live.token};
}

RelayLauncher MemberProcesses::LauncherOf(const Live& live) const {
  const auto& members = live.order.members();
  const bool all_here = std::all_of(members.begin(), members.end(), [](const auto& member) {
    return IsLoopback(member.peer_address());
  });
  RelayLauncherOptions options;
  options.programs = *options_.relay_programs;
  options.agent_socket = options_.shell_socket;
  options.scratch = options_.scratch;
  options.interfaces = all_here ? "lo" : options_.interfaces;
  return RelayLauncher(std::move(options));
}

absl::Status MemberProcesses::SpawnLauncher(Live& live, const MemberOrder& order) {
  CommandLine line = live.site->Relay(options_.environment);
  if (order.members > 1) {
    live.token = NewToken();
    WEFT_ASSIGN_OR_RETURN(line, LauncherOf(live).Mpirun(GangOf(live), options_.environment));
    daemons_.AddGang(live.token, RouteOf(live, order));
  }
  const MemberKey key = order.key;
  ChildCallbacks child;
  child.on_output = [this, key, hears = live.hears_launcher](OutputStream stream,
                                                             absl::string_view text) {
    if (*hears) callbacks_.on_output(key, -1, stream, text);
  };
  child.on_exit = [this, key](ExitStatus status) {
    loop_.Post([this, key, status] { OnLauncherExit(key, status); });
  };
  WEFT_ASSIGN_OR_RETURN(live.launcher, supervisor_.Spawn(ToChild(line), std::move(child)));
  return absl::OkStatus();
}

GangRoute MemberProcesses::RouteOf(const Live& live, const MemberOrder& order) {
  GangRoute route;
  route.key = order.key;
  route.own_index = order.member_index;
  for (const v1::GangMember& member : live.order.members()) {
    route.workers.push_back(member.worker());
    route.addresses.push_back(member.peer_address());
  }
  return route;
}

// --- what the processes say ---------------------------------------------------------------------

void MemberProcesses::OnRankMessage(const MemberKey& key, int rank,
                                    const absl::StatusOr<std::string>& bytes) {
  Live* live = Find(key);
  if (live == nullptr) return;
  v1::RankToAgent message;
  if (!bytes.ok() || !message.ParseFromString(*bytes)) {
    // It cannot be trusted any more; its end is reported when its process is gone.
    LogError("agent", "a rank sent a damaged message", {{"job", key.job}, {"rank", rank}});
    const auto child = live->ranks.find(rank);
    if (child != live->ranks.end()) supervisor_.Signal(child->second, SIGKILL);
    return;
  }
  switch (message.message_case()) {
    case v1::RankToAgent::kPhase:
      return callbacks_.on_event(
          RankAdvanced{key, rank, ToPhase(message.phase().phase()), message.phase().step()});
    case v1::RankToAgent::kStep:
      return callbacks_.on_step(key, message.step());
    case v1::RankToAgent::kRankStep:
      return callbacks_.on_rank_step(key, rank, message.rank_step());
    case v1::RankToAgent::kCheckpoint:
      message.mutable_checkpoint()->set_generation(key.generation.value());
      return callbacks_.on_event(CheckpointWritten{key, message.checkpoint().SerializeAsString()});
    case v1::RankToAgent::kFinished:
      if (message.finished().outcome() == v1::MemberExit::OUTCOME_SUCCEEDED ||
          message.finished().outcome() == v1::MemberExit::OUTCOME_SAVED) {
        live->done.insert(rank);
      }
      return callbacks_.on_event(RankFinished{key, rank, ToOutcome(message.finished().outcome()),
                                              ToValidUtf8(message.finished().message()),
                                              message.finished().step(),
                                              message.finished().weights_hash()});
    default:
      LogWarning("agent", "a rank sent a message of an unknown kind",
                 {{"job", key.job}, {"rank", rank}});
  }
}

void MemberProcesses::OnRankExit(const MemberKey& key, int rank, ExitStatus status) {
  Live* live = Find(key);
  if (live == nullptr) return;
  live->ranks.erase(rank);
  live->ended_badly |= live->done.count(rank) == 0;
  // Relays are taken down host by host then, and mpirun would call that losses.
  if (live->ranks.empty() && !live->ended_badly) *live->hears_launcher = false;
  callbacks_.on_event(RankEnded{key, rank, status.signal == SIGKILL, status.ToString()});
}

void MemberProcesses::OnLauncherExit(const MemberKey& key, ExitStatus status) {
  Live* live = Find(key);
  if (live == nullptr) return;
  live->launcher.reset();
  callbacks_.on_event(RelayEnded{key, RelayPart::kLauncher, status.ok(), status.ToString()});
}

// --- what the core wants ------------------------------------------------------------------------

void MemberProcesses::Do(const AskToSave& action) {
  const Live* live = Find(action.key);
  if (live == nullptr) return;
  v1::AgentToRank message;
  message.mutable_stop()->set_mode(v1::StopMember::MODE_SAVE);
  const std::string bytes = message.SerializeAsString();
  for (const auto& [rank, child] : live->ranks) supervisor_.Send(child, bytes);
}

void MemberProcesses::Do(const AbortExchange& action) {
  const Live* live = Find(action.key);
  if (live != nullptr && live->site != nullptr)
    live->site->Abort(absl::UnavailableError(action.why));
}

void MemberProcesses::Do(const KillMember& action) {
  const Live* live = Find(action.key);
  if (live == nullptr) return;
  // The relay is no child of ours; it leaves because of the abort, or with its daemon.
  if (live->site != nullptr) live->site->Abort(absl::AbortedError("the generation is over"));
  for (const auto& [rank, child] : live->ranks) supervisor_.Signal(child, SIGKILL);
  if (live->launcher.has_value()) supervisor_.Signal(*live->launcher, SIGKILL);
  daemons_.Kill(action.key);
}

void MemberProcesses::Do(const ReleaseMember& action) {
  Live* live = Find(action.key);
  if (live == nullptr) return;
  if (!live->token.empty()) {
    daemons_.RemoveGang(live->token);
    LauncherOf(*live).RemoveScratch(GangOf(*live));
  }
  live_.erase(action.key);
}

void MemberProcesses::Do(const RunDaemon& action) {
  const Live* live = Find(action.key);
  if (live != nullptr && live->site != nullptr) return daemons_.Run(action, *live->site);
  daemons_.Refuse(action.request, absl::FailedPreconditionError("the relay site is missing"));
  callbacks_.on_event(RelayEnded{action.key, RelayPart::kDaemon, false, "could not be started"});
}

}  // namespace weft::worker

#include "worker/agent/agent.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/log/log.h"
#include "common/rpc/grpc_channel.h"
#include "worker/agent/agent_messages.h"
#include "worker/agent/agent_metrics.h"
#include "worker/agent/leftovers.h"

namespace weft::worker {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);
constexpr absl::Duration kWelcomeTimeout = absl::Seconds(5);
constexpr size_t kKeptSteps = 10000;
constexpr size_t kBatchSteps = 200;
// Step reports that come within this time travel together.
constexpr absl::Duration kCollectSteps = absl::Milliseconds(50);
// With more than this unsent the coordinator is slow: steps wait in their bounded buffer instead.
constexpr int64_t kQueueLimitBytes = int64_t{4} << 20;
constexpr absl::Duration kMeasureInterval = absl::Seconds(1);
constexpr absl::Duration kSweepInterval = absl::Minutes(10);
constexpr absl::Duration kKeepLogs = absl::Hours(24);
constexpr absl::Duration kLogFarewell = absl::Seconds(2);
constexpr absl::Duration kLongestLag = absl::Seconds(10);
// A unix socket's address holds 107 bytes.
constexpr size_t kMaxSocketPath = 107;

std::string ShellSocketPath(const std::string& state_directory) {
  std::string path = absl::StrCat(state_directory, "/run/agent.sock");
  if (path.size() <= kMaxSocketPath) return path;
  return absl::StrCat("/tmp/weft-", std::hash<std::string>()(state_directory), ".sock");
}

std::string ValueOf(const std::vector<std::string>& environment, absl::string_view name) {
  for (const std::string& entry : environment) {
    absl::string_view rest = entry;
    if (absl::ConsumePrefix(&rest, name) && absl::ConsumePrefix(&rest, "=")) {
      return std::string(rest);
    }
  }
  return "";
}

const char* NameOf(MemberOutcome outcome) {
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return "succeeded";
    case MemberOutcome::kSaved:
      return "saved";
    case MemberOutcome::kKilled:
      return "killed";
    case MemberOutcome::kPeerLost:
      return "peer_lost";
    case MemberOutcome::kFailed:
      return "failed";
    case MemberOutcome::kUserError:
      return "user_error";
  }
  return "unknown";
}

}  // namespace

// --- making and ending --------------------------------------------------------------------------

Agent::Agent(AgentOptions options, MetricsSink& metrics)
    : options_(std::move(options)),
      metrics_(metrics),
      core_(options_.policy),
      backoff_(kFirstPause, kLongestPause),
      steps_(kKeptSteps) {}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(AgentOptions options, MetricsSink& metrics) {
  auto agent = absl::WrapUnique(new Agent(std::move(options), metrics));
  WEFT_RETURN_IF_ERROR(agent->Prepare());
  WEFT_RETURN_IF_ERROR(agent->MakeParts());
  Agent* self = agent.get();
  self->loop_->Post([self] {
    self->Connect();
    self->Measure();
  });
  self->disk_loop_->Post([self] { self->SweepSpool(); });
  return agent;
}

absl::Status Agent::Prepare() {
  const std::string& state = options_.state_directory;
  if (const int killed = KillLeftoverProcesses(state); killed > 0) {
    LogWarning("agent", "killed processes that an earlier agent left", {{"processes", killed}});
  }
  std::error_code error;
  std::filesystem::create_directories(absl::StrCat(state, "/run"), error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", state, "/run"));
  }
  WEFT_RETURN_IF_ERROR(
      Annotate(RelaySite::RemoveLeftovers(absl::StrCat(state, "/run")), "leftovers"));
  relay_programs_ =
      FindRelayPrograms(options_.program_directory, ValueOf(options_.environment, "PATH"));
  if (!relay_programs_.ok()) {
    LogWarning("agent", "jobs on more than one worker cannot run here",
               {{"why", relay_programs_.status().message()}});
  }
  return absl::OkStatus();
}

absl::Status Agent::MakeParts() {
  const std::string& state = options_.state_directory;
  std::vector<std::string> environment = options_.environment;
  environment.push_back(absl::StrCat(kOwnerVariable, "=", state));

  WEFT_ASSIGN_OR_RETURN(spool_, LogSpool::Open(absl::StrCat(state, "/logs"), options_.spool));
  loop_ = std::make_unique<RealEventLoop>();
  disk_loop_ = std::make_unique<RealEventLoop>();
  WEFT_ASSIGN_OR_RETURN(supervisor_, ProcessSupervisor::Create());

  RelayDaemons::Options daemons{options_.listen, ShellSocketPath(state), environment};
  WEFT_ASSIGN_OR_RETURN(daemons_,
                        RelayDaemons::Start(daemons, *loop_, *supervisor_,
                                            {[this](AgentEvent event) { Feed(std::move(event)); },
                                             [this](const MemberKey& key, absl::string_view text) {
                                               OnOutput(key, -1, OutputStream::kStderr, text);
                                             }}));
  peer_address_ = options_.advertise.empty() ? daemons_->address() : options_.advertise;

  MemberProcesses::Options members;
  members.worker = options_.name;
  members.devices = options_.devices;
  members.rank_program = absl::StrCat(options_.program_directory, "/weft-rank");
  members.relay_programs = relay_programs_;
  members.environment = environment;
  members.shell_socket = daemons.shell_socket;
  members.scratch = absl::StrCat(state, "/run");
  members.data_root = options_.data_root;
  members.interfaces = options_.interfaces;
  MemberProcesses::Callbacks callbacks;
  callbacks.on_event = [this](AgentEvent event) { Feed(std::move(event)); };
  callbacks.on_step = [this](const MemberKey& key, const v1::StepReport& step) {
    OnStep(key, step);
  };
  callbacks.on_output = [this](const MemberKey& key, int rank, OutputStream stream,
                               absl::string_view text) { OnOutput(key, rank, stream, text); };
  callbacks.on_output_end = [this](const MemberKey& key, int rank) { OnOutputEnd(key, rank); };
  members_ = std::make_unique<MemberProcesses>(std::move(members), *loop_, *supervisor_, *daemons_,
                                               std::move(callbacks));

  SamplerProcesses::Options samplers;
  samplers.rank_program = absl::StrCat(options_.program_directory, "/weft-rank");
  samplers.environment = environment;
  samplers.threads = options_.devices.front().threads();
  samplers_ = std::make_unique<SamplerProcesses>(std::move(samplers), *loop_, *supervisor_,
                                                 [this](v1::SampleChunk chunk) {
                                                   v1::WorkerMessage message;
                                                   *message.mutable_sample() = std::move(chunk);
                                                   Send(std::move(message));
                                                 });

  shipper_ =
      std::make_unique<LogShipper>(options_.name, *disk_loop_, *spool_, [this](v1::LogBatch batch) {
        loop_->Post([this, batch = std::move(batch)]() mutable {
          v1::WorkerMessage message;
          *message.mutable_logs() = std::move(batch);
          Send(std::move(message));
        });
      });
  return absl::OkStatus();
}

Agent::~Agent() {
  if (loop_ != nullptr) {
    loop_->Post([this] {
      ending_ = true;
      link_.reset();
    });
    {
      // What gRPC still has to say, it says to a loop that is there.
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](int* open) { return *open == 0; }, &open_streams_));
    }
    loop_->Stop();  // from here on nothing happens any more; what is left is taken down
  }
  if (daemons_ != nullptr) daemons_->Shutdown();
  supervisor_.reset();  // kills and reaps the children
  if (disk_loop_ != nullptr) disk_loop_->Stop();
}

void Agent::RequestShutdown(StopMode mode, absl::Duration grace) {
  loop_->Post([this, mode, grace] {
    samplers_->CancelAll();
    Feed(ShutdownRequested{mode, loop_->clock().Now() + grace});
  });
}

absl::Status Agent::Wait() {
  done_.WaitForNotification();
  const absl::MutexLock lock(&mutex_);
  return result_;
}

absl::Status Agent::Live() const {
  const absl::Duration lag = loop_->Lag();
  if (lag < kLongestLag) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the agent's loop has been stuck for ", absl::FormatDuration(lag)));
}

absl::Status Agent::Ready() const {
  if (ready_) return absl::OkStatus();
  return absl::UnavailableError("the coordinator is not connected");
}

void Agent::End(absl::Status result) {
  if (std::exchange(ending_, true)) return;
  if (link_ != nullptr) link_->Finish();
  const absl::MutexLock lock(&mutex_);
  result_ = std::move(result);
  done_.Notify();
}

void Agent::EndWhenLogsAreSent(absl::Time deadline) {
  const absl::Time now = loop_->clock().Now();
  if (!welcomed_ || now >= deadline || (shipper_->idle() && link_->queued_bytes() == 0)) {
    return End(absl::OkStatus());
  }
  loop_->RunAt(now + absl::Milliseconds(20), [this, deadline] { EndWhenLogsAreSent(deadline); });
}

// --- the core -----------------------------------------------------------------------------------

void Agent::Feed(AgentEvent event) {
  // An action may bring an event at once; it waits until the present actions are done.
  waiting_events_.push_back(std::move(event));
  if (std::exchange(stepping_, true)) return;
  while (!waiting_events_.empty()) {
    std::vector<AgentEvent> events;
    events.swap(waiting_events_);
    for (const AgentEvent& next : events) {
      for (const AgentAction& action : core_.Step(next, loop_->clock().Now())) Perform(action);
    }
  }
  stepping_ = false;
  SetWakeup();
}

void Agent::SetWakeup() {
  if (wakeup_.has_value()) loop_->Cancel(*wakeup_);
  wakeup_.reset();
  const absl::Time next = core_.NextWakeup();
  if (next == absl::InfiniteFuture()) return;
  wakeup_ = loop_->RunAt(next, [this] {
    wakeup_.reset();
    Feed(TimePassed{});
  });
}

void Agent::Perform(const AgentAction& action) {
  struct Performer {
    Agent& agent;
    void operator()(const SpawnMember& concrete) const { agent.Do(concrete); }
    void operator()(const AskToSave& concrete) const { agent.members_->Do(concrete); }
    void operator()(const AbortExchange& concrete) const { agent.members_->Do(concrete); }
    void operator()(const KillMember& concrete) const { agent.members_->Do(concrete); }
    void operator()(const ReleaseMember& concrete) const { agent.members_->Do(concrete); }
    void operator()(const RunDaemon& concrete) const { agent.members_->Do(concrete); }
    void operator()(const RefuseDaemon& concrete) const {
      agent.daemons_->Refuse(concrete.request, concrete.why);
    }
    void operator()(const SendReport& concrete) const { agent.Do(concrete); }
    void operator()(const SendHeartbeat& concrete) const { agent.Do(concrete); }
    void operator()(const Quit& concrete) const { agent.Do(concrete); }
  };
  std::visit(Performer{*this}, action);
}

void Agent::Do(const SpawnMember& action) {
  const MemberKey& key = action.order.key;
  LogInfo("agent", "starting a member",
          {{"job", key.job},
           {"generation", key.generation.value()},
           {"ranks", action.order.ranks.size()},
           {"workers", action.order.members}});
  starting_[key] = loop_->clock().Now();
  members_->Do(action);
}

void Agent::Do(const SendReport& action) {
  const Report& report = action.report;
  FlushSteps();  // what was done before it ended is told before
  Send(ToMessage(report));
  const auto* exit = std::get_if<ExitReport>(&report.content);
  if (exit == nullptr || report.id <= last_counted_) return;
  last_counted_ = report.id;
  starting_.erase(exit->key);
  metrics_.Add(kExits, {NameOf(exit->outcome)}, 1);
  LogInfo("agent", "a member ended",
          {{"job", exit->key.job},
           {"generation", exit->key.generation.value()},
           {"outcome", NameOf(exit->outcome)},
           {"step", exit->step},
           {"message", exit->message}});
}

void Agent::Do(const SendHeartbeat& /*action*/) {
  for (const MemberSnapshot& member : core_.Running()) {
    if (member.phase == MemberPhase::kStarting) continue;
    const auto started = starting_.find(member.key);
    if (started == starting_.end()) continue;
    metrics_.Observe(kStartSeconds, {"any"},
                     absl::ToDoubleSeconds(loop_->clock().Now() - started->second));
    starting_.erase(started);
  }
  SendBeat();
}

void Agent::Do(const Quit& /*action*/) { EndWhenLogsAreSent(loop_->clock().Now() + kLogFarewell); }

// --- the link -----------------------------------------------------------------------------------

void Agent::Connect() {
  if (ending_) return;
  const absl::StatusOr<std::string> address = options_.coordinator();
  if (!address.ok()) return ConnectLater(address.status());
  if (channel_ == nullptr || channel_address_ != *address) {
    ChannelOptions channel;
    channel.max_reconnect_pause = absl::Milliseconds(500);  // the pauses that count are ours
    channel_ = NewChannel(*address, channel);
    channel_address_ = *address;
  }
  const int64_t attempt = ++attempt_;
  {
    const absl::MutexLock lock(&mutex_);
    ++open_streams_;
  }
  CoordinatorLink::Callbacks callbacks;
  callbacks.on_message = [this, attempt](v1::CoordinatorMessage message) {
    loop_->Post([this, attempt, message = std::move(message)]() mutable {
      OnLinkMessage(attempt, std::move(message));
    });
  };
  callbacks.on_end = [this, attempt](const absl::Status& status) {
    loop_->Post([this, attempt, status] { OnLinkEnd(attempt, status); });
    const absl::MutexLock lock(&mutex_);
    --open_streams_;
  };
  link_ = std::make_unique<CoordinatorLink>(channel_, MakeHello(), std::move(callbacks));
  loop_->RunAt(loop_->clock().Now() + kWelcomeTimeout, [this, attempt] {
    if (attempt == attempt_ && !welcomed_ && link_ != nullptr) link_->Cancel();
  });
}

void Agent::ConnectLater(const absl::Status& why) {
  // One line for a change, not one for each attempt.
  const std::string trouble = absl::StatusCodeToString(why.code());
  if (trouble != last_trouble_) {
    LogWarning("agent", "no connection to the coordinator; trying on",
               {{"address", channel_address_}, {"why", why.message()}});
    last_trouble_ = trouble;
  }
  loop_->RunAt(loop_->clock().Now() + backoff_.Next(), [this] { Connect(); });
}

v1::WorkerMessage Agent::MakeHello() const {
  v1::WorkerMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(options_.protocol_version);
  hello.set_worker(options_.name);
  hello.set_incarnation(options_.incarnation);
  for (const v1::Device& device : options_.devices) *hello.add_devices() = device;
  hello.set_peer_address(peer_address_);
  hello.set_version(options_.version);
  for (const MemberSnapshot& member : core_.Running()) *hello.add_running() = ToMessage(member);
  for (const Report& report : core_.UnacknowledgedExits()) {
    *hello.add_ended() = ToMessage(report.id, std::get<ExitReport>(report.content));
  }
  return message;
}

void Agent::OnLinkMessage(int64_t attempt, v1::CoordinatorMessage message) {
  if (attempt != attempt_ || link_ == nullptr) return;
  if (message.has_welcome()) return OnWelcome(message.welcome());
  if (welcomed_) Handle(message);
}

void Agent::OnWelcome(const v1::Welcome& welcome) {
  if (std::exchange(welcomed_, true)) return;
  ready_ = true;
  backoff_.Reset();
  last_trouble_.clear();
  heartbeat_interval_ = std::clamp(absl::Milliseconds(welcome.heartbeat_milliseconds()),
                                   absl::Milliseconds(10), absl::Minutes(1));
  LogInfo("agent", "connected to the coordinator",
          {{"address", channel_address_}, {"worker", options_.name}});
  metrics_.Set(kLinkUp, {}, 1);
  Feed(LinkRestored{});
  FlushSteps();
  BeatAgain();
  shipper_->OnConnected();
}

void Agent::OnLinkEnd(int64_t attempt, const absl::Status& status) {
  if (attempt != attempt_ || link_ == nullptr) return;
  link_.reset();
  ready_ = false;
  metrics_.Set(kLinkUp, {}, 0);
  if (std::exchange(welcomed_, false)) {
    metrics_.Add(kLinkLosses, {}, 1);
    shipper_->OnDisconnected();
    samplers_->CancelAll();  // nobody reads their text any more
    steps_.TakeBack();
    Feed(LinkLost{});
  } else if (absl::IsFailedPrecondition(status)) {
    return End(status);
  }
  if (ending_) return;
  ConnectLater(status.ok() ? absl::UnavailableError("the coordinator closed the connection")
                           : status);
}

void Agent::Handle(const v1::CoordinatorMessage& message) {
  const auto complain = [](const absl::Status& status) {
    LogError("agent", "the coordinator sent an order that makes no sense",
             {{"why", status.message()}});
  };
  switch (message.message_case()) {
    case v1::CoordinatorMessage::kStart: {
      absl::StatusOr<MemberOrder> order = ToOrder(message.start(), options_.name);
      if (!order.ok()) return complain(order.status());
      return Feed(StartReceived{*std::move(order)});
    }
    case v1::CoordinatorMessage::kStop: {
      absl::StatusOr<StopReceived> stop = ToEvent(message.stop());
      if (!stop.ok()) return complain(stop.status());
      return Feed(*std::move(stop));
    }
    case v1::CoordinatorMessage::kAcknowledged: {
      AcknowledgementReceived event;
      for (const int64_t id : message.acknowledged().ids()) event.ids.emplace_back(id);
      return Feed(std::move(event));
    }
    case v1::CoordinatorMessage::kRunSample:
      return samplers_->Run(message.run_sample());
    case v1::CoordinatorMessage::kCancelSample:
      return samplers_->Cancel(message.cancel_sample().id());
    case v1::CoordinatorMessage::kLogsStored: {
      const absl::StatusOr<std::string> id = JobIdOf(message.logs_stored().job());
      if (!id.ok()) return complain(id.status());
      return shipper_->OnStored(*id, message.logs_stored().next());
    }
    default:
      LogWarning("agent", "the coordinator sent a message of an unknown kind");
  }
}

void Agent::Send(v1::WorkerMessage message) {
  if (welcomed_ && link_ != nullptr) link_->Send(std::move(message));
}

void Agent::BeatAgain() {
  if (!welcomed_) return;
  SendBeat();
  loop_->RunAt(loop_->clock().Now() + heartbeat_interval_, [this, attempt = attempt_] {
    if (attempt == attempt_) BeatAgain();
  });
}

void Agent::SendBeat() {
  if (!welcomed_ || link_ == nullptr) return;
  v1::WorkerMessage message;
  v1::Heartbeat& heartbeat = *message.mutable_heartbeat();
  heartbeat.set_sequence(++heartbeat_sequence_);
  for (const MemberSnapshot& member : core_.Running()) *heartbeat.add_running() = ToMessage(member);
  for (const Report& report : core_.UnacknowledgedExits()) {
    *heartbeat.add_ended() = ToMessage(report.id, std::get<ExitReport>(report.content));
  }
  Send(std::move(message));
  last_heartbeat_ = loop_->clock().Now();
}

// --- steps, logs, measurements ------------------------------------------------------------------

void Agent::OnStep(const MemberKey& key, const v1::StepReport& step) {
  steps_.Add(key, step);
  if (std::exchange(flush_pending_, true)) return;
  loop_->RunAt(loop_->clock().Now() + kCollectSteps, [this] {
    flush_pending_ = false;
    FlushSteps();
  });
}

void Agent::FlushSteps() {
  if (!welcomed_ || link_ == nullptr || link_->queued_bytes() > kQueueLimitBytes) return;
  for (v1::StepBatch& batch : steps_.Take(kBatchSteps)) {
    v1::WorkerMessage message;
    *message.mutable_steps() = std::move(batch);
    Send(std::move(message));
  }
}

void Agent::OnOutput(const MemberKey& key, int rank, OutputStream stream, absl::string_view text) {
  const absl::StatusOr<std::string> id = JobIdOf(key.job);
  if (!id.ok()) return;
  const absl::Time now = absl::Now();
  for (std::string& line : splitters_[OutputKey{key, rank, stream}].Append(text)) {
    spool_->Append(*id, SpooledLine{now, rank, key.generation.value(), std::move(line)});
  }
}

void Agent::OnOutputEnd(const MemberKey& key, int rank) {
  const absl::StatusOr<std::string> id = JobIdOf(key.job);
  for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
    const auto found = splitters_.find(OutputKey{key, rank, stream});
    if (found == splitters_.end()) continue;
    for (std::string& line : found->second.Finish()) {
      spool_->Append(*id, SpooledLine{absl::Now(), rank, key.generation.value(), std::move(line)});
    }
    splitters_.erase(found);
  }
}

void Agent::SweepSpool() {
  loop_->Post([this] {
    std::set<std::string> running;
    for (const MemberSnapshot& member : core_.Running()) {
      if (auto id = JobIdOf(member.key.job); id.ok()) running.insert(*std::move(id));
    }
    disk_loop_->Post(
        [this, running = std::move(running)] { spool_->Sweep(running, absl::Now() - kKeepLogs); });
  });
  disk_loop_->RunAt(disk_loop_->clock().Now() + kSweepInterval, [this] { SweepSpool(); });
}

void Agent::Measure() {
  const absl::Time now = loop_->clock().Now();
  metrics_.Set(kRanksRunning, {}, members_->running_ranks());
  metrics_.Set(kMembersRunning, {}, static_cast<double>(core_.Running().size()));
  if (last_heartbeat_ != absl::InfinitePast()) {
    metrics_.Set(kHeartbeatAge, {}, absl::ToDoubleSeconds(now - last_heartbeat_));
  }
  metrics_.Set(kSpoolBytes, {}, static_cast<double>(spool_->bytes()));
  metrics_.Set(kLogLinesDropped, {}, static_cast<double>(spool_->dropped_lines()));
  metrics_.Set(kLoopLag, {}, absl::ToDoubleSeconds(loop_->Lag()));
  loop_->RunAt(now + kMeasureInterval, [this] { Measure(); });
}

}  // namespace weft::worker

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
#include "common/tls/tls_probe.h"
#include "worker/agent/agent_messages.h"
#include "worker/agent/agent_metrics.h"
#include "worker/agent/leftovers.h"

namespace weft::worker {
namespace {

constexpr size_t kKeptSteps = 20000;  // some 200 bytes each
constexpr size_t kBatchSteps = 200;
// A coordinator that could not store steps is sent them again after this time.
constexpr absl::Duration kStepsRetry = absl::Seconds(10);
// Step reports that come within this time travel together.
constexpr absl::Duration kCollectSteps = absl::Milliseconds(50);
// With more than this unsent the coordinator is slow: steps wait in their bounded buffer instead.
constexpr int64_t kQueueLimitBytes = int64_t{4} << 20;
constexpr absl::Duration kMeasureInterval = absl::Seconds(1);
constexpr absl::Duration kSweepInterval = absl::Minutes(10);
constexpr absl::Duration kKeepLogs = absl::Hours(24);
constexpr absl::Duration kFarewell = absl::Seconds(2);
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

}  // namespace

// --- making and ending --------------------------------------------------------------------------

Agent::Agent(AgentOptions options, MetricsSink& metrics)
    : options_(std::move(options)),
      metrics_(metrics),
      process_metrics_(metrics),
      rank_metrics_(metrics, options_.devices),
      gpu_metrics_(metrics, options_.devices),
      certificate_(metrics, options_.tls.cert),
      core_(options_.policy),
      steps_(kKeptSteps) {}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(AgentOptions options, MetricsSink& metrics) {
  auto agent = absl::WrapUnique(new Agent(std::move(options), metrics));
  WEFT_RETURN_IF_ERROR(agent->Prepare());
  WEFT_RETURN_IF_ERROR(agent->MakeParts());
  Agent* self = agent.get();
  metrics.Set(kWorkerFacts, {agent->options_.name}, 1);
  self->loop_->Post([self] {
    self->link_->Open();
    self->Measure();
  });
  self->disk_loop_->Post([self] {
    self->SweepSpool();
    self->MeasureSlowly();
  });
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
  const std::vector<std::string> environment = MarkedEnvironment(options_.environment, state);
  WEFT_ASSIGN_OR_RETURN(spool_, LogSpool::Open(absl::StrCat(state, "/logs"), options_.spool));
  output_ = std::make_unique<OutputLog>(*spool_);
  loop_ = std::make_unique<RealEventLoop>("loop");
  disk_loop_ = std::make_unique<RealEventLoop>("disk");
  link_ = std::make_unique<LinkKeeper>(*loop_, LinkCallbacks(), options_.channel_credentials);
  WEFT_ASSIGN_OR_RETURN(supervisor_, ProcessSupervisor::Create());
  RelayDaemons::Options daemons;
  daemons.listen = options_.listen;
  daemons.server_credentials = options_.server_credentials;
  daemons.channel_credentials = options_.channel_credentials;
  daemons.shell_socket = ShellSocketPath(state);
  daemons.environment = environment;
  daemons.peer_contact_timeout = options_.policy.peer_contact_timeout;
  WEFT_ASSIGN_OR_RETURN(
      daemons_, RelayDaemons::Start(daemons, *loop_, *supervisor_,
                                    {[this](AgentEvent event) { Feed(std::move(event)); },
                                     [this](const MemberKey& key, absl::string_view text) {
                                       output_->Append(key, -1, OutputStream::kStderr, text);
                                     },
                                     Explainer()}));
  peer_address_ = options_.advertise.empty() ? daemons_->address() : options_.advertise;
  MakeProcessParts(environment);
  const auto send_logs = [this](v1::LogBatch batch) {
    v1::WorkerMessage message;
    *message.mutable_logs() = std::move(batch);
    loop_->Post(
        [this, message = std::move(message)]() mutable { link_->Send(std::move(message)); });
  };
  shipper_ = std::make_unique<LogShipper>(options_.name, *disk_loop_, *spool_, send_logs);
  exits_ = std::make_unique<ExitGate>(*loop_, *shipper_,
                                      [this](const Report& exit) { link_->Send(ToMessage(exit)); });
  return absl::OkStatus();
}

void Agent::MakeProcessParts(const std::vector<std::string>& environment) {
  const std::string rank_program = absl::StrCat(options_.program_directory, "/weft-rank");
  MemberProcesses::Options members;
  members.devices = options_.devices;
  members.rank_program = rank_program;
  members.relay_program = absl::StrCat(options_.program_directory, "/weft-relay");
  members.relay_programs = relay_programs_;
  members.environment = environment;
  members.shell_socket = ShellSocketPath(options_.state_directory);
  members.scratch = absl::StrCat(options_.state_directory, "/run");
  members.data_root = options_.data_root;
  members.interfaces = options_.interfaces;
  MemberProcesses::Callbacks callbacks;
  callbacks.on_event = [this](AgentEvent event) { Feed(std::move(event)); };
  callbacks.on_step = [this](const MemberKey& key, const v1::StepReport& step) {
    OnStep(key, step);
  };
  callbacks.on_rank_step = [this](const MemberKey& key, int rank, const v1::RankStep& step) {
    rank_metrics_.OnStep(key, rank, step);
  };
  callbacks.on_output = [this](const MemberKey& key, int rank, OutputStream stream,
                               absl::string_view text) {
    output_->Append(key, rank, stream, text);
  };
  callbacks.on_output_end = [this](const MemberKey& key, int rank) { output_->Finish(key, rank); };
  members_ = std::make_unique<MemberProcesses>(std::move(members), *loop_, *supervisor_, *daemons_,
                                               std::move(callbacks));
  SamplerProcesses::Options samplers;
  samplers.rank_program = rank_program;
  samplers.environment = environment;
  samplers.threads = options_.devices.front().threads();
  const auto send_chunk = [this](v1::SampleChunk chunk) {
    v1::WorkerMessage message;
    *message.mutable_sample() = std::move(chunk);
    link_->Send(std::move(message));
  };
  samplers_ =
      std::make_unique<SamplerProcesses>(std::move(samplers), *loop_, *supervisor_, send_chunk);
}

Agent::~Agent() {
  if (link_ != nullptr) link_->Close();
  // From here on nothing happens any more; what is left is taken down.
  if (loop_ != nullptr) loop_->Stop();
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
  const absl::Duration stuck = loop_->Stuck();
  if (stuck < options_.hang_timeout) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the agent's loop has been stuck for ", absl::FormatDuration(stuck)));
}

absl::Status Agent::Ready() const {
  if (link_->up()) return absl::OkStatus();
  return absl::UnavailableError("the coordinator is not connected");
}

void Agent::End(absl::Status result) {
  if (std::exchange(ending_, true)) return;
  link_->Finish();
  const absl::MutexLock lock(&mutex_);
  result_ = std::move(result);
  done_.Notify();
}

void Agent::EndWhenAllIsSent(absl::Time deadline) {
  const absl::Time now = loop_->clock().Now();
  const bool all_sent = shipper_->idle() && steps_.empty() && link_->queued_bytes() == 0;
  if (!link_->up() || now >= deadline || all_sent) {
    return End(absl::OkStatus());
  }
  loop_->RunAt(now + absl::Milliseconds(20), [this, deadline] { EndWhenAllIsSent(deadline); });
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
    void operator()(const ReleaseMember& concrete) const { agent.Do(concrete); }
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
  starting_[key] = Starting{loop_->clock().Now(), action.order.has_relays()};
  members_->Do(action);
}

void Agent::Do(const ReleaseMember& action) {
  members_->Do(action);
  rank_metrics_.End(action.key);
}

void Agent::Do(const SendReport& action) {
  const Report& report = action.report;
  FlushSteps();  // what was done before it ended is told before
  const auto* exit = std::get_if<ExitReport>(&report.content);
  if (exit == nullptr) return link_->Send(ToMessage(report));
  exits_->Send(report);
  if (report.id <= last_counted_) return;
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
    metrics_.Observe(kStartSeconds, {started->second.with_relays ? "yes" : "no"},
                     absl::ToDoubleSeconds(loop_->clock().Now() - started->second.since));
    starting_.erase(started);
  }
  link_->SendHeartbeat();
}

void Agent::Do(const Quit& /*action*/) { EndWhenAllIsSent(loop_->clock().Now() + kFarewell); }

// --- the link -----------------------------------------------------------------------------------

LinkKeeper::Callbacks Agent::LinkCallbacks() {
  LinkKeeper::Callbacks callbacks;
  callbacks.address = options_.coordinator;
  callbacks.hello = [this] { return MakeHello(); };
  callbacks.heartbeat = [this] { return MakeHeartbeat(); };
  callbacks.on_up = [this] { OnLinkUp(); };
  callbacks.on_down = [this] { OnLinkDown(); };
  callbacks.on_message = [this](const v1::CoordinatorMessage& message) { Handle(message); };
  callbacks.on_refused = [this](const absl::Status& status) { End(status); };
  callbacks.explain = Explainer();
  return callbacks;
}

// It blocks, so it is not for the loop.
std::function<void(const std::string&, std::function<void(std::string)>)> Agent::Explainer() {
  return [this](const std::string& address, std::function<void(std::string)> done) {
    disk_loop_->Post([this, address, done = std::move(done)]() mutable {
      TlsProbe probe;
      probe.address = address;
      probe.files = options_.tls;
      loop_->Post([done = std::move(done), why = ExplainTls(probe)] { done(why); });
    });
  };
}

v1::Hello Agent::MakeHello() const {
  v1::Hello hello;
  hello.set_protocol_version(options_.protocol_version);
  hello.set_worker(options_.name);
  hello.set_incarnation(options_.incarnation);
  for (const v1::Device& device : options_.devices) *hello.add_devices() = device;
  hello.set_peer_address(peer_address_);
  hello.set_version(options_.version);
  v1::Heartbeat state = MakeHeartbeat();
  hello.mutable_running()->Swap(state.mutable_running());
  hello.mutable_ended()->Swap(state.mutable_ended());
  return hello;
}

v1::Heartbeat Agent::MakeHeartbeat() const {
  v1::Heartbeat heartbeat;
  for (const MemberSnapshot& member : core_.Running()) *heartbeat.add_running() = ToMessage(member);
  for (const Report& report : core_.UnacknowledgedExits()) {
    const ExitReport& exit = std::get<ExitReport>(report.content);
    if (exits_->Holds(report.id)) {
      *heartbeat.add_running() = ToMessage({exit.key, MemberPhase::kStopping, exit.step});
    } else {
      *heartbeat.add_ended() = ToMessage(report.id, exit);
    }
  }
  heartbeat.set_leaving(core_.leaving());
  return heartbeat;
}

void Agent::OnLinkUp() {
  metrics_.Set(kLinkUp, {}, 1);
  Feed(LinkRestored{});
  FlushSteps();
  shipper_->OnConnected();
}

void Agent::OnLinkDown() {
  metrics_.Set(kLinkUp, {}, 0);
  metrics_.Add(kLinkLosses, {}, 1);
  shipper_->OnDisconnected();
  samplers_->CancelAll();  // nobody reads their text any more
  steps_.TakeBack();
  Feed(LinkLost{});
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
    case v1::CoordinatorMessage::kStepsStored: {
      const v1::StepsStored& stored = message.steps_stored();
      return steps_.OnStored({stored.job(), Generation(stored.generation())}, stored.first(),
                             stored.last());
    }
    default:
      LogWarning("agent", "the coordinator sent a message of an unknown kind");
  }
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
  if (!link_->up() || link_->queued_bytes() > kQueueLimitBytes) return;
  for (v1::StepBatch& batch : steps_.Take(kBatchSteps, loop_->clock().Now())) {
    v1::WorkerMessage message;
    *message.mutable_steps() = std::move(batch);
    link_->Send(std::move(message));
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

// Not on the loop: a driver or a disk that hangs must not silence the agent.
void Agent::MeasureSlowly() {
  if (gpu_metrics_.has_gpus()) gpu_metrics_.Measure();
  certificate_.Measure();
  disk_loop_->RunAt(disk_loop_->clock().Now() + kMeasureInterval, [this] { MeasureSlowly(); });
}

void Agent::Measure() {
  const absl::Time now = loop_->clock().Now();
  steps_.TakeBack(now - kStepsRetry);
  FlushSteps();
  const auto ranks = members_->running_ranks();
  metrics_.Set(kRanksRunning, {}, static_cast<double>(ranks.size()));
  rank_metrics_.Measure(ranks, now);
  metrics_.Set(kMembersRunning, {}, static_cast<double>(core_.Running().size()));
  if (link_->last_heartbeat() != absl::InfinitePast()) {
    metrics_.Set(kLinkHeartbeatAge, {}, absl::ToDoubleSeconds(now - link_->last_heartbeat()));
  }
  metrics_.Set(kSpoolBytes, {}, static_cast<double>(spool_->bytes()));
  metrics_.Set(kLogLinesDropped, {}, static_cast<double>(spool_->dropped_lines()));
  process_metrics_.Measure();
  metrics_.Set(kLoopLag, {}, absl::ToDoubleSeconds(loop_->Lag()));
  loop_->RunAt(now + kMeasureInterval, [this] { Measure(); });
}

}  // namespace weft::worker

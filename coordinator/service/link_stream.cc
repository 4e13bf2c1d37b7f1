#include "coordinator/service/link_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/utf8.h"
#include "common/log/log.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/wire.h"
#include "coordinator/service/worker_links.h"

namespace weft::coordinator {
namespace {

constexpr size_t kMaxOutgoing = 1000;
// Batches that wait for the disk; beyond this the worker's next message waits as well.
constexpr int64_t kMaxLogsInFlight = 32;
constexpr size_t kMaxHeardJobs = 1000;

absl::Status CheckProtocol(const v1::Hello& hello, const std::string& version) {
  if (hello.protocol_version() == kProtocolVersion) return absl::OkStatus();
  const bool worker_is_older = hello.protocol_version() < kProtocolVersion;
  return absl::FailedPreconditionError(absl::StrCat(
      "worker ", Utf8Prefix(hello.worker(), 100), " (version ", Utf8Prefix(hello.version(), 100),
      ") speaks link protocol ", hello.protocol_version(), ", this coordinator (version ", version,
      ") speaks ", kProtocolVersion, ": update the ", worker_is_older ? "worker" : "coordinator"));
}

}  // namespace

LinkStream::LinkStream(const ServiceContext& context, WorkerLinks& links)
    : LoopStream(context.loop, context.streams), context_(context), links_(links) {
  PostBegin();
}

void LinkStream::OnBegin() { ReadNext(); }

void LinkStream::ReadNext() {
  if (ended()) return;
  if (logs_in_flight_ >= kMaxLogsInFlight) {
    read_waits_ = true;
    return;
  }
  incoming_.Clear();
  StartRead(&incoming_);
}

void LinkStream::OnReadDone(bool ok) {
  loop().Post([this, ok] {
    if (!ok) return End(absl::OkStatus());  // the agent has ended the stream
    if (ended()) return;
    OnMessage(std::move(incoming_));
    ReadNext();
  });
}

void LinkStream::OnMessage(v1::WorkerMessage message) {
  using Kind = v1::WorkerMessage::MessageCase;
  if (!said_hello_ && message.message_case() != Kind::kHello) {
    return End(absl::InvalidArgumentError("the first message of a worker must be hello"));
  }
  switch (message.message_case()) {
    case Kind::kHello:
      return OnHello(message.hello());
    case Kind::kHeartbeat:
      return OnHeartbeat(message.heartbeat());
    case Kind::kExit:
      return OnExit(message.exit());
    case Kind::kSteps:
      return OnSteps(std::move(*message.mutable_steps()));
    case Kind::kLogs:
      return OnLogs(std::move(*message.mutable_logs()));
    case Kind::kCheckpoint:
      return OnCheckpoint(message.checkpoint());
    case Kind::kSample:
      return links_.OnSampleChunk(this, message.sample());
    case Kind::MESSAGE_NOT_SET:
      return;  // of a later version: the protocol number would say if it mattered
  }
}

void LinkStream::OnHello(const v1::Hello& hello) {
  if (said_hello_) return End(absl::InvalidArgumentError("a second hello on one stream"));
  said_hello_ = true;
  if (absl::Status status = CheckProtocol(hello, context_.version); !status.ok()) {
    LogWarning("link", "worker refused", {{"reason", status.message()}});
    return End(status);
  }
  absl::StatusOr<WorkerJoined> joined = FromWire(hello);
  if (!joined.ok()) return End(joined.status());
  worker_ = joined->worker;
  incarnation_ = joined->incarnation;
  device_class_ = joined->offer.device_class;
  slots_ = joined->offer.slots;
  Remember(hello.running());
  links_.Add(this);  // before the event: its commands may come at once
  context_.Handle(*joined,
                  WhileAlive([this](const absl::StatusOr<JobId>& reply) { OnJoined(reply); }));
}

void LinkStream::OnJoined(const absl::StatusOr<JobId>& reply) {
  if (ended()) return;
  if (!reply.ok()) {
    LogWarning("link", "worker refused",
               {{"worker", worker_}, {"reason", reply.status().message()}});
    return End(reply.status());
  }
  joined_ = true;
  LogInfo("link", "worker joined", {{"worker", worker_}, {"incarnation", incarnation_}});
  v1::CoordinatorMessage message;
  message.mutable_welcome()->set_coordinator_incarnation(context_.incarnation);
  message.mutable_welcome()->set_heartbeat_milliseconds(
      static_cast<int32_t>(absl::ToInt64Milliseconds(context_.driver.policy().heartbeat_interval)));
  outgoing_.push_front(std::move(message));  // the first word, whatever commands wait already
  WriteNext();
}

void LinkStream::OnHeartbeat(const v1::Heartbeat& heartbeat) {
  absl::StatusOr<std::vector<MemberReport>> running = FromWire(heartbeat.running(), slots_);
  if (!running.ok()) return End(running.status());
  absl::StatusOr<std::vector<EndedMember>> ended = FromWire(heartbeat.ended());
  if (!ended.ok()) return End(ended.status());
  Remember(heartbeat.running());
  context_.Handle(Heartbeat{.worker = worker_,
                            .incarnation = incarnation_,
                            .sequence = heartbeat.sequence(),
                            .running = *std::move(running),
                            .ended = *std::move(ended),
                            .leaving = heartbeat.leaving()},
                  WhileAlive([this](const absl::StatusOr<JobId>& reply) {
                    // Another stream, or a restart, is what counts now: the agent joins anew.
                    if (absl::IsAborted(reply.status())) End(reply.status());
                  }));
}

void LinkStream::OnExit(const v1::MemberExit& exit) {
  absl::StatusOr<MemberExited> exited = FromWire(exit);
  if (!exited.ok()) return End(exited.status());
  exited->worker = worker_;
  exited->incarnation = incarnation_;
  LogInfo("link", "member ended",
          {{"worker", worker_},
           {"job", exit.job()},
           {"generation", exit.generation()},
           {"outcome", v1::MemberExit::Outcome_Name(exit.outcome())},
           {"message", exited->message}});
  context_.Handle(*exited, WhileAlive([this, id = exit.id()](const absl::StatusOr<JobId>& reply) {
    Acknowledge(id, reply.status());
  }));
}

void LinkStream::OnCheckpoint(const v1::CheckpointPublished& published) {
  absl::StatusOr<CheckpointPublished> event =
      FromWire(published, device_class_, loop().clock().Now());
  if (!event.ok()) return End(event.status());
  context_.Handle(*event,
                  WhileAlive([this, id = published.id()](const absl::StatusOr<JobId>& reply) {
                    Acknowledge(id, reply.status());
                  }));
}

// Everything but a passing trouble is final: durable, or of no interest any more.
void LinkStream::Acknowledge(int64_t id, const absl::Status& status) {
  if (absl::IsUnavailable(status) || absl::IsResourceExhausted(status)) return;
  v1::CoordinatorMessage message;
  message.mutable_acknowledged()->add_ids(id);
  Send(std::move(message));
}

void LinkStream::OnSteps(v1::StepBatch steps) {
  if (steps.steps().empty()) return;
  v1::CoordinatorMessage stored;
  stored.mutable_steps_stored()->set_job(steps.job());
  stored.mutable_steps_stored()->set_generation(steps.generation());
  stored.mutable_steps_stored()->set_first(steps.steps().begin()->step());
  stored.mutable_steps_stored()->set_last(steps.steps().rbegin()->step());
  const absl::StatusOr<const Job*> job = context_.FindJob("steps.job", steps.job());
  if (!job.ok()) return Send(std::move(stored));  // deleted meanwhile: nobody wants them
  context_.board.AddSteps(
      **job, Generation(steps.generation()),
      {std::make_move_iterator(steps.mutable_steps()->begin()),
       std::make_move_iterator(steps.mutable_steps()->end())},
      WhileAlive([this, stored = std::move(stored)](const absl::StatusOr<bool>& kept) mutable {
        if (kept.ok()) Send(std::move(stored));  // otherwise they come again
      }));
}

void LinkStream::OnLogs(v1::LogBatch logs) {
  const std::string resource = logs.job();
  const absl::StatusOr<const Job*> job = context_.FindJob("logs.job", resource);
  v1::CoordinatorMessage stored;
  stored.mutable_logs_stored()->set_job(resource);
  stored.mutable_logs_stored()->set_next(logs.first() + logs.lines_size());
  if (!job.ok()) return Send(std::move(stored));  // deleted meanwhile: nobody wants them
  ++logs_in_flight_;
  context_.archive.AppendLogs(
      (*job)->name, worker_, logs.first(),
      {std::make_move_iterator(logs.mutable_lines()->begin()),
       std::make_move_iterator(logs.mutable_lines()->end())},
      WhileAlive([this, id = (*job)->id, stored](const absl::StatusOr<int64_t>& next) mutable {
        --logs_in_flight_;
        if (next.ok()) {
          stored.mutable_logs_stored()->set_next(*next);
          Send(std::move(stored));
          context_.board.LogsAppended(id);
        } else {
          LogWarning("archive", "log lines not stored",
                     {{"worker", worker_}, {"error", next.status().ToString()}});
        }
        if (std::exchange(read_waits_, false)) ReadNext();
      }));
}

void LinkStream::Remember(const google::protobuf::RepeatedPtrField<v1::MemberStatus>& running) {
  if (heard_jobs_.size() > kMaxHeardJobs) heard_jobs_.clear();
  for (const v1::MemberStatus& status : running) {
    if (const auto job = ParseJobResource("job", status.job()); job.ok()) {
      heard_jobs_[job->id] = status.job();
    }
  }
}

std::string LinkStream::ResourceOf(JobId id) const {
  if (const Job* const job = context_.driver.state().FindJob(id); job != nullptr) {
    return JobResource(job->name);
  }
  const auto heard = heard_jobs_.find(id);
  return heard != heard_jobs_.end() ? heard->second : "";
}

void LinkStream::SendCommand(const Command& command) {
  v1::CoordinatorMessage message;
  if (const auto* start = std::get_if<StartMember>(&command); start != nullptr) {
    *message.mutable_start() = ToWire(*start, context_.checkpoint_root);
  } else if (const auto* stop = std::get_if<StopMember>(&command); stop != nullptr) {
    const std::string resource = ResourceOf(stop->job);
    if (resource.empty()) return;
    *message.mutable_stop() = ToWire(*stop, resource);
  } else if (const auto* refuse = std::get_if<RefuseWorker>(&command); refuse != nullptr) {
    return End(refuse->why);
  }
  Send(std::move(message));
}

void LinkStream::Send(v1::CoordinatorMessage message) {
  if (ended()) return;
  if (outgoing_.size() >= kMaxOutgoing) {
    LogWarning("link", "the agent does not read; a message is dropped", {{"worker", worker_}});
    return;
  }
  outgoing_.push_back(std::move(message));
  WriteNext();
}

void LinkStream::WriteNext() {
  if (!joined_ || ended() || writing() || outgoing_.empty()) return;
  v1::CoordinatorMessage message = std::move(outgoing_.front());
  outgoing_.pop_front();
  Write(std::move(message));
}

void LinkStream::OnEnd() {
  outgoing_.clear();
  if (worker_.empty() || !links_.Remove(this)) return;
  if (joined_) LogInfo("link", "worker left", {{"worker", worker_}, {"incarnation", incarnation_}});
  // Also before its welcome: that it joined may be decided already, and be stored only later.
  // From the loop's next turn: the end may be part of deciding something else.
  loop().Post([&context = context_, worker = worker_, incarnation = incarnation_] {
    context.Handle(WorkerLeft{worker, incarnation});
  });
}

}  // namespace weft::coordinator

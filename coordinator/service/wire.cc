#include "coordinator/service/wire.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "coordinator/service/resource_names.h"
#include "proto/spec/names.h"
#include "proto/spec/resolve.h"

namespace weft::coordinator {
namespace {

constexpr size_t kMaxMessageBytes = 4096;  // of a text that an agent sends for people

std::string Bounded(const std::string& text, size_t max_bytes = kMaxMessageBytes) {
  return std::string(Utf8Prefix(text, max_bytes));
}

// "cpu": as the spec writes it. A kind of a newer version has no name here and fits no job.
std::string DeviceKindName(v1::DeviceKind kind) {
  const auto* value = v1::DeviceKind_descriptor()->FindValueByNumber(kind);
  return value == nullptr ? absl::StrCat("kind-", static_cast<int>(kind)) : spec::EnumName(*value);
}

void SetTime(absl::Time time, google::protobuf::Timestamp* out) { *out = ToWire(time); }

MemberPhase PhaseOf(v1::MemberStatus::Phase phase) {
  switch (phase) {
    case v1::MemberStatus::PHASE_RESTORING:
      return MemberPhase::kRestoring;
    case v1::MemberStatus::PHASE_TRAINING:
      return MemberPhase::kTraining;
    case v1::MemberStatus::PHASE_SAVING:
      return MemberPhase::kSaving;
    case v1::MemberStatus::PHASE_STOPPING:
      return MemberPhase::kStopping;
    default:
      return MemberPhase::kStarting;
  }
}

MemberOutcome OutcomeOf(v1::MemberExit::Outcome outcome) {
  switch (outcome) {
    case v1::MemberExit::OUTCOME_SUCCEEDED:
      return MemberOutcome::kSucceeded;
    case v1::MemberExit::OUTCOME_SAVED:
    case v1::MemberExit::OUTCOME_KILLED:
      return MemberOutcome::kStopped;
    case v1::MemberExit::OUTCOME_USER_ERROR:
      return MemberOutcome::kUserError;
    case v1::MemberExit::OUTCOME_PEER_LOST:
      return MemberOutcome::kPeerLost;
    default:
      return MemberOutcome::kRankFailed;
  }
}

// All devices of a worker are alike, and numbered by their place: a gang's ranks name them by it.
absl::StatusOr<WorkerOffer> OfferOf(const v1::Hello& hello) {
  if (hello.devices().empty()) {
    return absl::InvalidArgumentError("hello.devices: a worker offers at least one device");
  }
  const v1::Device& first = hello.devices(0);
  for (int i = 0; i < hello.devices_size(); ++i) {
    const v1::Device& device = hello.devices(i);
    if (device.kind() != first.kind() || device.device_class() != first.device_class()) {
      return absl::InvalidArgumentError(
          "hello.devices: all devices of a worker must be of one kind and class");
    }
    if (device.index() != i) {
      return absl::InvalidArgumentError("hello.devices: index must count from 0");
    }
  }
  if (first.kind() == v1::DEVICE_KIND_UNSPECIFIED || first.kind() == v1::DEVICE_KIND_ANY ||
      first.device_class().empty()) {
    return absl::InvalidArgumentError(
        "hello.devices: kind (of a real device) and device_class must be set");
  }
  v1::Worker shown;
  *shown.mutable_devices() = hello.devices();
  shown.set_version(Bounded(hello.version(), 100));
  return WorkerOffer{.device_kind = DeviceKindName(first.kind()),
                     .device_class = first.device_class(),
                     .slots = hello.devices_size(),
                     .address = hello.peer_address(),
                     .description = SharedBytes(shown.SerializeAsString())};
}

v1::Worker::State StateOf(const Worker& worker) {
  if (worker.connection != WorkerConnection::kConnected) return v1::Worker::STATE_LOST;
  if (!worker.draining) return v1::Worker::STATE_READY;
  return worker.IsDrained() ? v1::Worker::STATE_DRAINED : v1::Worker::STATE_DRAINING;
}

std::string WorkerReason(const Worker& worker) {
  switch (worker.connection) {
    case WorkerConnection::kAbsent:
      return "not connected; its ranks may still run";
    case WorkerConnection::kLost:
      return worker.lost_why;
    case WorkerConnection::kConnected:
      break;
  }
  return worker.draining ? worker.drain_reason : "";
}

// The rule of a blocker, in the words of job.proto.
absl::string_view RuleName(WaitRule rule) {
  switch (rule) {
    case WaitRule::kStopping:
      return "earlier generation";
    case WaitRule::kBackOff:
      return "back-off";
    case WaitRule::kQueueLimit:
      return "queue limit";
    case WaitRule::kNoSuchDevice:
      return "device class";
    case WaitRule::kTooFewWorkers:
    case WaitRule::kWorkersBusy:
      return "workers";
    case WaitRule::kBehindOthers:
      return "priority";
    case WaitRule::kGathering:
      return "gathering";
    case WaitRule::kNotWaiting:
    case WaitRule::kAboutToStart:
      break;
  }
  return "";
}

std::string ResourceName(const Explanation& explanation) {
  if (explanation.rule == WaitRule::kQueueLimit) {
    return absl::StrCat("workers of queue ", explanation.queue);
  }
  if (explanation.device_kind.empty()) return "";
  if (explanation.device_class.empty()) return absl::StrCat(explanation.device_kind, " workers");
  return absl::StrCat(explanation.device_kind, " workers of class ", explanation.device_class);
}

}  // namespace

google::protobuf::Timestamp ToWire(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t nanos = absl::ToUnixNanos(time);
  out.set_seconds(nanos / 1000000000);
  out.set_nanos(static_cast<int32_t>(nanos % 1000000000));
  return out;
}

google::protobuf::Duration ToWire(absl::Duration duration) {
  google::protobuf::Duration out;
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  out.set_seconds(nanos / 1000000000);
  out.set_nanos(static_cast<int32_t>(nanos % 1000000000));
  return out;
}

absl::Duration FromWire(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Span<const Checkpoint> KeptCheckpoints(const Job& job) {
  v1::JobSpec spec;
  spec.ParseFromString(job.request.spec.str());  // ours, so it parses
  const auto keep = static_cast<size_t>(std::max(1, spec.checkpoint().keep()));
  const absl::Span<const Checkpoint> all = job.checkpoints;
  return all.subspan(all.size() > keep ? all.size() - keep : 0);
}

JobRequest RequestOf(const v1::JobSpec& spec, const std::string& request_id) {
  JobRequest request;
  request.name = spec.name();
  request.request_id = request_id;
  request.queue = spec.queue();
  request.priority = spec.priority();
  request.device_kind = DeviceKindName(spec.resources().device());
  request.min_workers = spec.resources().min_workers();
  request.max_workers = spec.resources().max_workers();
  request.slots_per_worker = 0;  // a rank on each device of a worker: a gang shares no host
  request.max_retries = spec.retry().max_retries();
  request.back_off = FromWire(spec.retry().initial_backoff());
  request.max_back_off = FromWire(spec.retry().max_backoff());
  request.fixed_device_class = true;  // no kind of reproducibility goes from one to another
  request.spec = SharedBytes(spec.SerializeAsString());
  return request;
}

v1::Job::State ToWire(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return v1::Job::STATE_QUEUED;
    case JobState::kStarting:
      return v1::Job::STATE_STARTING;
    case JobState::kRunning:
      return v1::Job::STATE_RUNNING;
    case JobState::kPausing:
      return v1::Job::STATE_PAUSING;
    case JobState::kPaused:
      return v1::Job::STATE_PAUSED;
    case JobState::kCancelling:
      return v1::Job::STATE_CANCELLING;
    case JobState::kSucceeded:
      return v1::Job::STATE_SUCCEEDED;
    case JobState::kFailed:
      return v1::Job::STATE_FAILED;
    case JobState::kCancelled:
      return v1::Job::STATE_CANCELLED;
  }
  return v1::Job::STATE_UNSPECIFIED;
}

v1::Worker ToWire(const Worker& worker, const ClusterState& state) {
  v1::Worker out;
  out.ParseFromString(worker.offer.description.str());  // devices and version; ours, so it parses
  out.set_name(WorkerResource(worker.name));
  out.set_state(StateOf(worker));
  out.set_address(worker.offer.address);
  SetTime(worker.registered, out.mutable_join_time());
  if (worker.last_seen > absl::InfinitePast()) {
    SetTime(worker.last_seen, out.mutable_heartbeat_time());
  }
  for (const auto& [job_id, placement] : worker.placed) {
    if (const Job* job = state.FindJob(job_id); job != nullptr) {
      out.add_jobs(JobResource(job->name));
    }
  }
  out.set_reason(WorkerReason(worker));
  return out;
}

v1::Queue ToWire(const Queue& queue) {
  v1::Queue out;
  out.set_name(QueueResource(queue.settings.name));
  out.set_max_workers(queue.settings.max_workers);
  out.set_queued_jobs(queue.queued_jobs);
  out.set_running_jobs(queue.jobs - queue.queued_jobs);
  out.set_used_workers(queue.held_workers);
  return out;
}

v1::Checkpoint ToWire(const Checkpoint& checkpoint, const std::string& job_name) {
  v1::Checkpoint out;
  out.set_name(CheckpointResource(job_name, checkpoint.step));
  out.set_step(checkpoint.step.value());
  out.set_path(checkpoint.location);
  out.set_bytes(checkpoint.bytes);
  out.set_weights_hash(checkpoint.weights_hash);
  SetTime(checkpoint.published, out.mutable_create_time());
  out.set_generation(checkpoint.generation.value());
  return out;
}

std::string CauseName(ReasonCode code) { return absl::AsciiStrToLower(ToString(code)); }

v1::Failure ToWire(const Failure& failure) {
  v1::Failure out;
  if (failure.at > absl::InfinitePast()) SetTime(failure.at, out.mutable_time());
  out.set_generation(failure.generation.value());
  out.set_worker(failure.worker);
  if (failure.rank.has_value()) out.set_rank(*failure.rank);
  out.set_cause(CauseName(failure.reason.code));
  out.set_reason(failure.reason.text);
  return out;
}

v1::Explanation ToWire(const Explanation& explanation, const Job& job) {
  v1::Explanation out;
  if (job.HasFailed()) *out.mutable_last_failure() = ToWire(job.last_failure);
  out.set_state(ToWire(job.state));
  out.set_summary(explanation.summary);
  if (const absl::string_view rule = RuleName(explanation.rule); !rule.empty()) {
    v1::Blocker& blocker = *out.add_blockers();
    blocker.set_rule(std::string(rule));
    blocker.set_resource(ResourceName(explanation));
    blocker.set_needed(explanation.needed);
    blocker.set_available(explanation.available);
    blocker.set_missing(explanation.short_by);
    for (const Holder& holder : explanation.holders) {
      blocker.add_holders(JobResource(holder.job_name));
    }
  }
  if (explanation.would_start_with.has_value()) {
    out.set_counter_offer(
        absl::StrCat("resources.min_workers: ", *explanation.would_start_with, " would start now"));
  }
  if (explanation.next_attempt.has_value()) {
    SetTime(*explanation.next_attempt, out.mutable_retry_time());
  }
  return out;
}

absl::StatusOr<std::vector<MemberReport>> FromWire(
    const google::protobuf::RepeatedPtrField<v1::MemberStatus>& running, int32_t slots) {
  std::vector<MemberReport> reports;
  for (const v1::MemberStatus& status : running) {
    WEFT_ASSIGN_OR_RETURN(const JobName job, ParseJobResource("running.job", status.job()));
    reports.push_back({.job = job.id,
                       .generation = Generation(status.generation()),
                       .phase = PhaseOf(status.phase()),
                       .step = StepIndex(status.step()),
                       .slots = slots});
  }
  return reports;
}

absl::StatusOr<std::vector<EndedMember>> FromWire(
    const google::protobuf::RepeatedPtrField<v1::MemberExit>& ended) {
  std::vector<EndedMember> members;
  for (const v1::MemberExit& exit : ended) {
    WEFT_ASSIGN_OR_RETURN(const JobName job, ParseJobResource("ended.job", exit.job()));
    members.push_back({job.id, Generation(exit.generation())});
  }
  return members;
}

absl::StatusOr<WorkerJoined> FromWire(const v1::Hello& hello) {
  if (!spec::IsName(hello.worker())) {
    return absl::InvalidArgumentError(absl::StrCat("hello.worker: '",
                                                   Utf8Prefix(hello.worker(), 100),
                                                   "' is no name; allowed: ", spec::NameRule()));
  }
  if (hello.incarnation().empty() || hello.incarnation().size() > 100) {
    return absl::InvalidArgumentError("hello.incarnation: must have 1 to 100 characters");
  }
  if (hello.peer_address().size() > 300) {
    return absl::InvalidArgumentError("hello.peer_address: at most 300 characters are allowed");
  }
  WorkerJoined joined;
  joined.worker = hello.worker();
  joined.incarnation = hello.incarnation();
  WEFT_ASSIGN_OR_RETURN(joined.offer, OfferOf(hello));
  WEFT_ASSIGN_OR_RETURN(joined.running, FromWire(hello.running(), joined.offer.slots));
  WEFT_ASSIGN_OR_RETURN(joined.ended, FromWire(hello.ended()));
  return joined;
}

absl::StatusOr<MemberExited> FromWire(const v1::MemberExit& exit) {
  WEFT_ASSIGN_OR_RETURN(const JobName job, ParseJobResource("exit.job", exit.job()));
  MemberExited exited;
  exited.job = job.id;
  exited.generation = Generation(exit.generation());
  exited.outcome = OutcomeOf(exit.outcome());
  exited.message = Bounded(exit.message());
  exited.step = StepIndex(exit.step());
  exited.weights_hash = Bounded(exit.weights_hash(), 64);
  if (exit.has_rank()) exited.rank = exit.rank();
  return exited;
}

absl::StatusOr<CheckpointPublished> FromWire(const v1::CheckpointPublished& published,
                                             const std::string& device_class, absl::Time now) {
  WEFT_ASSIGN_OR_RETURN(const JobName job, ParseJobResource("checkpoint.job", published.job()));
  const v1::Checkpoint& checkpoint = published.checkpoint();
  CheckpointPublished event;
  event.job = job.id;
  event.checkpoint = {.step = StepIndex(checkpoint.step()),
                      .generation = Generation(checkpoint.generation()),
                      .location = Bounded(checkpoint.path()),
                      .weights_hash = Bounded(checkpoint.weights_hash(), 64),
                      .bytes = checkpoint.bytes(),
                      .device_class = device_class,
                      .published = now};
  return event;
}

v1::StartMember ToWire(const StartMember& command, const std::string& checkpoint_root) {
  v1::StartMember out;
  out.set_job(JobResource(command.job_name));
  out.set_generation(command.generation.value());
  out.mutable_spec()->ParseFromString(command.spec.str());  // ours, so it parses
  int32_t world_size = 0;
  for (const GangMember& member : command.gang) {
    v1::GangMember& wire = *out.add_members();
    wire.set_worker(member.worker);
    wire.set_peer_address(member.address);
    for (int32_t i = 0; i < member.slots; ++i) {
      v1::GangRank& rank = *wire.add_ranks();
      rank.set_rank(member.first_rank + i);
      rank.set_device_index(i);
    }
    world_size += member.slots;
  }
  out.set_world_size(world_size);
  out.set_checkpoint_root(checkpoint_root);
  return out;
}

v1::StopMember ToWire(const StopMember& command, const std::string& job_resource) {
  v1::StopMember out;
  out.set_job(job_resource);
  out.set_generation(command.generation.value());
  out.set_mode(command.mode == StopMode::kSaveFirst ? v1::StopMember::MODE_SAVE
                                                    : v1::StopMember::MODE_KILL);
  out.set_reason(command.reason.text);
  return out;
}

}  // namespace weft::coordinator

// Between the messages of weft.v1 and the core's own types. Pure; what a message says wrong is
// kInvalidArgument.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/core/commands.h"
#include "coordinator/core/events.h"
#include "coordinator/core/explain.h"
#include "coordinator/core/job.h"
#include "coordinator/core/state.h"
#include "weft/v1/checkpoint.pb.h"
#include "weft/v1/job.pb.h"
#include "weft/v1/queue.pb.h"
#include "weft/v1/worker.pb.h"
#include "weft/v1/worker_link.pb.h"

namespace weft::coordinator {

google::protobuf::Timestamp ToWire(absl::Time time);
google::protobuf::Duration ToWire(absl::Duration duration);
absl::Duration FromWire(const google::protobuf::Duration& duration);

// --- people
// ---------------------------------------------------------------------------------------

// `spec` is resolved: every default is filled in.
JobRequest RequestOf(const v1::JobSpec& spec, const std::string& request_id);
v1::Job::State ToWire(JobState state);
v1::Worker ToWire(const Worker& worker, const ClusterState& state);
v1::Queue ToWire(const Queue& queue);
v1::Checkpoint ToWire(const Checkpoint& checkpoint, const std::string& job_name);
// The checkpoints that are still on disk, oldest first: ranks keep as many as the spec says, by
// generation and step.
absl::Span<const Checkpoint> KeptCheckpoints(const Job& job);
// "host_lost": as messages and metrics write a cause.
std::string CauseName(ReasonCode code);
v1::Failure ToWire(const Failure& failure);
v1::Explanation ToWire(const Explanation& explanation, const Job& job);

// --- the link to the workers
// ----------------------------------------------------------------------

absl::StatusOr<WorkerJoined> FromWire(const v1::Hello& hello);
// `slots`: of the worker; a gang takes all of them.
absl::StatusOr<std::vector<MemberReport>> FromWire(
    const google::protobuf::RepeatedPtrField<v1::MemberStatus>& running, int32_t slots);
absl::StatusOr<std::vector<EndedMember>> FromWire(
    const google::protobuf::RepeatedPtrField<v1::MemberExit>& ended);
// Worker and incarnation are left to the caller.
absl::StatusOr<MemberExited> FromWire(const v1::MemberExit& exit);
absl::StatusOr<CheckpointPublished> FromWire(const v1::CheckpointPublished& published,
                                             const std::string& device_class, absl::Time now);

// A member's ranks name its worker's devices by their place in its Hello.
v1::StartMember ToWire(const StartMember& command, const std::string& checkpoint_root);
v1::StopMember ToWire(const StopMember& command, const std::string& job_resource);

}  // namespace weft::coordinator

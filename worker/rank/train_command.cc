#include "worker/rank/train_command.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/file/file_system.h"
#include "common/log/log.h"
#include "proto/spec/print.h"
#include "worker/data/open_data.h"
#include "worker/rank/agent_link.h"
#include "worker/rank/config_from_spec.h"
#include "worker/rank/rank_device.h"
#include "worker/rank/rank_reporter.h"
#include "worker/train/training_run.h"

namespace weft::worker {
namespace {

// Called on the link's thread while the main thread computes: nothing is torn down, the process is
// gone. Checkpoints are made for that.
[[noreturn]] void EndProcess(const absl::Status& why) {
  LogWarning("rank", "ends at once", {{"cause", why.message()}});
  std::_Exit(ExitCodeOf(why.code()));
}

absl::StatusOr<std::unique_ptr<CheckpointStore>> OpenCheckpoints(
    const v1::RankAssignment& assignment) {
  return NewDirectoryCheckpointStore(
      RealFileSystem(),
      {.root = assignment.checkpoint_root(),
       .job = std::string(absl::StripPrefix(assignment.job(), "jobs/")),
       .keep = assignment.spec().checkpoint().has_keep() ? assignment.spec().checkpoint().keep()
                                                         : CheckpointStoreOptions().keep});
}

absl::StatusOr<RunOutcome> TrainInMemory(const v1::RankAssignment& assignment,
                                         CheckpointStore& checkpoints, AgentLink& link,
                                         const Clock& clock, RankReporter& reporter) {
  WEFT_ASSIGN_OR_RETURN(const TrainConfig config,
                        ConfigFromSpec(assignment.spec(), assignment.data_root()));
  WEFT_ASSIGN_OR_RETURN(const auto data, OpenData(config.data, config.batch.sequence_length,
                                                  static_cast<int32_t>(config.model.vocabulary)));
  if (assignment.rank() == 0) reporter.OnNotice(absl::StrCat("data: ", data->Describe()));
  WEFT_ASSIGN_OR_RETURN(const auto device, NewRankDevice(assignment));
  WEFT_ASSIGN_OR_RETURN(const auto exchange, NewRankExchange(assignment, *device));
  const Membership membership = {.job = assignment.job(),
                                 .generation = Generation(assignment.generation()),
                                 .rank = assignment.rank(),
                                 .ranks = assignment.world_size(),
                                 .local_rank = assignment.local_rank(),
                                 .relay_channel = assignment.relay_channel()};
  return RunTraining(config, {.device = *device,
                              .data = *data,
                              .exchange = *exchange,
                              .membership = membership,
                              .checkpoints = checkpoints,
                              .clock = clock,
                              .observer = reporter,
                              .save_and_stop = link.save_and_stop(),
                              .spec = spec::SpecToYaml(assignment.spec())});
}

// Memory for numbers is asked for with a status; for lists as long as a spec wants them, the
// standard library throws.
absl::StatusOr<RunOutcome> Train(const v1::RankAssignment& assignment, CheckpointStore& checkpoints,
                                 AgentLink& link, const Clock& clock, RankReporter& reporter) {
  try {
    return TrainInMemory(assignment, checkpoints, link, clock, reporter);
  } catch (const std::bad_alloc& error) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no host memory for the lists that model and batch need (", error.what(), ")"));
  }
}

}  // namespace

ExitCode TrainForAgent(FileDescriptor agent) {
  AgentLink link(std::move(agent), EndProcess);
  const absl::StatusOr<v1::RankAssignment> assignment = link.ReceiveAssignment();
  if (!assignment.ok()) {
    LogError("rank", "no assignment", {{"cause", assignment.status().message()}});
    return ExitCodeOf(assignment.status().code());
  }
  link.Listen();
  const absl::StatusOr<std::unique_ptr<CheckpointStore>> checkpoints = OpenCheckpoints(*assignment);
  if (!checkpoints.ok()) {
    LogError("rank", "no checkpoints", {{"cause", checkpoints.status().message()}});
    return ExitCodeOf(checkpoints.status().code());
  }
  const RealClock clock;
  RankReporter reporter(link, **checkpoints, clock,
                        {.rank = assignment->rank(),
                         .generation = assignment->generation(),
                         .total_steps = assignment->spec().training().steps()});
  reporter.OnPhase(RunPhase::kStarting, 0);
  const absl::StatusOr<RunOutcome> outcome =
      Train(*assignment, **checkpoints, link, clock, reporter);
  reporter.OnEnd(outcome);
  return ExitCodeOf(outcome.status().code());
}

}  // namespace weft::worker

#include "worker/train/training_run.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/sha256.h"
#include "worker/checkpoint/training_checkpoint.h"
#include "worker/train/exchange_patience.h"
#include "worker/train/shared_values.h"
#include "worker/train/trainer_checkpoint.h"

namespace weft::worker {
namespace {

// True at every multiple of `every`, counting finished steps; never for 0.
bool IsDue(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

// A digest's first 48 bits as a whole number, which a double holds exactly.
double Abbreviate(absl::string_view sha256) {
  uint64_t bits = 0;
  if (!absl::SimpleHexAtoi(sha256.substr(0, 12), &bits)) return -1;
  return static_cast<double>(bits);
}

class Run {
 public:
  Run(const TrainConfig& config, const RunContext& context)
      : config_(config),
        context_(context),
        time_(context.clock, TimeCause::kRestore),
        patience_(context.exchange_timeout) {}

  absl::StatusOr<RunOutcome> Execute() {
    WEFT_RETURN_IF_ERROR(Start());
    context_.observer.OnPhase(RunPhase::kTraining, trainer_->step());
    bool stops = false;
    while (trainer_->step() < config_.steps && !stops) {
      WEFT_ASSIGN_OR_RETURN(stops, Step());
    }
    return Finish();
  }

 private:
  [[nodiscard]] bool is_lead() const { return context_.membership.rank == 0; }

  absl::Status Start() {
    context_.observer.OnPhase(RunPhase::kStarting, 0);
    WEFT_RETURN_IF_ERROR(context_.exchange.Prepare(
        context_.membership, context_.clock.Now() + context_.exchange_timeout));
    // Who waits for the start waits for the ranks to meet, not for what grows with the model.
    context_.observer.OnPhase(RunPhase::kRestoring, 0);
    WEFT_ASSIGN_OR_RETURN(const std::optional<CheckpointId> latest, AgreeOnLatest());
    WEFT_ASSIGN_OR_RETURN(trainer_, Trainer::Create(config_, context_.data,
                                                    {.device = context_.device,
                                                     .exchange = context_.exchange,
                                                     .rank = context_.membership.rank,
                                                     .ranks = context_.membership.ranks,
                                                     .time = time_,
                                                     .clock = context_.clock,
                                                     .exchange_timeout = context_.exchange_timeout,
                                                     .draws_weights = !latest}));
    if (latest) WEFT_RETURN_IF_ERROR(Restore(*latest));
    // Data and devices are what a person set up: nothing changes by trying again.
    return CheckRanksAgree(absl::StatusCode::kFailedPrecondition, "start");
  }

  // The newest sound checkpoint that the lead finds. A rank that looked for itself could find
  // another one: its disk fails once, or its host has listed the folder a moment ago.
  absl::StatusOr<std::optional<CheckpointId>> AgreeOnLatest() {
    // Every rank fences, the lead before it looks: what it finds, nobody can replace any more.
    WEFT_RETURN_IF_ERROR(context_.checkpoints.Fence(context_.membership.generation.value()));
    std::optional<CheckpointId> latest;
    if (is_lead()) {
      WEFT_ASSIGN_OR_RETURN(latest, FindLatest());
    }
    enum : int64_t { kFound, kGeneration, kStep, kCount };
    WEFT_ASSIGN_OR_RETURN(SharedValues choice, SharedValues::Create(context_.device, kCount));
    if (latest) {
      choice.Set(kFound, 1);
      choice.Set(kGeneration, static_cast<double>(latest->generation));
      choice.Set(kStep, static_cast<double>(latest->step));
    }
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<kernels::Stream> stream,
                          context_.device.NewStream());
    WEFT_RETURN_IF_ERROR(
        choice.Share(context_.exchange, *stream, context_.clock.Now() + context_.exchange_timeout));
    if (choice.Get(kFound) == 0) return std::nullopt;
    return CheckpointId{.generation = static_cast<int64_t>(choice.Get(kGeneration)),
                        .step = static_cast<int64_t>(choice.Get(kStep))};
  }

  absl::StatusOr<std::optional<CheckpointId>> FindLatest() {
    const absl::StatusOr<LatestCheckpoint> latest = context_.checkpoints.Latest();
    if (absl::IsNotFound(latest.status())) return std::nullopt;
    if (!latest.ok()) return latest.status();
    for (const DamagedCheckpoint& damaged : latest->damaged) {
      context_.observer.OnNotice(absl::StrCat("checkpoint of step ", damaged.id.step,
                                              " is damaged and passed over: ", damaged.file, ": ",
                                              damaged.reason));
    }
    return latest->checkpoint.id;
  }

  absl::Status Restore(const CheckpointId& id) {
    const absl::StatusOr<std::unique_ptr<LoadedCheckpoint>> loaded =
        LoadCheckpoint(context_.checkpoints, id, /*with_optimizer=*/true);
    if (!loaded.ok()) {
      // Whatever it is, the lead has just read it: another generation may fare better.
      return absl::UnavailableError(
          absl::StrCat("rank ", context_.membership.rank, " cannot load the checkpoint of step ",
                       id.step, " that rank 0 has found: ", loaded.status().message()));
    }
    WEFT_RETURN_IF_ERROR(RestoreTrainer(**loaded, config_, context_.data.fingerprint(), *trainer_));
    saved_step_ = trainer_->step();
    context_.observer.OnNotice(absl::StrCat("resumed after step ", trainer_->step(),
                                            " from the checkpoint of generation ", id.generation));
    return absl::OkStatus();
  }

  // True when the run stops after this step.
  absl::StatusOr<bool> Step() {
    trainer_->set_exchange_timeout(patience_.next());
    WEFT_ASSIGN_OR_RETURN(const StepResult result,
                          trainer_->RunStep(context_.save_and_stop.load()));
    trainer_->set_exchange_timeout(patience_.untimed());
    const bool is_last = result.step == config_.steps;
    const bool evaluates = is_last || IsDue(result.step, config_.evaluation.every_steps);
    const bool ends = is_last || result.stop_requested;
    const bool saves = ends || IsDue(result.step, config_.checkpoint.every_steps);
    StepSummary summary{.result = result, .tokens = TokensOfStep(config_)};
    if (evaluates) {
      WEFT_ASSIGN_OR_RETURN(summary.validation, trainer_->Evaluate());
    }
    if (saves) {
      if (ends) context_.observer.OnPhase(RunPhase::kSaving, result.step);
      WEFT_RETURN_IF_ERROR(Save());
    }
    summary.time = time_.Take();
    patience_.OnStep(summary.time.Total(), evaluates || saves);
    context_.observer.OnStep(summary);
    return result.stop_requested;
  }

  // The lead writes; the others go on and wait for it in the next exchange.
  absl::Status Save() {
    if (saved_step_ == trainer_->step()) return absl::OkStatus();
    saved_step_ = trainer_->step();
    const TimeCause before = time_.Switch(TimeCause::kCheckpoint);
    WEFT_ASSIGN_OR_RETURN(HostMoments moments, trainer_->GatherMoments());
    if (!is_lead()) {
      time_.Switch(before);
      return absl::OkStatus();
    }
    const CheckpointContext context = {.generation = context_.membership.generation.value(),
                                       .data_fingerprint = context_.data.fingerprint(),
                                       .spec = context_.spec};
    absl::StatusOr<std::string> hash =
        SaveTrainer(*trainer_, std::move(moments), config_, context, context_.checkpoints);
    if (!hash.ok()) return Annotate(hash.status(), "saving a checkpoint");
    context_.observer.OnCheckpoint({.step = trainer_->step(), .weights_sha256 = *hash});
    time_.Switch(before);
    return absl::OkStatus();
  }

  // Also holds the ranks together until the lead has published the last checkpoint.
  absl::StatusOr<RunOutcome> Finish() {
    WEFT_RETURN_IF_ERROR(CheckRanksAgree(absl::StatusCode::kInternal, "end"));
    const bool finished = trainer_->step() >= config_.steps;
    return RunOutcome{.end = finished ? RunOutcome::End::kFinished : RunOutcome::End::kSaved,
                      .step = trainer_->step(),
                      .weights_sha256 = weights_sha256_};
  }

  // Ranks hold the same weights after the same step, on the same class of device. A difference is
  // found here and not as a strange loss later.
  absl::Status CheckRanksAgree(absl::StatusCode code_if_not, absl::string_view when) {
    WEFT_ASSIGN_OR_RETURN(weights_sha256_, HashOfWeights(trainer_->weights(), trainer_->stream()));
    const std::string own = Sha256Of(
        absl::StrCat(weights_sha256_, " ", trainer_->step(), " ", trainer_->skipped_steps(), " ",
                     context_.device.device_class(), " ", context_.data.fingerprint()));
    WEFT_ASSIGN_OR_RETURN(const std::vector<double> digests,
                          trainer_->ShareWithRanks(Abbreviate(own)));
    for (size_t rank = 1; rank < digests.size(); ++rank) {
      if (digests[rank] != digests[0]) {
        return absl::Status(
            code_if_not,
            absl::StrCat("at the ", when, " of the run, rank ", rank,
                         " differs from rank 0 in its data, its class of device, its step or its "
                         "weights; this "
                         "is rank ",
                         context_.membership.rank, ": device ", context_.device.device_class(),
                         ", data ", context_.data.fingerprint(), ", step ", trainer_->step(),
                         ", weights ", weights_sha256_));
      }
    }
    return absl::OkStatus();
  }

  const TrainConfig& config_;
  const RunContext& context_;
  TimeLedger time_;
  ExchangePatience patience_;
  std::unique_ptr<Trainer> trainer_;
  int64_t saved_step_ = 0;  // there is nothing to save before the first step
  std::string weights_sha256_;
};

}  // namespace

absl::StatusOr<RunOutcome> RunTraining(const TrainConfig& config, const RunContext& context) {
  Run run(config, context);
  // Before the trainer ends, by an exception, too: its exchange thread may be waiting for the
  // others, and they for us. The first cause is the one kept.
  absl::Cleanup give_up = [&] {
    context.exchange.Abort(absl::InternalError("this rank has ended without a word"));
  };
  absl::StatusOr<RunOutcome> outcome = run.Execute();
  if (!outcome.ok()) context.exchange.Abort(outcome.status());
  std::move(give_up).Cancel();
  return outcome;
}

}  // namespace weft::worker

#include "worker/data/generated/generated_task.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"

namespace weft::worker {
namespace {

class GeneratedSource : public BasicSampleSource {
 public:
  GeneratedSource(SampleSourceFacts facts, std::unique_ptr<const GeneratedTask> task,
                  const GeneratedOptions& options)
      : BasicSampleSource(std::move(facts)), task_(std::move(task)), options_(options) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    SampleDraws draws(options_.seed, SetOf(split), sample);
    task_->Generate(draws, into);
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] SampleSet SetOf(Split split) const {
    if (split == Split::kTrain) return SampleSet::kTrain;
    return options_.held_out == HeldOut::kTest ? SampleSet::kTest : SampleSet::kValidation;
  }

  std::unique_ptr<const GeneratedTask> task_;
  GeneratedOptions options_;
};

}  // namespace

absl::Status CheckSymbols(int32_t symbols) {
  if (symbols >= 1 && symbols <= 1 << 20) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("symbols is ", symbols, "; it must be 1 to ", 1 << 20));
}

absl::StatusOr<std::unique_ptr<SampleSource>> NewGeneratedSource(
    std::unique_ptr<const GeneratedTask> task, const GeneratedOptions& options) {
  if (options.train_samples < 1 || options.train_samples > GeneratedOptions::kEndless) {
    return absl::InvalidArgumentError(
        absl::StrCat("train_samples is ", options.train_samples, "; it must be 1 to 2^40"));
  }
  std::string description = absl::StrCat("generated ", task->Describe());
  Sha256 hash;
  hash.Update(description);
  hash.UpdateInteger(static_cast<uint64_t>(task->shape().sequence));
  hash.UpdateInteger(options.seed);
  hash.UpdateInteger(static_cast<uint64_t>(options.train_samples));
  hash.UpdateInteger(static_cast<uint64_t>(options.held_out));
  SampleSourceFacts facts = {.shape = task->shape(),
                             .train_samples = options.train_samples,
                             .validation_samples = GeneratedOptions::kValidationSamples,
                             .fingerprint = hash.Finish(),
                             .description = std::move(description)};
  return std::make_unique<GeneratedSource>(std::move(facts), std::move(task), options);
}

}  // namespace weft::worker

// A task whose samples are made instead of read, and the sample source around it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/data/generated/sample_draws.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

// Immutable: any number of threads may generate.
class GeneratedTask {
 public:
  virtual ~GeneratedTask() = default;
  [[nodiscard]] virtual const SampleShape& shape() const = 0;
  // Writes all of `into` from nothing but `draws`.
  virtual void Generate(SampleDraws& draws, const SampleBuffers& into) const = 0;
  // The task with all its options: equal for tasks that generate the same samples only.
  [[nodiscard]] virtual std::string Describe() const = 0;
};

struct GeneratedOptions {
  // As many as an endless row: no sample comes twice in any run.
  static constexpr int64_t kEndless = int64_t{1} << 40;
  static constexpr int64_t kValidationSamples = int64_t{1} << 20;

  uint64_t seed = 0;
  int64_t train_samples = kEndless;  // 1 to kEndless
  HeldOut held_out = HeldOut::kValidation;
};

// kInvalidArgument unless 1 to 2^20.
absl::Status CheckSymbols(int32_t symbols);

// The splits are made of random numbers of their own. kInvalidArgument for options out of range.
absl::StatusOr<std::unique_ptr<SampleSource>> NewGeneratedSource(
    std::unique_ptr<const GeneratedTask> task, const GeneratedOptions& options);

}  // namespace weft::worker

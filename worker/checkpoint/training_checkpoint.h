// What a checkpoint of a training run holds, and how it becomes files: weights.safetensors,
// optimizer.safetensors, state.json. Data-parallel state is the same on every rank, so one rank
// writes it and any number of ranks can load it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/checkpoint/checkpoint_store.h"
#include "worker/checkpoint/safetensors.h"

namespace weft::worker {

inline constexpr absl::string_view kWeightsFile = "weights.safetensors";
inline constexpr absl::string_view kOptimizerFile = "optimizer.safetensors";
inline constexpr absl::string_view kStateFile = "state.json";

// Everything beside tensors that the next step depends on. The learning-rate schedule and the order
// of samples are functions of the step and the specification, so the step is their position too.
struct TrainingState {
  int64_t step = 0;  // optimiser steps finished; the next one has this index
  // Of those, the ones whose gradient was not finite: the optimiser has made step - skipped_steps
  // updates.
  int64_t skipped_steps = 0;
  int64_t samples_seen = 0;
  int64_t tokens_seen = 0;
  uint64_t seed = 0;
  std::string data_fingerprint;  // SampleSource::fingerprint
  std::string spec_sha256;       // of what must not change over a resume
  std::string spec;              // the job's specification as text: what the weights mean
  std::string device_class;      // bits are promised within one class only, e.g. "cpu-avx512"
  std::string weights_sha256;    // of weights.safetensors; filled in by SaveCheckpoint

  friend bool operator==(const TrainingState&, const TrainingState&) = default;
};

std::string ToJson(const TrainingState& state);
// kDataLoss, naming the field, when one is missing or of the wrong type. Unknown fields are
// ignored.
absl::StatusOr<TrainingState> TrainingStateFromJson(absl::string_view json);

// A checkpoint in memory. Tensors view `weights_bytes` and `optimizer_bytes`.
struct LoadedCheckpoint {
  CheckpointId id;
  TrainingState state;
  std::vector<NamedTensor> weights;
  std::vector<NamedTensor> optimizer;
  std::string weights_bytes;
  std::string optimizer_bytes;

  LoadedCheckpoint() = default;
  LoadedCheckpoint(const LoadedCheckpoint&) = delete;  // the views would point into the original
  LoadedCheckpoint& operator=(const LoadedCheckpoint&) = delete;
};

// Writes all of it as checkpoint {generation, state.step} and publishes it: the whole life of a
// writer. Returns the SHA-256 of weights.safetensors, equal for equal weights (names, types, shapes
// and bits), and what `sha256sum` prints for the file. Errors: CheckpointWriter.
absl::StatusOr<std::string> SaveCheckpoint(CheckpointStore& store, int64_t generation,
                                           const TrainingState& state,
                                           absl::Span<const NamedTensor> weights,
                                           absl::Span<const NamedTensor> optimizer);
// The SHA-256 that SaveCheckpoint would return for these weights, without writing anything.
absl::StatusOr<std::string> WeightsSha256(absl::Span<const NamedTensor> weights);

// Loads a checkpoint that Latest or List named. Without `with_optimizer` only the weights are read
// (for sampling). kDataLoss and kNotFound as CheckpointStore::Read.
absl::StatusOr<std::unique_ptr<LoadedCheckpoint>> LoadCheckpoint(CheckpointStore& store,
                                                                 const CheckpointId& id,
                                                                 bool with_optimizer);

}  // namespace weft::worker

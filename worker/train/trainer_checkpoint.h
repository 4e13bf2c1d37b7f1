// A trainer's state to and from checkpoints.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/checkpoint/training_checkpoint.h"
#include "worker/train/trainer.h"

namespace weft::worker {

// What a checkpoint says beside what the trainer knows.
struct CheckpointContext {
  int64_t generation = 0;
  std::string data_fingerprint;
  std::string spec;  // the job's specification as text
};

// Writes and publishes a checkpoint of the trainer's step; by one rank, with the moments that it
// gathered. Returns the SHA-256 of the weights. Errors: CheckpointWriter.
absl::StatusOr<std::string> SaveTrainer(Trainer& trainer, HostMoments moments,
                                        const TrainConfig& config, const CheckpointContext& context,
                                        CheckpointStore& store);

// Puts a checkpoint's state into the trainer, which then goes on as if it had never stopped.
// kFailedPrecondition, naming the difference, when the checkpoint is of another configuration,
// other data or another class of device; kDataLoss when it lacks a tensor.
absl::Status RestoreTrainer(const LoadedCheckpoint& checkpoint, const TrainConfig& config,
                            const std::string& data_fingerprint, Trainer& trainer);

// Fills a flat block, or the part of it that begins at `first`, from named tensors
// ("<prefix><parameter>"). kDataLoss, naming the tensor, when one is missing or has another shape
// or type.
absl::Status LoadBlock(absl::Span<const NamedTensor> tensors, absl::string_view prefix,
                       const ParameterLayout& layout, kernels::Stream& stream,
                       kernels::Tensor& block, int64_t first = 0);

// What `sha256sum weights.safetensors` prints for these weights.
absl::StatusOr<std::string> HashOfWeights(const ParameterBlock& weights, kernels::Stream& stream);

}  // namespace weft::worker

#include "worker/train/trainer_checkpoint.h"

#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

constexpr absl::string_view kFirstMoment = "first_moment.";
constexpr absl::string_view kSecondMoment = "second_moment.";

// A flat block in host memory, and its parameters by name.
class HostBlock {
 public:
  HostBlock(kernels::DType dtype, std::string bytes) : dtype_(dtype), bytes_(std::move(bytes)) {}

  static absl::StatusOr<HostBlock> Copy(const kernels::Tensor& block, kernels::Stream& stream) {
    std::string bytes(static_cast<size_t>(block.bytes()), '\0');
    WEFT_RETURN_IF_ERROR(stream.device().CopyToHost(bytes.data(), block, stream));
    return HostBlock(block.dtype(), std::move(bytes));
  }

  // Views of this object, which must outlive them and stay where it is.
  void AppendTo(std::vector<NamedTensor>& tensors, absl::string_view prefix,
                const ParameterLayout& layout) const {
    const int64_t size = kernels::SizeOf(dtype_);
    for (const Parameter& parameter : layout.parameters()) {
      tensors.push_back({.name = absl::StrCat(prefix, parameter.name),
                         .dtype = dtype_,
                         .shape = parameter.shape,
                         .bytes = absl::string_view(bytes_).substr(
                             static_cast<size_t>(parameter.offset * size),
                             static_cast<size_t>(parameter.shape.count() * size))});
    }
  }

 private:
  kernels::DType dtype_;
  std::string bytes_;
};

absl::Status CheckSame(absl::string_view what, absl::string_view saved, absl::string_view now) {
  if (saved == now) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the checkpoint cannot be resumed: its ", what,
                                                    " is ", saved, ", this run's is ", now));
}

}  // namespace

absl::StatusOr<std::string> SaveTrainer(Trainer& trainer, HostMoments moments,
                                        const TrainConfig& config, const CheckpointContext& context,
                                        CheckpointStore& store) {
  kernels::Stream& stream = trainer.stream();
  const ParameterLayout& layout = trainer.model().layout();
  WEFT_ASSIGN_OR_RETURN(const HostBlock weights,
                        HostBlock::Copy(trainer.weights().block(), stream));
  const kernels::DType dtype = trainer.weights().block().dtype();
  const HostBlock first(dtype, std::move(moments.first));
  const HostBlock second(dtype, std::move(moments.second));
  std::vector<NamedTensor> weight_tensors;
  weights.AppendTo(weight_tensors, "", layout);
  std::vector<NamedTensor> optimizer_tensors;
  first.AppendTo(optimizer_tensors, kFirstMoment, layout);
  second.AppendTo(optimizer_tensors, kSecondMoment, layout);

  const TrainingState state = {
      .step = trainer.step(),
      .skipped_steps = trainer.skipped_steps(),
      .samples_seen = trainer.step() * config.batch.sequences,
      .tokens_seen = trainer.step() * TokensOfStep(config),
      .seed = config.seed,
      .data_fingerprint = context.data_fingerprint,
      .spec_sha256 = Fingerprint(config),
      .spec = context.spec,
      .device_class = std::string(stream.device().device_class()),
      .weights_sha256 = "",  // by SaveCheckpoint
  };
  return SaveCheckpoint(store, context.generation, state, weight_tensors, optimizer_tensors);
}

absl::Status LoadBlock(absl::Span<const NamedTensor> tensors, absl::string_view prefix,
                       const ParameterLayout& layout, kernels::Stream& stream,
                       kernels::Tensor& block, int64_t first) {
  std::map<absl::string_view, const NamedTensor*> by_name;
  for (const NamedTensor& tensor : tensors) by_name[tensor.name] = &tensor;
  const int64_t size = kernels::SizeOf(block.dtype());
  std::string bytes(static_cast<size_t>(layout.block_count() * size), '\0');
  for (const Parameter& parameter : layout.parameters()) {
    const std::string name = absl::StrCat(prefix, parameter.name);
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      return absl::DataLossError(absl::StrCat("the checkpoint has no tensor ", name));
    }
    const NamedTensor& tensor = *found->second;
    if (tensor.shape != parameter.shape || tensor.dtype != block.dtype()) {
      return absl::DataLossError(absl::StrCat(
          "the checkpoint's ", name, " is ", NameOf(tensor.dtype), tensor.shape.ToString(),
          ", not ", NameOf(block.dtype()), parameter.shape.ToString()));
    }
    std::memcpy(bytes.data() + parameter.offset * size, tensor.bytes.data(), tensor.bytes.size());
  }
  return stream.device().CopyFromHost(block, bytes.data() + first * size, stream);
}

absl::Status RestoreTrainer(const LoadedCheckpoint& checkpoint, const TrainConfig& config,
                            const std::string& data_fingerprint, Trainer& trainer) {
  kernels::Stream& stream = trainer.stream();
  const TrainingState& state = checkpoint.state;
  WEFT_RETURN_IF_ERROR(CheckSame("configuration", state.spec_sha256, Fingerprint(config)));
  WEFT_RETURN_IF_ERROR(CheckSame("data", state.data_fingerprint, data_fingerprint));
  WEFT_RETURN_IF_ERROR(
      CheckSame("class of device", state.device_class, stream.device().device_class()));
  if (state.step < 0 || state.skipped_steps < 0 || state.skipped_steps > state.step) {
    return absl::DataLossError(absl::StrCat("the checkpoint claims ", state.skipped_steps,
                                            " skipped of ", state.step, " steps"));
  }
  const ParameterLayout& layout = trainer.model().layout();
  kernels::Tensor weights = trainer.weights().block();
  kernels::Tensor first = trainer.optimizer().first_moment();
  kernels::Tensor second = trainer.optimizer().second_moment();
  WEFT_RETURN_IF_ERROR(LoadBlock(checkpoint.weights, "", layout, stream, weights));
  const int64_t begin = trainer.optimizer().part().first;
  WEFT_RETURN_IF_ERROR(LoadBlock(checkpoint.optimizer, kFirstMoment, layout, stream, first, begin));
  WEFT_RETURN_IF_ERROR(
      LoadBlock(checkpoint.optimizer, kSecondMoment, layout, stream, second, begin));
  return trainer.ResumeAt(state.step, state.skipped_steps);
}

absl::StatusOr<std::string> HashOfWeights(const ParameterBlock& weights, kernels::Stream& stream) {
  WEFT_ASSIGN_OR_RETURN(const HostBlock host, HostBlock::Copy(weights.block(), stream));
  std::vector<NamedTensor> tensors;
  host.AppendTo(tensors, "", weights.layout());
  return WeightsSha256(tensors);
}

}  // namespace weft::worker

#include "worker/rank/sample_command.h"

#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "kernels/device/cpu/cpu_device.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"
#include "worker/checkpoint/training_checkpoint.h"
#include "worker/rank/config_from_spec.h"
#include "worker/train/trainer_checkpoint.h"

namespace weft::worker {
namespace {

constexpr int64_t kByteVocabulary = 256;

absl::StatusOr<std::unique_ptr<LoadedCheckpoint>> Load(absl::string_view path) {
  while (absl::ConsumeSuffix(&path, "/")) {
  }
  const absl::string_view folder = DirectoryOf(path);
  const absl::string_view job =
      absl::StripPrefix(absl::StripPrefix(folder, DirectoryOf(folder)), "/");
  WEFT_ASSIGN_OR_RETURN(
      const std::unique_ptr<CheckpointStore> store,
      NewDirectoryCheckpointStore(
          RealFileSystem(), {.root = std::string(DirectoryOf(folder)), .job = std::string(job)}));
  WEFT_ASSIGN_OR_RETURN(const std::vector<CheckpointSummary> all, store->List());
  for (const CheckpointSummary& summary : all) {
    if (summary.path == path) return LoadCheckpoint(*store, summary.id, /*with_optimizer=*/false);
  }
  return absl::NotFoundError(absl::StrCat("no checkpoint at ", path));
}

absl::StatusOr<ModelConfig> ModelOf(const TrainingState& state) {
  v1::JobSpec spec;
  WEFT_RETURN_IF_ERROR(
      Annotate(spec::ToStatus(spec::ParseSpec(state.spec, spec)), "the checkpoint's spec"));
  WEFT_RETURN_IF_ERROR(Annotate(spec::ToStatus(spec::ResolveSpec(spec)), "the checkpoint's spec"));
  return ModelFromSpec(spec.model());
}

// False when nobody reads any more.
bool WriteByte(int output, char byte) {
  while (true) {
    const ssize_t written = write(output, &byte, 1);
    if (written == 1) return true;
    if (written < 0 && errno != EINTR) return false;
  }
}

}  // namespace

absl::Status SampleToDescriptor(const SampleRequest& request, int output) {
  WEFT_ASSIGN_OR_RETURN(const auto checkpoint, Load(request.checkpoint));
  WEFT_ASSIGN_OR_RETURN(const ModelConfig config, ModelOf(checkpoint->state));
  if (config.kind != ModelKind::kLanguageModel) {
    return absl::FailedPreconditionError(
        "the model is a classifier, which gives classes and cannot continue a text");
  }
  if (config.vocabulary != kByteVocabulary) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the model has a vocabulary of ", config.vocabulary, " tokens, which are not bytes"));
  }
  WEFT_ASSIGN_OR_RETURN(const auto model, LanguageModel::Create(config));
  WEFT_ASSIGN_OR_RETURN(const auto device, kernels::NewCpuDevice({.threads = request.threads}));
  WEFT_ASSIGN_OR_RETURN(const auto stream, device->NewStream());
  WEFT_ASSIGN_OR_RETURN(kernels::Tensor block, kernels::NewTensor(*device, device->compute_dtype(),
                                                                  {model->layout().block_count()}));
  WEFT_RETURN_IF_ERROR(LoadBlock(checkpoint->weights, "", model->layout(), *stream, block));

  std::vector<int32_t> prompt;
  for (const char byte : request.prompt) prompt.push_back(static_cast<unsigned char>(byte));
  Sampler sampler(*model, ParameterBlock(model->layout(), block), *stream);
  return sampler.Generate(prompt, request.options, [&](int32_t token) {
    return WriteByte(output, static_cast<char>(token));
  });
}

}  // namespace weft::worker

#include "worker/checkpoint/training_checkpoint.h"

#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/sha256.h"

namespace weft::worker {
namespace {

// Nothing that differs between equal weights (no step, no time): the file's hash is theirs. "pt" is
// what other tools expect of row-major tensors.
const std::map<std::string, std::string>& Metadata() {
  static const auto& metadata = *new std::map<std::string, std::string>{{"format", "pt"}};
  return metadata;
}

// No two saves share a partial folder, not even by mistake.
std::string FreshWriterWord() {
  std::random_device random;
  return absl::StrCat("save-", absl::Hex(random()), absl::Hex(random()));
}

absl::StatusOr<CheckpointFile> AddTensors(CheckpointWriter& writer, absl::string_view name,
                                          absl::Span<const NamedTensor> tensors) {
  SafetensorsImage image;
  const absl::Status made = MakeSafetensors(tensors, Metadata(), image);
  if (!made.ok()) return Annotate(made, name);
  return writer.Add(name, image.pieces);
}

absl::StatusOr<std::vector<NamedTensor>> ParseFile(absl::string_view file,
                                                   const std::string& bytes) {
  auto tensors = ParseSafetensors(bytes);
  if (!tensors.ok()) return Annotate(tensors.status(), file);
  return tensors;
}

}  // namespace

std::string ToJson(const TrainingState& state) {
  nlohmann::ordered_json json;
  json["step"] = state.step;
  json["skipped_steps"] = state.skipped_steps;
  json["samples_seen"] = state.samples_seen;
  json["tokens_seen"] = state.tokens_seen;
  json["seed"] = state.seed;
  json["data_fingerprint"] = state.data_fingerprint;
  json["spec_sha256"] = state.spec_sha256;
  json["spec"] = state.spec;
  json["device_class"] = state.device_class;
  json["weights_sha256"] = state.weights_sha256;
  // "replace": a stray byte in a device's name must not cost a checkpoint.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

absl::StatusOr<TrainingState> TrainingStateFromJson(absl::string_view json) {
  try {
    const nlohmann::json fields = nlohmann::json::parse(json.begin(), json.end());
    TrainingState state;
    fields.at("step").get_to(state.step);
    fields.at("skipped_steps").get_to(state.skipped_steps);
    fields.at("samples_seen").get_to(state.samples_seen);
    fields.at("tokens_seen").get_to(state.tokens_seen);
    fields.at("seed").get_to(state.seed);
    fields.at("data_fingerprint").get_to(state.data_fingerprint);
    fields.at("spec_sha256").get_to(state.spec_sha256);
    fields.at("spec").get_to(state.spec);
    fields.at("device_class").get_to(state.device_class);
    fields.at("weights_sha256").get_to(state.weights_sha256);
    return state;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("not the state of a training run: ", error.what()));
  }
}

absl::StatusOr<std::string> SaveCheckpoint(CheckpointStore& store, int64_t generation,
                                           const TrainingState& state,
                                           absl::Span<const NamedTensor> weights,
                                           absl::Span<const NamedTensor> optimizer) {
  WEFT_ASSIGN_OR_RETURN(
      const std::unique_ptr<CheckpointWriter> writer,
      store.Begin({.generation = generation, .step = state.step}, FreshWriterWord()));
  WEFT_ASSIGN_OR_RETURN(const CheckpointFile file, AddTensors(*writer, kWeightsFile, weights));
  WEFT_RETURN_IF_ERROR(AddTensors(*writer, kOptimizerFile, optimizer));
  TrainingState complete = state;
  complete.weights_sha256 = file.sha256;
  const std::string json = ToJson(complete);
  const absl::string_view piece = json;
  WEFT_RETURN_IF_ERROR(writer->Add(kStateFile, absl::MakeConstSpan(&piece, 1)));
  WEFT_RETURN_IF_ERROR(writer->Publish({}));
  return file.sha256;
}

absl::StatusOr<std::string> WeightsSha256(absl::Span<const NamedTensor> weights) {
  SafetensorsImage image;
  WEFT_RETURN_IF_ERROR(MakeSafetensors(weights, Metadata(), image));
  Sha256 hash;
  for (absl::string_view piece : image.pieces) hash.Update(piece);
  return hash.Finish();
}

absl::StatusOr<std::unique_ptr<LoadedCheckpoint>> LoadCheckpoint(CheckpointStore& store,
                                                                 const CheckpointId& id,
                                                                 bool with_optimizer) {
  auto loaded = std::make_unique<LoadedCheckpoint>();
  loaded->id = id;
  WEFT_ASSIGN_OR_RETURN(const std::string json, store.Read(id, kStateFile));
  WEFT_ASSIGN_OR_RETURN(loaded->state, TrainingStateFromJson(json));
  if (loaded->state.step != id.step) {
    return absl::DataLossError(absl::StrCat("the checkpoint of step ", id.step,
                                            " holds the state of step ", loaded->state.step));
  }
  WEFT_ASSIGN_OR_RETURN(loaded->weights_bytes, store.Read(id, kWeightsFile));
  WEFT_ASSIGN_OR_RETURN(loaded->weights, ParseFile(kWeightsFile, loaded->weights_bytes));
  if (with_optimizer) {
    WEFT_ASSIGN_OR_RETURN(loaded->optimizer_bytes, store.Read(id, kOptimizerFile));
    WEFT_ASSIGN_OR_RETURN(loaded->optimizer, ParseFile(kOptimizerFile, loaded->optimizer_bytes));
  }
  return loaded;
}

}  // namespace weft::worker

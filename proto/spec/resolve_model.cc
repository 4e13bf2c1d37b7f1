#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

// Draws tell so many heads of a step's batch, or of an evaluation, apart: the width of a number in
// the counter of the generator (kernels/random/philox.h).
constexpr int64_t kMostDrawingHeads = 1 << 20;

void ResolveOverrides(Rules& rules, v1::ModelSpec& model) {
  std::set<int32_t> seen;
  for (int i = 0; i < model.overrides_size(); ++i) {
    const std::string path = absl::StrCat("model.overrides[", i, "]");
    v1::MixerOverride& entry = *model.mutable_overrides(i);
    if (entry.layers().empty()) rules.Report(absl::StrCat(path, ".layers"), "names no layer");
    for (const int32_t layer : entry.layers()) {
      if (layer < 0 || layer >= model.layers()) {
        rules.Report(
            absl::StrCat(path, ".layers"),
            absl::StrCat("layer ", layer, " does not exist; 0 to ", model.layers() - 1, " do"));
      } else if (!seen.insert(layer).second) {
        rules.Report(absl::StrCat(path, ".layers"),
                     absl::StrCat("layer ", layer, " is named twice"));
      }
    }
    if (rules.Require(entry.has_mixer(), absl::StrCat(path, ".mixer"))) {
      ResolveMixer(rules, absl::StrCat(path, ".mixer"), *entry.mutable_mixer(), model);
    }
  }
}

void ResolveBiases(v1::BiasSpec& biases) {
  if (!biases.has_projections()) biases.set_projections(false);
  if (!biases.has_output()) biases.set_output(false);
  if (!biases.has_mlp()) biases.set_mlp(false);
  if (!biases.has_logits()) biases.set_logits(false);
}

void ResolveDropout(Rules& rules, v1::DropoutSpec& dropout) {
  if (!dropout.has_embedding()) dropout.set_embedding(0);
  if (!dropout.has_attention()) dropout.set_attention(0);
  if (!dropout.has_sublayer()) dropout.set_sublayer(0);
  if (!dropout.has_mlp_hidden()) dropout.set_mlp_hidden(0);
  const auto check = [&](absl::string_view field, double share) {
    if (share >= 0 && share < 1) return;
    rules.Report(absl::StrCat("model.dropout.", field),
                 absl::StrCat("must be at least 0 and below 1, is ", share));
  };
  check("embedding", dropout.embedding());
  check("attention", dropout.attention());
  check("sublayer", dropout.sublayer());
  check("mlp_hidden", dropout.mlp_hidden());
}

void ResolvePositions(Rules& rules, v1::ModelSpec& model, int64_t sequence_length) {
  using Spec = v1::ModelSpec;
  model.set_positions(EnumOr(rules, "model.positions", model.has_positions(), model.positions(),
                             Spec::POSITIONS_NONE));
  const int32_t multiple = model.positions() == Spec::POSITIONS_SINUSOIDAL                ? 2
                           : model.positions() == Spec::POSITIONS_SINUSOIDAL_CONCATENATED ? 4
                                                                                          : 1;
  if (model.width() % multiple != 0) {
    rules.Report("model.width", absl::StrCat("must be a multiple of ", multiple, " for positions ",
                                             "of sines and cosines, is ", model.width()));
  }
  constexpr absl::string_view field = "model.max_positions";
  if (model.positions() == Spec::POSITIONS_LEARNED) {
    const bool leads = HasOneTarget(model) && model.pooling() == Spec::POOLING_LEADING_TOKEN;
    rules.InRange<int64_t>(field, model.max_positions(),
                           std::max<int64_t>(1, sequence_length) + (leads ? 1 : 0),
                           kMaxSequence + 1);
  } else if (model.max_positions() != 0) {
    rules.Report(field, "is for learned positions");
  }
}

// How blocks and their surroundings are built.
void ResolveStyle(Rules& rules, v1::ModelSpec& model) {
  using Spec = v1::ModelSpec;
  model.set_norm(EnumOr(rules, "model.norm", model.has_norm(), model.norm(), Spec::NORM_RMS));
  model.set_norm_placement(EnumOr(rules, "model.norm_placement", model.has_norm_placement(),
                                  model.norm_placement(), Spec::NORM_PLACEMENT_INPUT));
  model.set_mlp(EnumOr(rules, "model.mlp", model.has_mlp(), model.mlp(), Spec::MLP_SWIGLU));
  model.set_initialisation(EnumOr(rules, "model.initialisation", model.has_initialisation(),
                                  model.initialisation(), Spec::INITIALISATION_NORMAL));
  if (!model.has_final_norm()) model.set_final_norm(true);
  if (!model.has_tied_embeddings()) model.set_tied_embeddings(false);
  if (!model.has_output_projection()) model.set_output_projection(true);
  if (model.has_embedding_deviation()) {
    rules.Positive("model.embedding_deviation", model.embedding_deviation());
  }
  if (model.tied_embeddings() && model.positions() == Spec::POSITIONS_SINUSOIDAL_CONCATENATED) {
    rules.Report("model.tied_embeddings",
                 "the embedding has half the width, beside concatenated positions");
  }
  ResolveBiases(*model.mutable_biases());
  ResolveDropout(rules, *model.mutable_dropout());
}

template <typename Do>
void ForEachMixer(const v1::ModelSpec& model, const Do& call) {
  for (const v1::MixerSpec& mixer : model.mixers()) call(mixer);
  for (const v1::MixerOverride& entry : model.overrides()) call(entry.mixer());
}

// Reports every mixer for which `complaint` is not empty.
template <typename Complaint>
void CheckMixers(Rules& rules, absl::string_view field, const v1::ModelSpec& model,
                 Complaint complaint) {
  std::set<std::string> said;
  ForEachMixer(model, [&](const v1::MixerSpec& mixer) {
    const std::string what = complaint(mixer);
    if (!what.empty() && said.insert(what).second) rules.Report(field, what);
  });
}

std::string WithoutWeights(const v1::MixerSpec& mixer) {
  switch (mixer.kind_case()) {
    case v1::MixerSpec::kDelta:
      return "delta has no attention weights to drop";
    case v1::MixerSpec::kPerformer:
      return "performer has no attention weights to drop";
    case v1::MixerSpec::kPolysketch:
      return "polysketch has no attention weights to drop";
    case v1::MixerSpec::kSlim:
      return "slim has no attention weights to drop";
    default:
      return "";
  }
}

std::string WithoutState(const v1::MixerSpec& mixer) {
  const v1::PolysketchSpec::Mode mode = mixer.polysketch().mode();
  switch (mixer.kind_case()) {
    case v1::MixerSpec::kSoftmax:
      return "softmax has no state of fixed size";
    case v1::MixerSpec::kScatterbrain:
      return "scatterbrain has no state of fixed size";
    case v1::MixerSpec::kSbm:
      return "sbm has no state of fixed size";
    case v1::MixerSpec::kPolysketch:
      return mode == v1::PolysketchSpec::MODE_RANDOM_SKETCH ||
                     mode == v1::PolysketchSpec::MODE_LEARNED_SKETCH
                 ? ""
                 : "polysketch has a state of fixed size in the modes random_sketch and "
                   "learned_sketch alone";
    default:
      return "";
  }
}

// Heads of a mixer that can drop weights.
int32_t HeadsWithWeights(const v1::MixerSpec& mixer) {
  switch (mixer.kind_case()) {
    case v1::MixerSpec::kSoftmax:
      return mixer.softmax().heads();
    case v1::MixerSpec::kScatterbrain:
      return mixer.scatterbrain().heads();
    case v1::MixerSpec::kSbm:
      return mixer.sbm().heads();
    default:
      return 0;
  }
}

}  // namespace

void CheckDraws(Rules& rules, const v1::JobSpec& spec) {
  const v1::ModelSpec& model = spec.model();
  const v1::TrainingSpec& training = spec.training();
  int64_t sampling = 0;  // heads that draw a graph, in evaluations too
  int64_t dropping = 0;  // heads that draw what they drop, in training alone
  ForEachMixer(model, [&](const v1::MixerSpec& mixer) {
    const int32_t heads = HeadsWithWeights(mixer);
    if (heads < 1 || heads > model.width() || model.width() % heads != 0) return;  // reported
    if (mixer.has_sbm()) sampling = std::max<int64_t>(sampling, heads);
    if (model.dropout().attention() > 0) dropping = std::max<int64_t>(dropping, heads);
  });
  const bool pairs = model.kind() == v1::ModelSpec::KIND_TWO_TOWER;
  // The passes that `field` counts the sequences of may end `beyond` sequences behind the last one.
  const auto check = [&](absl::string_view field, int64_t heads, int64_t sequences, int64_t beyond,
                         absl::string_view less) {
    if (heads == 0) return true;
    heads *= pairs ? 2 : 1;
    const int64_t most = kMostDrawingHeads / heads - beyond;
    if (sequences <= most) return true;
    rules.Report(field, absl::StrCat("must be at most ", most, " with ", heads, " heads a ",
                                     pairs ? "pair" : "sequence", " that draw (", kMostDrawingHeads,
                                     " / ", heads, less, "), is ", sequences));
    return false;
  };
  if (check("training.batch_size", std::max(sampling, dropping), training.batch_size(), 0, "") &&
      training.micro_batch_size() > 0 && training.micro_batch_size() <= training.batch_size()) {
    check("evaluation.sequences", sampling, spec.evaluation().sequences(),
          training.micro_batch_size() - 1, ", training.micro_batch_size - 1 less");
  }
}

void ResolveMemory(Rules& rules, v1::MemorySpec& memory, const v1::ModelSpec& model) {
  if (!memory.has_slice_length()) memory.set_slice_length(0);
  if (!memory.has_sharded_optimizer()) memory.set_sharded_optimizer(false);
  constexpr absl::string_view field = "memory.slice_length";
  rules.InRange<int64_t>(field, memory.slice_length(), 0, kMaxSequence);
  if (memory.slice_length() <= 0) return;
  if (model.kind() != v1::ModelSpec::KIND_LANGUAGE_MODEL) {
    return rules.Report(field, "is for language models");
  }
  CheckMixers(rules, field, model, WithoutState);
}

void ResolveModel(Rules& rules, v1::ModelSpec& model, const v1::DataSpec& data,
                  int64_t sequence_length) {
  const DataFacts facts = FactsOf(data);
  ResolveKind(rules, model, facts);
  if (!model.has_vocab_size()) model.set_vocab_size(facts.is_labelled ? facts.vocabulary : 256);
  rules.InRange("model.vocab_size", model.vocab_size(), 2, 1 << 20);
  const bool width = rules.InRange("model.width", model.width(), 1, 1 << 16);
  const bool layers = rules.InRange("model.layers", model.layers(), 1, 1024);
  if (!model.has_mlp_width() && width) {
    const int64_t raw = static_cast<int64_t>(model.width()) * 8 / 3;
    model.set_mlp_width(static_cast<int32_t>((raw + 255) / 256 * 256));
  }
  if (model.has_mlp_width()) rules.InRange("model.mlp_width", model.mlp_width(), 1, 1 << 20);
  if (!model.has_norm_epsilon()) model.set_norm_epsilon(1e-6);
  rules.Positive("model.norm_epsilon", model.norm_epsilon());
  if (model.mixers().empty()) rules.Report("model.mixers", "at least one mixer is required");
  for (int i = 0; i < model.mixers_size(); ++i) {
    ResolveMixer(rules, absl::StrCat("model.mixers[", i, "]"), *model.mutable_mixers(i), model);
  }
  if (layers && model.mixers_size() > model.layers()) {
    rules.Report("model.mixers",
                 absl::StrCat("has ", model.mixers_size(), " entries for ", model.layers(),
                              " layers; at most one a layer is used"));
  }
  ResolveOverrides(rules, model);
  ResolvePositions(rules, model, sequence_length);
  ResolveStyle(rules, model);
  ResolveHead(rules, model);
  if (model.dropout().attention() > 0) {
    CheckMixers(rules, "model.dropout.attention", model, WithoutWeights);
  }
}

}  // namespace weft::spec

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/names.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

using Spec = v1::ModelSpec;

constexpr int32_t kMostClasses = 1 << 16;

Spec::Kind KindFor(const DataFacts& data) {
  if (data.is_pair) return Spec::KIND_TWO_TOWER;
  if (data.is_labelled) return Spec::KIND_CLASSIFIER;
  return data.classes > 0 ? Spec::KIND_TOKEN_CLASSIFIER : Spec::KIND_LANGUAGE_MODEL;
}

std::string TargetsOf(const DataFacts& data) {
  if (data.is_pair) return "one label a pair of texts";
  if (data.is_labelled) return "one label a sample";
  return data.classes > 0 ? "a class at each position" : "tokens to predict";
}

std::string NameOf(Spec::Kind kind) {
  return EnumName(*Spec::Kind_descriptor()->FindValueByNumber(kind));
}

void ResolveClasses(Rules& rules, Spec& model, const DataFacts& data) {
  constexpr absl::string_view field = "model.classes";
  if (model.kind() == Spec::KIND_LANGUAGE_MODEL) {
    if (model.has_classes()) {
      rules.Report(field, "is for classifiers; a language model's classes are its tokens");
    }
    return;
  }
  if (!model.has_classes() && data.classes > 0) model.set_classes(data.classes);
  if (model.has_classes())
    rules.InRange(field, model.classes(), std::max(2, data.classes), kMostClasses);
}

}  // namespace

bool HasOneTarget(const v1::ModelSpec& model) {
  return model.kind() == Spec::KIND_CLASSIFIER || model.kind() == Spec::KIND_TWO_TOWER;
}

void ResolveKind(Rules& rules, v1::ModelSpec& model, const DataFacts& data) {
  model.set_kind(
      EnumOr(rules, "model.kind", model.has_kind(), model.kind(), Spec::KIND_LANGUAGE_MODEL));
  ResolveClasses(rules, model, data);
  if (HasOneTarget(model)) {
    model.set_pooling(
        EnumOr(rules, "model.pooling", model.has_pooling(), model.pooling(), Spec::POOLING_MEAN));
  } else if (model.has_pooling()) {
    rules.Report("model.pooling", "is for classifiers of whole sequences or pairs");
  }
  if (model.kind() == Spec::KIND_TWO_TOWER) {
    if (!model.has_pair_products()) model.set_pair_products(true);
  } else if (model.has_pair_products()) {
    rules.Report("model.pair_products", "is for two_tower models");
  }
}

void ResolveHead(Rules& rules, v1::ModelSpec& model) {
  if (HasOneTarget(model)) {
    if (!model.has_head_width()) model.set_head_width(model.mlp_width());
    if (model.has_mlp_width()) rules.InRange("model.head_width", model.head_width(), 1, 1 << 20);
    if (model.biases().logits()) {
      rules.Report("model.biases.logits", "is for logits of each token; this head has biases");
    }
  } else if (model.has_head_width()) {
    rules.Report("model.head_width", "is for classifiers of whole sequences or pairs");
  }
  if (model.tied_embeddings() && model.kind() != Spec::KIND_LANGUAGE_MODEL) {
    rules.Report("model.tied_embeddings", "is for language models");
  }
}

void CheckKind(Rules& rules, const v1::ModelSpec& model, const DataFacts& data,
               absl::string_view source) {
  const Spec::Kind needed = KindFor(data);
  if (model.kind() == needed || !Spec::Kind_IsValid(model.kind())) return;
  rules.Report("model.kind",
               absl::StrCat("must be ", NameOf(needed), " for data.", source, ", which has ",
                            TargetsOf(data), "; is ", NameOf(model.kind())));
}

}  // namespace weft::spec

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/spec/data_facts.h"
#include "proto/spec/names.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

constexpr int64_t kEndless = int64_t{1} << 40;

// What the rules of a source look at beside itself. A size is 0 where the spec has none that makes
// sense, which is reported elsewhere.
struct Surroundings {
  Rules& rules;
  int32_t vocab_size;
  int32_t sequence;
};

template <typename Paths>
void CheckPaths(Rules& rules, absl::string_view field, const Paths& paths) {
  for (int i = 0; i < paths.size(); ++i) {
    if (paths[i].empty()) rules.Report(absl::StrCat(field, "[", i, "]"), "is empty");
  }
}

template <typename Files>
void CheckFiles(Rules& rules, absl::string_view source, const Files& files) {
  const std::string field = absl::StrCat("data.", source);
  if (files.paths().empty()) {
    rules.Report(absl::StrCat(field, ".paths"), "at least one path is required");
  }
  CheckPaths(rules, absl::StrCat(field, ".paths"), files.paths());
  CheckPaths(rules, absl::StrCat(field, ".validation_paths"), files.validation_paths());
}

void RequireFolder(Rules& rules, absl::string_view source, const std::string& folder) {
  rules.Require(!folder.empty(), absl::StrCat("data.", source, ".folder"));
}

// Symbols that leave room for `others` other tokens.
template <typename Task>
void ResolveSymbols(const Surroundings& around, absl::string_view source, int32_t others,
                    Task& task) {
  if (around.vocab_size == 0) return;
  const int32_t most = around.vocab_size - others;
  const std::string field = absl::StrCat("data.", source, ".symbols");
  if (most < 1) {
    around.rules.Report("model.vocab_size", absl::StrCat("must be at least ", others + 1, " for ",
                                                         source, ", is ", around.vocab_size));
    return;
  }
  if (!task.has_symbols()) task.set_symbols(most);
  if (task.symbols() < 1 || task.symbols() > most) {
    around.rules.Report(field, absl::StrCat("must be 1 to ", most, " (model.vocab_size - ", others,
                                            "), is ", task.symbols()));
  }
}

void NeedsSequence(const Surroundings& around, absl::string_view source, int32_t least) {
  if (around.sequence == 0 || around.sequence >= least) return;
  around.rules.Report("training.sequence_length", absl::StrCat("must be at least ", least, " for ",
                                                               source, ", is ", around.sequence));
}

void ResolveCopying(const Surroundings& around, v1::CopyingData& task) {
  ResolveSymbols(around, "copying", 1, task);
  if (!task.has_predict_separator()) task.set_predict_separator(false);
  NeedsSequence(around, "copying", 3);
  if (around.sequence % 2 == 0 && around.sequence > 0) {
    around.rules.Report("training.sequence_length",
                        absl::StrCat("must be odd for copying, because `0 w 0 w` has one token "
                                     "more; is ",
                                     around.sequence));
  }
}

void ResolveSelectiveCopying(const Surroundings& around, v1::SelectiveCopyingData& task) {
  ResolveSymbols(around, "selective_copying", 2, task);
  NeedsSequence(around, "selective_copying", 2);
  if (around.sequence < 2) return;
  const int32_t most = around.sequence / 2;
  if (!task.has_data_tokens()) task.set_data_tokens(std::min(16, most));
  if (task.data_tokens() < 1 || task.data_tokens() > most) {
    around.rules.Report(
        "data.selective_copying.data_tokens",
        absl::StrCat("must be 1 to ", most, " (half of training.sequence_length), is ",
                     task.data_tokens()));
  }
}

void ResolveRecall(const Surroundings& around, v1::RecallData& task) {
  if (!task.has_gap_exponent()) task.set_gap_exponent(0.01);
  if (!(task.gap_exponent() > 0 && task.gap_exponent() <= 1)) {
    around.rules.Report("data.recall.gap_exponent",
                        absl::StrCat("must be above 0 and at most 1, is ", task.gap_exponent()));
  }
  if (!task.has_random_filler()) task.set_random_filler(false);
  if (!around.rules.RequirePositive("data.recall.pairs", task.pairs())) return;
  if (around.sequence > 0 && task.pairs() > around.sequence / 4) {
    around.rules.Report("data.recall.pairs",
                        absl::StrCat("must be at most ", around.sequence / 4,
                                     " (training.sequence_length / 4), is ", task.pairs()));
  }
  if (around.vocab_size > 0 && task.pairs() > around.vocab_size / 2 - 1) {
    around.rules.Report("data.recall.pairs",
                        absl::StrCat("must be at most ", around.vocab_size / 2 - 1,
                                     " (model.vocab_size / 2 - 1), is ", task.pairs()));
  }
}

template <typename Source>
void ResolveMaxTokens(const Surroundings& around, absl::string_view name, Source& source) {
  if (around.sequence == 0) return;
  if (!source.has_max_tokens()) source.set_max_tokens(around.sequence);
  if (source.max_tokens() < 1 || source.max_tokens() > around.sequence) {
    around.rules.Report(absl::StrCat("data.", name, ".max_tokens"),
                        absl::StrCat("must be 1 to training.sequence_length (", around.sequence,
                                     "), is ", source.max_tokens()));
  }
}

void ResolveCifar10(const Surroundings& around, v1::Cifar10Data& images) {
  RequireFolder(around.rules, "cifar10", images.folder());
  if (!images.has_grey()) images.set_grey(v1::Cifar10Data::GREY_TENSORFLOW);
  if (!v1::Cifar10Data::Grey_IsValid(images.grey()) ||
      images.grey() == v1::Cifar10Data::GREY_UNSPECIFIED) {
    around.rules.Report("data.cifar10.grey", "must be one of tensorflow, pillow");
  }
  if (!images.has_mask_zero_pixels()) images.set_mask_zero_pixels(false);
  if (around.sequence > 0 && around.sequence != 1024) {
    around.rules.Report(
        "training.sequence_length",
        absl::StrCat("must be 1024, the pixels of an image of cifar10, is ", around.sequence));
  }
}

void ResolvePathfinder(const Surroundings& around, v1::PathfinderData& images) {
  RequireFolder(around.rules, "pathfinder", images.folder());
  if (!images.has_mask_zero_pixels()) images.set_mask_zero_pixels(false);
  const auto side = static_cast<int32_t>(std::lround(std::sqrt(around.sequence)));
  if (side * side != around.sequence) {
    around.rules.Report("training.sequence_length",
                        absl::StrCat("must be a square number for pathfinder, whose images are "
                                     "squares; is ",
                                     around.sequence));
  }
}

void ResolveEnwik8(Rules& rules, v1::Enwik8Data& text) {
  rules.Require(!text.path().empty(), "data.enwik8.path");
  if (!text.has_train_bytes()) text.set_train_bytes(90'000'000);
  if (!text.has_held_out_bytes()) text.set_held_out_bytes(5'000'000);
  // Far beyond any text; sums of them do not overflow.
  constexpr int64_t kMost = int64_t{1} << 40;
  rules.InRange<int64_t>("data.enwik8.train_bytes", text.train_bytes(), 1, kMost);
  rules.InRange<int64_t>("data.enwik8.held_out_bytes", text.held_out_bytes(), 1, kMost);
}

std::string SourceNames() {
  const auto* sources = v1::DataSpec::descriptor()->FindOneofByName("source");
  std::vector<std::string> names;
  for (int i = 0; i < sources->field_count(); ++i) names.push_back(sources->field(i)->name());
  return absl::StrJoin(names, ", ");
}

void ResolveSource(const Surroundings& around, v1::DataSpec& data) {
  Rules& rules = around.rules;
  switch (data.source_case()) {
    case v1::DataSpec::kText:
      return CheckFiles(rules, "text", data.text());
    case v1::DataSpec::kTokens:
      return CheckFiles(rules, "tokens", data.tokens());
    case v1::DataSpec::kCopying:
      return ResolveCopying(around, *data.mutable_copying());
    case v1::DataSpec::kSelectiveCopying:
      return ResolveSelectiveCopying(around, *data.mutable_selective_copying());
    case v1::DataSpec::kInductionHeads:
      ResolveSymbols(around, "induction_heads", 1, *data.mutable_induction_heads());
      return NeedsSequence(around, "induction_heads", 3);
    case v1::DataSpec::kRecall:
      return ResolveRecall(around, *data.mutable_recall());
    case v1::DataSpec::kRepeatedTokens:
      ResolveSymbols(around, "repeated_tokens", 1, *data.mutable_repeated_tokens());
      return NeedsSequence(around, "repeated_tokens", 2);
    case v1::DataSpec::kListops:
      if (data.listops().has_folder()) RequireFolder(rules, "listops", data.listops().folder());
      return ResolveMaxTokens(around, "listops", *data.mutable_listops());
    case v1::DataSpec::kImdb:
      RequireFolder(rules, "imdb", data.imdb().folder());
      return ResolveMaxTokens(around, "imdb", *data.mutable_imdb());
    case v1::DataSpec::kAan:
      RequireFolder(rules, "aan", data.aan().folder());
      return ResolveMaxTokens(around, "aan", *data.mutable_aan());
    case v1::DataSpec::kCifar10:
      return ResolveCifar10(around, *data.mutable_cifar10());
    case v1::DataSpec::kPathfinder:
      return ResolvePathfinder(around, *data.mutable_pathfinder());
    case v1::DataSpec::kPennTreebank:
      return RequireFolder(rules, "penn_treebank", data.penn_treebank().folder());
    case v1::DataSpec::kEnwik8:
      return ResolveEnwik8(rules, *data.mutable_enwik8());
    case v1::DataSpec::kWikitext103:
      return RequireFolder(rules, "wikitext103", data.wikitext103().folder());
    case v1::DataSpec::kPg19:
      return RequireFolder(rules, "pg19", data.pg19().folder());
    case v1::DataSpec::SOURCE_NOT_SET:
      return rules.Report("data", absl::StrCat("must name a source: one of ", SourceNames()));
  }
}

// The fields that go with some sources only.
void ResolveShared(const Surroundings& around, const DataFacts& facts, v1::DataSpec& data) {
  Rules& rules = around.rules;
  if (facts.has_held_out) {
    if (data.has_validation_fraction()) {
      rules.Report("data.validation_fraction",
                   "is for text and tokens without validation_paths; this data has a validation "
                   "part of its own");
    }
    const bool has_test =
        data.source_case() != v1::DataSpec::kText && data.source_case() != v1::DataSpec::kTokens;
    if (!data.has_held_out()) data.set_held_out(v1::DataSpec::HELD_OUT_VALIDATION);
    if (!v1::DataSpec::HeldOut_IsValid(data.held_out()) ||
        data.held_out() == v1::DataSpec::HELD_OUT_UNSPECIFIED) {
      rules.Report("data.held_out", "must be one of validation, test");
    } else if (data.held_out() == v1::DataSpec::HELD_OUT_TEST && !has_test) {
      rules.Report("data.held_out", "must be validation: text and tokens have no test part");
    }
  } else {
    if (!data.has_validation_fraction()) data.set_validation_fraction(0.05);
    rules.InRange("data.validation_fraction", data.validation_fraction(), 0.0, 0.5);
    if (data.has_held_out()) {
      rules.Report("data.held_out", "is for data that has parts of its own to hold out");
    }
  }
  if (!data.has_order()) data.set_order(v1::DataSpec::ORDER_SHUFFLED);
  if (!v1::DataSpec::Order_IsValid(data.order()) ||
      data.order() == v1::DataSpec::ORDER_UNSPECIFIED) {
    rules.Report("data.order", "must be one of shuffled, sequential, streams");
  }
  if (facts.is_generated) {
    if (!data.has_seed()) data.set_seed(0);
    if (!data.has_train_samples()) data.set_train_samples(kEndless);
    rules.InRange<int64_t>("data.train_samples", data.train_samples(), 1, kEndless);
  } else {
    if (data.has_seed()) rules.Report("data.seed", "is for generated data");
    if (data.has_train_samples()) rules.Report("data.train_samples", "is for generated data");
  }
  if (facts.is_generated || facts.is_labelled) {
    if (data.has_window_stride()) rules.Report("data.window_stride", "is for texts and tokens");
  } else if (around.sequence > 0) {
    if (!data.has_window_stride()) data.set_window_stride(around.sequence);
    if (data.window_stride() < 1) {
      rules.Report("data.window_stride",
                   absl::StrCat("must be at least 1, is ", data.window_stride()));
    }
  }
}

// That the model can take the tokens in.
void CheckVocabulary(const Surroundings& around, const DataFacts& facts, absl::string_view source) {
  // The rules of symbols have spoken of the vocabulary already.
  const bool has_symbols = facts.is_generated && !facts.is_labelled;
  if (!has_symbols && around.vocab_size > 0 && around.vocab_size < facts.vocabulary) {
    around.rules.Report("model.vocab_size",
                        absl::StrCat("must be at least ", facts.vocabulary, " for ", source,
                                     ", is ", around.vocab_size));
  }
}

}  // namespace

void ResolveData(Rules& rules, v1::DataSpec& data, const v1::ModelSpec& model,
                 const v1::TrainingSpec& training) {
  const Surroundings around = {.rules = rules,
                               .vocab_size = std::max(0, model.vocab_size()),
                               .sequence = std::max(0, training.sequence_length())};
  ResolveSource(around, data);
  if (data.source_case() == v1::DataSpec::SOURCE_NOT_SET) return;
  const DataFacts facts = FactsOf(data);
  ResolveShared(around, facts, data);
  const std::string& source =
      v1::DataSpec::descriptor()->FindFieldByNumber(data.source_case())->name();
  CheckVocabulary(around, facts, source);
  CheckKind(rules, model, facts, source);
}

}  // namespace weft::spec

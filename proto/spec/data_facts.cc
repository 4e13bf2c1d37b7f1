#include "proto/spec/data_facts.h"

namespace weft::spec {
namespace {

constexpr int32_t kBytes = 256;
constexpr int32_t kPaddedBytes = 257;
constexpr int32_t kGreys = 256;
constexpr int32_t kListOpsTokens = 16;

// A label a sample, read from files.
DataFacts Labelled(int32_t vocabulary, int32_t classes, bool is_padded) {
  return {.vocabulary = vocabulary,
          .classes = classes,
          .is_labelled = true,
          .is_padded = is_padded,
          .has_held_out = true};
}

DataFacts Generated(int32_t vocabulary, int32_t classes = 0) {
  return {.vocabulary = vocabulary, .classes = classes, .is_generated = true, .has_held_out = true};
}

}  // namespace

DataFacts FactsOf(const v1::DataSpec& data) {
  switch (data.source_case()) {
    case v1::DataSpec::kText:
      return {.vocabulary = kBytes,
              .is_bytes = true,
              .has_held_out = !data.text().validation_paths().empty()};
    case v1::DataSpec::kTokens:
      return {.has_held_out = !data.tokens().validation_paths().empty()};
    case v1::DataSpec::kCopying:
      return Generated(data.copying().symbols() + 1);
    case v1::DataSpec::kSelectiveCopying:
      return Generated(data.selective_copying().symbols() + 2);
    case v1::DataSpec::kInductionHeads:
      return Generated(data.induction_heads().symbols() + 1);
    case v1::DataSpec::kRecall:
      return Generated(0);  // takes all that the model has
    case v1::DataSpec::kRepeatedTokens:
      return Generated(data.repeated_tokens().symbols() + 1, 2);
    case v1::DataSpec::kListops: {
      DataFacts facts = Labelled(kListOpsTokens, 10, true);
      facts.is_generated = !data.listops().has_folder();
      return facts;
    }
    case v1::DataSpec::kImdb:
      return Labelled(kPaddedBytes, 2, true);
    case v1::DataSpec::kAan: {
      DataFacts facts = Labelled(kPaddedBytes, 2, true);
      facts.is_pair = true;
      return facts;
    }
    case v1::DataSpec::kCifar10:
      return Labelled(kGreys, 10, data.cifar10().mask_zero_pixels());
    case v1::DataSpec::kPathfinder:
      return Labelled(kGreys, 2, data.pathfinder().mask_zero_pixels());
    case v1::DataSpec::kPennTreebank:
    case v1::DataSpec::kEnwik8:
    case v1::DataSpec::kPg19:
      return {.vocabulary = kBytes, .is_bytes = true, .has_held_out = true};
    case v1::DataSpec::kWikitext103:
      return {.has_held_out = true};
    case v1::DataSpec::SOURCE_NOT_SET:
      break;
  }
  return {};
}

}  // namespace weft::spec

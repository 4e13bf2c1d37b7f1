#include "worker/rank/data_from_spec.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/file/durable_file.h"
#include "proto/spec/data_paths.h"

namespace weft::worker {
namespace {

std::vector<std::string> ListOf(const google::protobuf::RepeatedPtrField<std::string>& paths) {
  return {paths.begin(), paths.end()};
}

DataSource SourceFromSpec(const v1::DataSpec& spec, int32_t vocabulary) {
  switch (spec.source_case()) {
    case v1::DataSpec::kText:
      return TextFiles{.paths = ListOf(spec.text().paths()),
                       .validation_paths = ListOf(spec.text().validation_paths())};
    case v1::DataSpec::kTokens:
      return TokenFiles{.paths = ListOf(spec.tokens().paths()),
                        .validation_paths = ListOf(spec.tokens().validation_paths())};
    case v1::DataSpec::kCopying:
      return CopyingOptions{.symbols = spec.copying().symbols(),
                            .predict_separator = spec.copying().predict_separator()};
    case v1::DataSpec::kSelectiveCopying:
      return SelectiveCopyingOptions{.symbols = spec.selective_copying().symbols(),
                                     .data_tokens = spec.selective_copying().data_tokens()};
    case v1::DataSpec::kInductionHeads:
      return InductionHeadsOptions{.symbols = spec.induction_heads().symbols()};
    case v1::DataSpec::kRecall:
      return RecallOptions{.vocabulary = vocabulary,
                           .pairs = spec.recall().pairs(),
                           .gap_exponent = spec.recall().gap_exponent(),
                           .random_filler = spec.recall().random_filler()};
    case v1::DataSpec::kRepeatedTokens:
      return RepeatedTokensOptions{.symbols = spec.repeated_tokens().symbols()};
    case v1::DataSpec::kListops:
      if (!spec.listops().has_folder()) {
        return ListOpsOptions{.max_tokens = spec.listops().max_tokens()};
      }
      return ListOpsFiles{.folder = spec.listops().folder(),
                          .max_tokens = spec.listops().max_tokens()};
    case v1::DataSpec::kImdb:
      return ImdbFiles{.folder = spec.imdb().folder(), .max_tokens = spec.imdb().max_tokens()};
    case v1::DataSpec::kAan:
      return AanFiles{.folder = spec.aan().folder(), .max_tokens = spec.aan().max_tokens()};
    case v1::DataSpec::kCifar10:
      return Cifar10Files{.folder = spec.cifar10().folder(),
                          .grey = spec.cifar10().grey() == v1::Cifar10Data::GREY_PILLOW
                                      ? GreyConversion::kPillow
                                      : GreyConversion::kTensorFlow,
                          .mask_zero_pixels = spec.cifar10().mask_zero_pixels()};
    case v1::DataSpec::kPathfinder:
      return PathfinderFiles{.folder = spec.pathfinder().folder(),
                             .mask_zero_pixels = spec.pathfinder().mask_zero_pixels()};
    case v1::DataSpec::kPennTreebank:
      return PennTreebankFiles{.folder = spec.penn_treebank().folder()};
    case v1::DataSpec::kEnwik8:
      return Enwik8File{.path = spec.enwik8().path(),
                        .train_bytes = spec.enwik8().train_bytes(),
                        .held_out_bytes = spec.enwik8().held_out_bytes()};
    case v1::DataSpec::kWikitext103:
      return WikiText103Files{.folder = spec.wikitext103().folder()};
    case v1::DataSpec::kPg19:
      return Pg19Files{.folder = spec.pg19().folder()};
    case v1::DataSpec::SOURCE_NOT_SET:
      break;
  }
  return TextFiles{};  // the rules of a spec do not let it come here
}

OrderKind OrderFromSpec(v1::DataSpec::Order order) {
  switch (order) {
    case v1::DataSpec::ORDER_SEQUENTIAL:
      return OrderKind::kSequential;
    case v1::DataSpec::ORDER_STREAMS:
      return OrderKind::kStreams;
    default:
      return OrderKind::kShuffled;
  }
}

}  // namespace

DataConfig DataFromSpec(const v1::DataSpec& spec, absl::string_view data_root, int32_t vocabulary) {
  DataConfig data;
  v1::DataSpec here = spec;
  spec::ChangePaths(here, [data_root](const std::string& path) {
    return absl::StartsWith(path, "/") || data_root.empty() ? path : JoinPath(data_root, path);
  });
  data.source = SourceFromSpec(here, vocabulary);
  data.order = OrderFromSpec(spec.order());
  data.held_out =
      spec.held_out() == v1::DataSpec::HELD_OUT_TEST ? HeldOut::kTest : HeldOut::kValidation;
  data.validation_fraction = spec.validation_fraction();
  data.window_stride = spec.window_stride();
  data.seed = spec.seed();
  if (spec.has_train_samples()) data.train_samples = spec.train_samples();
  return data;
}

}  // namespace weft::worker

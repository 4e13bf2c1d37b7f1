#include "worker/rank/data_from_spec.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/file/durable_file.h"

namespace weft::worker {
namespace {

// Paths of the spec as paths of this machine.
class Paths {
 public:
  explicit Paths(absl::string_view data_root) : data_root_(data_root) {}

  [[nodiscard]] std::string operator()(const std::string& path) const {
    return absl::StartsWith(path, "/") || data_root_.empty() ? path : JoinPath(data_root_, path);
  }
  [[nodiscard]] std::vector<std::string> operator()(
      const google::protobuf::RepeatedPtrField<std::string>& paths) const {
    std::vector<std::string> resolved;
    for (const std::string& path : paths) resolved.push_back((*this)(path));
    return resolved;
  }

 private:
  absl::string_view data_root_;
};

DataSource SourceFromSpec(const v1::DataSpec& spec, const Paths& paths, int32_t vocabulary) {
  switch (spec.source_case()) {
    case v1::DataSpec::kText:
      return TextFiles{.paths = paths(spec.text().paths()),
                       .validation_paths = paths(spec.text().validation_paths())};
    case v1::DataSpec::kTokens:
      return TokenFiles{.paths = paths(spec.tokens().paths()),
                        .validation_paths = paths(spec.tokens().validation_paths())};
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
      return ListOpsFiles{.folder = paths(spec.listops().folder()),
                          .max_tokens = spec.listops().max_tokens()};
    case v1::DataSpec::kImdb:
      return ImdbFiles{.folder = paths(spec.imdb().folder()),
                       .max_tokens = spec.imdb().max_tokens()};
    case v1::DataSpec::kAan:
      return AanFiles{.folder = paths(spec.aan().folder()), .max_tokens = spec.aan().max_tokens()};
    case v1::DataSpec::kCifar10:
      return Cifar10Files{.folder = paths(spec.cifar10().folder()),
                          .grey = spec.cifar10().grey() == v1::Cifar10Data::GREY_PILLOW
                                      ? GreyConversion::kPillow
                                      : GreyConversion::kTensorFlow,
                          .mask_zero_pixels = spec.cifar10().mask_zero_pixels()};
    case v1::DataSpec::kPathfinder:
      return PathfinderFiles{.folder = paths(spec.pathfinder().folder()),
                             .mask_zero_pixels = spec.pathfinder().mask_zero_pixels()};
    case v1::DataSpec::kPennTreebank:
      return PennTreebankFiles{.folder = paths(spec.penn_treebank().folder())};
    case v1::DataSpec::kEnwik8:
      return Enwik8File{.path = paths(spec.enwik8().path()),
                        .train_bytes = spec.enwik8().train_bytes(),
                        .held_out_bytes = spec.enwik8().held_out_bytes()};
    case v1::DataSpec::kWikitext103:
      return WikiText103Files{.folder = paths(spec.wikitext103().folder())};
    case v1::DataSpec::kPg19:
      return Pg19Files{.folder = paths(spec.pg19().folder())};
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
  data.source = SourceFromSpec(spec, Paths(data_root), vocabulary);
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

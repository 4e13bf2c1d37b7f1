#include "worker/data/open_data.h"

#include <string>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "worker/data/token_windows.h"

namespace weft::worker {
namespace {

// One overload for each kind of source.
class Opener {
 public:
  Opener(const DataConfig& config, int64_t sequence, int32_t vocabulary)
      : config_(config), sequence_(sequence), vocabulary_(vocabulary) {}

  SampleSourceOr operator()(const TextFiles& files) const {
    return Windows(OpenFiles(files.paths, files.validation_paths, OpenByteText));
  }
  SampleSourceOr operator()(const TokenFiles& files) const {
    return Windows(OpenFiles(files.paths, files.validation_paths,
                             [this](const std::vector<std::string>& paths) {
                               return OpenTokenFiles(paths, vocabulary_);
                             }));
  }
  SampleSourceOr operator()(const PennTreebankFiles& files) const {
    return Windows(OpenPennTreebank(files.folder, config_.held_out));
  }
  SampleSourceOr operator()(const Enwik8File& file) const {
    return Windows(OpenEnwik8(file, config_.held_out));
  }
  SampleSourceOr operator()(const WikiText103Files& files) const {
    return Windows(OpenWikiText103(files.folder, config_.held_out));
  }
  SampleSourceOr operator()(const Pg19Files& files) const {
    return Windows(OpenPg19(files.folder, config_.held_out));
  }

  SampleSourceOr operator()(const CopyingOptions& options) const {
    return Generated(NewCopyingTask(sequence_, options));
  }
  SampleSourceOr operator()(const SelectiveCopyingOptions& options) const {
    return Generated(NewSelectiveCopyingTask(sequence_, options));
  }
  SampleSourceOr operator()(const InductionHeadsOptions& options) const {
    return Generated(NewInductionHeadsTask(sequence_, options));
  }
  SampleSourceOr operator()(const RecallOptions& options) const {
    return Generated(NewRecallTask(sequence_, options));
  }
  SampleSourceOr operator()(const RepeatedTokensOptions& options) const {
    return Generated(NewRepeatedTokensTask(sequence_, options));
  }
  SampleSourceOr operator()(const ListOpsOptions& options) const {
    return Generated(NewListOpsTask(sequence_, options));
  }

  SampleSourceOr operator()(const ListOpsFiles& files) const {
    return OpenListOpsFiles(files, sequence_, config_.held_out);
  }
  SampleSourceOr operator()(const ImdbFiles& files) const { return OpenImdb(files, sequence_); }
  SampleSourceOr operator()(const AanFiles& files) const {
    return OpenAan(files, sequence_, config_.held_out);
  }
  SampleSourceOr operator()(const Cifar10Files& files) const {
    return OpenCifar10(files, sequence_, config_.held_out);
  }
  SampleSourceOr operator()(const PathfinderFiles& files) const {
    return OpenPathfinder(files, sequence_, config_.held_out);
  }

 private:
  template <typename Open>
  static absl::StatusOr<TokenSplits> OpenFiles(const std::vector<std::string>& paths,
                                               const std::vector<std::string>& validation_paths,
                                               const Open& open) {
    TokenSplits splits;
    WEFT_ASSIGN_OR_RETURN(splits.train, open(paths));
    if (!validation_paths.empty()) {
      WEFT_ASSIGN_OR_RETURN(splits.validation, open(validation_paths));
    }
    return splits;
  }

  [[nodiscard]] SampleSourceOr Windows(absl::StatusOr<TokenSplits> splits) const {
    WEFT_RETURN_IF_ERROR(splits.status());
    return NewTokenWindows(*std::move(splits),
                           {.sequence = sequence_,
                            .stride = config_.window_stride,
                            .validation_fraction = config_.validation_fraction});
  }

  [[nodiscard]] SampleSourceOr Generated(GeneratedTaskOr task) const {
    WEFT_RETURN_IF_ERROR(task.status());
    return NewGeneratedSource(*std::move(task), {.seed = config_.seed,
                                                 .train_samples = config_.train_samples,
                                                 .held_out = config_.held_out});
  }

  const DataConfig& config_;
  int64_t sequence_;
  int32_t vocabulary_;
};

}  // namespace

SampleSourceOr OpenData(const DataConfig& config, int64_t sequence, int32_t vocabulary) {
  return std::visit(Opener(config, sequence, vocabulary), config.source);
}

}  // namespace weft::worker

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/content_hash.h"
#include "worker/data/padded_row.h"
#include "worker/data/readers/readers.h"
#include "worker/data/text_files.h"

namespace weft::worker {
namespace {

struct Review {
  std::string text;  // as much of it as a sample holds
  int32_t label = 0;
};

// The reviews of one of the two folders, negative ones first.
absl::StatusOr<std::vector<Review>> ReadPart(const std::string& folder, int64_t max_tokens,
                                             Sha256& hash) {
  std::vector<Review> reviews;
  for (const int32_t label : {0, 1}) {
    const std::string path = JoinPath(folder, label == 1 ? "pos" : "neg");
    WEFT_ASSIGN_OR_RETURN(const std::vector<TextFile> files, FindTextFiles({path}));
    for (const TextFile& file : files) {
      WEFT_ASSIGN_OR_RETURN(std::string text, ReadFile(RealFileSystem(), file.path));
      HashContents(text, hash);
      if (static_cast<int64_t>(text.size()) > max_tokens) {
        text.resize(static_cast<size_t>(max_tokens));
      }
      text.shrink_to_fit();
      reviews.push_back({std::move(text), label});
    }
    hash.UpdateInteger(files.size());
  }
  return reviews;
}

class ImdbReader : public BasicSampleSource {
 public:
  ImdbReader(SampleSourceFacts facts, std::vector<Review> train, std::vector<Review> test,
             int64_t max_tokens)
      : BasicSampleSource(std::move(facts)),
        train_(std::move(train)),
        test_(std::move(test)),
        max_tokens_(max_tokens) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    const Review& review = (split == Split::kTrain ? train_ : test_)[static_cast<size_t>(sample)];
    WritePaddedBytes(review.text, max_tokens_, into.tokens, into.valid);
    into.targets[0] = review.label;
    return absl::OkStatus();
  }

 private:
  std::vector<Review> train_, test_;
  int64_t max_tokens_;
};

}  // namespace

SampleSourceOr OpenImdb(const ImdbFiles& files, int64_t sequence) {
  WEFT_RETURN_IF_ERROR(CheckMaxTokens(files.max_tokens, sequence));
  Sha256 hash;
  hash.Update("imdb");
  WEFT_ASSIGN_OR_RETURN(std::vector<Review> train,
                        ReadPart(JoinPath(files.folder, "train"), files.max_tokens, hash));
  WEFT_ASSIGN_OR_RETURN(std::vector<Review> test,
                        ReadPart(JoinPath(files.folder, "test"), files.max_tokens, hash));
  hash.UpdateInteger(static_cast<uint64_t>(sequence));
  hash.UpdateInteger(static_cast<uint64_t>(files.max_tokens));
  SampleSourceFacts facts = {.shape = {.sequence = sequence,
                                       .vocabulary = kPaddedByteVocabulary,
                                       .target_kind = TargetKind::kSample,
                                       .classes = 2,
                                       .padded = true},
                             .train_samples = static_cast<int64_t>(train.size()),
                             .validation_samples = static_cast<int64_t>(test.size()),
                             .fingerprint = hash.Finish(),
                             .description = absl::StrCat("IMDb reviews from ", files.folder)};
  return std::make_unique<ImdbReader>(std::move(facts), std::move(train), std::move(test),
                                      files.max_tokens);
}

}  // namespace weft::worker

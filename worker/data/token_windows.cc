#include "worker/data/token_windows.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/sha256.h"

namespace weft::worker {
namespace {

std::string FingerprintOf(const TokenStream& stream, int64_t sequence, int64_t train_tokens,
                          int64_t validation_tokens) {
  Sha256 hash;
  hash.Update(stream.fingerprint());
  hash.UpdateInteger(static_cast<uint64_t>(sequence));
  hash.UpdateInteger(static_cast<uint64_t>(train_tokens));
  hash.UpdateInteger(static_cast<uint64_t>(validation_tokens));
  return hash.Finish();
}

// Windows of `sequence` inputs in `tokens` tokens, the last target included.
int64_t WindowsIn(int64_t tokens, int64_t sequence) {
  return tokens == 0 ? 0 : (tokens - 1) / sequence;
}

class TokenWindows : public SampleSource {
 public:
  TokenWindows(std::unique_ptr<TokenStream> stream, int64_t sequence, int64_t train_tokens,
               int64_t validation_tokens)
      : stream_(std::move(stream)),
        shape_{.sequence = sequence,
               .vocabulary = stream_->vocabulary(),
               .classes = stream_->vocabulary()},
        validation_first_(train_tokens),
        train_samples_(WindowsIn(train_tokens, sequence)),
        validation_samples_(WindowsIn(validation_tokens, sequence)),
        fingerprint_(FingerprintOf(*stream_, sequence, train_tokens, validation_tokens)) {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }
  [[nodiscard]] int64_t sample_count(Split split) const override {
    return split == Split::kTrain ? train_samples_ : validation_samples_;
  }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat(stream_->Describe(), " in samples of ", shape_.sequence,
                        " tokens: ", train_samples_, " to train on, ", validation_samples_,
                        " for validation");
  }

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    WEFT_CHECK(sample >= 0 && sample < sample_count(split));
    WEFT_CHECK(static_cast<int64_t>(into.tokens.size()) == shape_.sequence &&
               into.targets.size() == into.tokens.size() && into.valid.empty());
    const int64_t base = split == Split::kTrain ? 0 : validation_first_;
    const int64_t first = base + sample * shape_.sequence;
    WEFT_RETURN_IF_ERROR(stream_->Read(first, into.tokens));
    std::copy(into.tokens.begin() + 1, into.tokens.end(), into.targets.begin());
    return stream_->Read(first + shape_.sequence, into.targets.last(1));
  }

 private:
  std::unique_ptr<TokenStream> stream_;
  SampleShape shape_;
  int64_t validation_first_;  // first token of the validation split
  int64_t train_samples_;
  int64_t validation_samples_;
  std::string fingerprint_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(std::unique_ptr<TokenStream> stream,
                                                              const WindowOptions& options) {
  const int64_t sequence = options.sequence;
  if (sequence < 1 || sequence > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence is ", sequence, "; it must be at least 1 and below 2^31"));
  }
  const double fraction = options.validation_fraction;
  if (!(fraction >= 0.0 && fraction <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrCat("validation fraction is ", fraction, "; it must be between 0 and 0.5"));
  }
  const int64_t window = sequence + 1;
  const int64_t needed = fraction > 0.0 ? 2 * window : window;
  const int64_t size = stream->size();
  if (size < needed) {
    return absl::InvalidArgumentError(absl::StrCat(
        stream->Describe(), " is too short: a sample is ", window, " tokens (sequence ", sequence,
        " + 1)", fraction > 0.0 ? ", and training and validation need one each" : "", ", so ",
        needed, " are needed"));
  }
  int64_t validation = 0;
  if (fraction > 0.0) {
    const auto share = static_cast<int64_t>(static_cast<double>(size) * fraction);
    validation = std::clamp(share, window, size - window);
  }
  return std::make_unique<TokenWindows>(std::move(stream), sequence, size - validation, validation);
}

}  // namespace weft::worker

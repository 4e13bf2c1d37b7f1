#include "worker/data/token_windows.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"

namespace weft::worker {
namespace {

class Slice : public TokenStream {
 public:
  Slice(std::shared_ptr<const TokenStream> stream, int64_t first, int64_t count)
      : stream_(std::move(stream)), first_(first), count_(count) {
    Sha256 hash;
    hash.Update(stream_->fingerprint());
    hash.UpdateInteger(static_cast<uint64_t>(first));
    hash.UpdateInteger(static_cast<uint64_t>(count));
    fingerprint_ = hash.Finish();
  }
  [[nodiscard]] int64_t size() const override { return count_; }
  [[nodiscard]] int32_t vocabulary() const override { return stream_->vocabulary(); }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }
  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("tokens ", first_, " to ", first_ + count_ - 1, " of ",
                        stream_->Describe());
  }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    WEFT_CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= count_);
    return stream_->Read(first_ + first, into);
  }

 private:
  std::shared_ptr<const TokenStream> stream_;
  int64_t first_;
  int64_t count_;
  std::string fingerprint_;
};

// Windows in `tokens` tokens.
int64_t WindowsIn(int64_t tokens, const WindowOptions& options) {
  const int64_t window = options.sequence + 1;
  return tokens < window ? 0 : (tokens - window) / options.stride + 1;
}

SampleSourceFacts FactsOf(const TokenSplits& splits, const WindowOptions& options,
                          std::string description) {
  Sha256 hash;
  hash.Update(splits.train->fingerprint());
  if (splits.validation != nullptr) hash.Update(splits.validation->fingerprint());
  hash.UpdateInteger(static_cast<uint64_t>(options.sequence));
  hash.UpdateInteger(static_cast<uint64_t>(options.stride));
  return {.shape = {.sequence = options.sequence,
                    .vocabulary = splits.train->vocabulary(),
                    .classes = splits.train->vocabulary()},
          .train_samples = WindowsIn(splits.train->size(), options),
          .validation_samples =
              splits.validation == nullptr ? 0 : WindowsIn(splits.validation->size(), options),
          .fingerprint = hash.Finish(),
          .description = std::move(description)};
}

class TokenWindows : public BasicSampleSource {
 public:
  TokenWindows(SampleSourceFacts facts, TokenSplits splits, int64_t stride)
      : BasicSampleSource(std::move(facts)), splits_(std::move(splits)), stride_(stride) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    const TokenStream& stream = split == Split::kTrain ? *splits_.train : *splits_.validation;
    const int64_t first = sample * stride_;
    WEFT_RETURN_IF_ERROR(stream.Read(first, into.tokens));
    std::copy(into.tokens.begin() + 1, into.tokens.end(), into.targets.begin());
    return stream.Read(first + shape().sequence, into.targets.last(1));
  }

 private:
  TokenSplits splits_;
  int64_t stride_;
};

absl::Status CheckOptions(const WindowOptions& options) {
  const int64_t sequence = options.sequence;
  if (sequence < 1 || sequence > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence is ", sequence, "; it must be at least 1 and below 2^31"));
  }
  if (options.stride < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("stride is ", options.stride, "; it must be at least 1"));
  }
  const double fraction = options.validation_fraction;
  if (!(fraction >= 0.0 && fraction <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrCat("validation fraction is ", fraction, "; it must be between 0 and 0.5"));
  }
  return absl::OkStatus();
}

absl::Status TooShort(const TokenStream& stream, int64_t sequence, bool holds_both) {
  const int64_t window = sequence + 1;
  return absl::InvalidArgumentError(absl::StrCat(
      stream.Describe(), " is too short: a sample is ", window, " tokens (sequence ", sequence,
      " + 1)", holds_both ? ", and training and validation need one each" : "", ", so ",
      holds_both ? 2 * window : window, " are needed"));
}

}  // namespace

std::shared_ptr<const TokenStream> SliceOf(std::shared_ptr<const TokenStream> stream, int64_t first,
                                           int64_t count) {
  WEFT_CHECK(first >= 0 && count >= 0 && first + count <= stream->size());
  return std::make_shared<Slice>(std::move(stream), first, count);
}

absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(TokenSplits splits,
                                                              const WindowOptions& given) {
  WEFT_RETURN_IF_ERROR(CheckOptions(given));
  WindowOptions options = given;
  if (options.stride == 0) options.stride = options.sequence;
  const int64_t window = options.sequence + 1;
  const int64_t size = splits.train->size();
  const bool divide = splits.validation == nullptr && options.validation_fraction > 0.0;
  if (size < (divide ? 2 * window : window)) {
    return TooShort(*splits.train, options.sequence, divide);
  }
  std::string description = splits.train->Describe();
  if (divide) {
    const auto share =
        static_cast<int64_t>(static_cast<double>(size) * options.validation_fraction);
    const int64_t held_out = std::clamp(share, window, size - window);
    splits.validation = SliceOf(splits.train, size - held_out, held_out);
    splits.train = SliceOf(splits.train, 0, size - held_out);
  } else if (splits.validation != nullptr) {
    if (splits.validation->size() < window) {
      return TooShort(*splits.validation, options.sequence, false);
    }
    absl::StrAppend(&description, " and, for validation, ", splits.validation->Describe());
  }
  SampleSourceFacts facts = FactsOf(splits, options, std::move(description));
  return std::make_unique<TokenWindows>(std::move(facts), std::move(splits), options.stride);
}

absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(std::unique_ptr<TokenStream> stream,
                                                              const WindowOptions& options) {
  return NewTokenWindows(TokenSplits{.train = std::move(stream), .validation = nullptr}, options);
}

}  // namespace weft::worker

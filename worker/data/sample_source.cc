#include "worker/data/sample_source.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

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

}  // namespace

absl::StatusOr<std::unique_ptr<SampleSource>> SampleSource::Create(
    std::unique_ptr<TokenStream> stream, const SampleOptions& options) {
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
  return std::unique_ptr<SampleSource>(
      new SampleSource(std::move(stream), sequence, size - validation, validation));
}

SampleSource::SampleSource(std::unique_ptr<TokenStream> stream, int64_t sequence,
                           int64_t train_tokens, int64_t validation_tokens)
    : stream_(std::move(stream)),
      sequence_(sequence),
      validation_first_(train_tokens),
      train_samples_(WindowsIn(train_tokens, sequence)),
      validation_samples_(WindowsIn(validation_tokens, sequence)),
      fingerprint_(FingerprintOf(*stream_, sequence, train_tokens, validation_tokens)) {}

std::string SampleSource::Describe() const {
  return absl::StrCat(stream_->Describe(), " in samples of ", sequence_,
                      " tokens: ", train_samples_, " to train on, ", validation_samples_,
                      " for validation");
}

absl::Status SampleSource::Read(Split split, int64_t sample, absl::Span<int32_t> into) const {
  WEFT_CHECK(sample >= 0 && sample < sample_count(split));
  WEFT_CHECK(static_cast<int64_t>(into.size()) == sequence_ + 1);
  const int64_t base = split == Split::kTrain ? 0 : validation_first_;
  return stream_->Read(base + sample * sequence_, into);
}

absl::Status SampleSource::Read(Split split, int64_t sample, absl::Span<int32_t> inputs,
                                absl::Span<int32_t> targets) const {
  WEFT_CHECK(static_cast<int64_t>(inputs.size()) == sequence_ && targets.size() == inputs.size());
  std::vector<int32_t> window(inputs.size() + 1);
  WEFT_RETURN_IF_ERROR(Read(split, sample, absl::MakeSpan(window)));
  std::copy(window.begin(), window.end() - 1, inputs.begin());
  std::copy(window.begin() + 1, window.end(), targets.begin());
  return absl::OkStatus();
}

}  // namespace weft::worker

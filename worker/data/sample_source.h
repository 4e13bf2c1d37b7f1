// SampleSource: a data set as numbered samples of one shape, whatever it is made of: windows of a
// text, examples with a label, pairs of texts, generated tasks.
// Threads: const methods may run at the same time. A sample is a pure function of the data, the
// split and its number: it never depends on what was read before.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace weft::worker {

enum class Split : uint8_t { kTrain, kValidation };

// Which part of a data set the validation split is read from: what models are chosen by, or what
// they are judged by in the end.
enum class HeldOut : uint8_t { kValidation, kTest };

enum class TargetKind : uint8_t {
  kEachPosition,  // a target a position, -1 where there is none: language models, tagging
  kSample,        // one label for the whole sample: classification
};

// All samples of a source have this one shape.
struct SampleShape {
  int64_t sequence = 0;    // positions of a row of tokens
  int64_t rows = 1;        // rows of tokens: 2 for a pair that shares one label
  int32_t vocabulary = 0;  // tokens are in [0, vocabulary)
  TargetKind target_kind = TargetKind::kEachPosition;
  int32_t classes = 0;  // targets are in [0, classes); of a language model this is the vocabulary
  // Rows may have positions that hold nothing, at the end (texts of different lengths) or anywhere
  // (black pixels). Their token is 0 and their target is -1.
  bool padded = false;
  // How many targets of a sample are not -1, the same in all samples; 0: all of them.
  int64_t real_targets = 0;

  [[nodiscard]] int64_t token_count() const { return rows * sequence; }
  [[nodiscard]] int64_t target_count() const {
    return target_kind == TargetKind::kSample ? 1 : sequence;
  }
  [[nodiscard]] int64_t real_target_count() const {
    return real_targets > 0 ? real_targets : target_count();
  }
  friend bool operator==(const SampleShape&, const SampleShape&) = default;
};

// Where one sample is written to, on the host.
struct SampleBuffers {
  absl::Span<int32_t> tokens;      // [rows, sequence]
  absl::Span<int32_t> targets;     // [sequence] or [1]
  absl::Span<int32_t> valid = {};  // [rows, sequence]: 0 if padded there, else 1; empty if !padded
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  [[nodiscard]] virtual const SampleShape& shape() const = 0;
  // At least 1 for training; 0 when nothing is held out for validation.
  [[nodiscard]] virtual int64_t sample_count(Split split) const = 0;
  // Writes all of `into`, whose spans are as long as the shape says. kDataLoss, naming the file and
  // the place, when what is stored turns out to be damaged.
  virtual absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const = 0;
  // Of the data and of how it is cut: a resumed run must find the same one. Equal for equal data,
  // wherever it is kept.
  [[nodiscard]] virtual const std::string& fingerprint() const = 0;
  // For messages: what it is and how many samples each split has.
  [[nodiscard]] virtual std::string Describe() const = 0;
};

}  // namespace weft::worker

// The generated tasks. Each constructor takes the length of a sample and the task's options, and
// fails with kInvalidArgument, naming what is allowed, when they do not fit together.
// Symbols are the tokens 1 to `symbols`; token 0 is a separator, a blank or padding.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/data/generated/generated_task.h"

namespace weft::worker {

using GeneratedTaskOr = absl::StatusOr<std::unique_ptr<const GeneratedTask>>;

// The text `0 w 0 w` of sequence + 1 tokens, w of uniform symbols; the targets are the second w. A
// language model must copy what it saw (sequence + 1) / 2 tokens ago; chance is 1 / symbols.
struct CopyingOptions {
  int32_t symbols = 255;
  // The second 0 is a target, too: the whole second half counts (Likhosherstov et al. 2021,
  // official code). Otherwise only w counts (Kitaev et al. 2020, official code).
  bool predict_separator = false;
};
GeneratedTaskOr NewCopyingTask(int64_t sequence, const CopyingOptions& options);  // sequence is odd

// Blanks (0) with `data_tokens` uniform symbols at random places, then as many markers (symbols +
// 1). The targets, at the markers, are the symbols in their order: what lies between must be
// ignored, whatever its length (Gu and Dao 2023, section 4.1).
struct SelectiveCopyingOptions {
  int32_t symbols = 14;
  int32_t data_tokens = 16;  // at most half of the sequence
};
GeneratedTaskOr NewSelectiveCopyingTask(int64_t sequence, const SelectiveCopyingOptions& options);

// Uniform symbols with one 0 at a random place and one at the end; the only target, at the end, is
// the symbol that followed the first 0 (Olsson et al. 2022; as a task: Gu and Dao 2023, 4.1).
struct InductionHeadsOptions {
  int32_t symbols = 15;
};
GeneratedTaskOr NewInductionHeadsTask(int64_t sequence, const InductionHeadsOptions& options);

// Multi-query associative recall (Arora et al. 2023): first `pairs` pairs of a key and its value,
// all keys different (1 to vocabulary / 2 - 1), all values different (from vocabulary / 2 on); then
// each key once more, at a distance of 2 g tokens from the pairs, where the places g = 0, 1, ...
// are chosen without replacement with weights (g + 1)^(gap_exponent - 1). The target at a key's
// second place is its value. All else is 0 and has no target.
struct RecallOptions {
  int32_t vocabulary = 8192;
  int32_t pairs = 8;  // at most sequence / 4 and vocabulary / 2 - 1
  double gap_exponent = 0.01;
  bool random_filler = false;  // uniform tokens of the whole vocabulary instead of 0
};
GeneratedTaskOr NewRecallTask(int64_t sequence, const RecallOptions& options);

// Uniform symbols; the target at each position is 1 if its token occurs elsewhere in the sample,
// too, else 0. It takes attention to everything (Cho et al. 2022, SBM-Transformer).
struct RepeatedTokensOptions {
  int32_t symbols = 370;  // with 256 tokens, half of them occur once
};
GeneratedTaskOr NewRepeatedTokensTask(int64_t sequence, const RepeatedTokensOptions& options);

// ListOps of the Long Range Arena (Tay et al. 2021), see listops.h: 15 tokens, 10 labels, padded.
struct ListOpsOptions {
  int32_t max_tokens = 2000;  // what is longer is cut; at most the length of a sample
};
GeneratedTaskOr NewListOpsTask(int64_t sequence, const ListOpsOptions& options);

}  // namespace weft::worker

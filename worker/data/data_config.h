// What a job trains on, as plain values. Paths are those of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "worker/data/generated/generated_task.h"
#include "worker/data/generated/tasks.h"
#include "worker/data/readers/readers.h"
#include "worker/data/sample_order.h"

namespace weft::worker {

// Text read as bytes, or token files. With validation paths nothing of `paths` is held out.
struct TextFiles {
  std::vector<std::string> paths = {};
  std::vector<std::string> validation_paths = {};
};
struct TokenFiles {
  std::vector<std::string> paths = {};
  std::vector<std::string> validation_paths = {};
};
struct PennTreebankFiles {
  std::string folder = {};
};
struct WikiText103Files {
  std::string folder = {};
};
struct Pg19Files {
  std::string folder = {};
};

using DataSource =
    std::variant<TextFiles, TokenFiles, CopyingOptions, SelectiveCopyingOptions,
                 InductionHeadsOptions, RecallOptions, RepeatedTokensOptions, ListOpsOptions,
                 ListOpsFiles, ImdbFiles, AanFiles, Cifar10Files, PathfinderFiles,
                 PennTreebankFiles, Enwik8File, WikiText103Files, Pg19Files>;

struct DataConfig {
  DataSource source;
  OrderKind order = OrderKind::kShuffled;
  HeldOut held_out = HeldOut::kValidation;  // for data that has a part for each
  double validation_fraction = 0.05;        // for text and tokens without validation paths
  int64_t window_stride = 0;                // for token streams; see WindowOptions
  uint64_t seed = 0;                        // for generated data, like train_samples
  int64_t train_samples = GeneratedOptions::kEndless;
};

}  // namespace weft::worker

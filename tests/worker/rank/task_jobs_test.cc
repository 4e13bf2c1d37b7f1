// Every source of data, from the words of a spec to two steps of training with the model that goes
// with it; and what is said when its files are not there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/ops/register.h"
#include "proto/spec/parse.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/data/readers/png_files.h"
#include "worker/comm/local_exchange.h"
#include "worker/data/open_data.h"
#include "worker/rank/config_from_spec.h"
#include "worker/train/training_run.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;
using weft::testing::TempDir;

struct SourceCase {
  std::string name;
  std::string data;  // F is the folder of the files
  std::string kind;
  int sequence;
  std::vector<std::string> metrics;
  std::string missing;  // the file that is named when there are none; empty: needs no files
};

const std::vector<std::string> kText = {"accuracy", "bits_per_byte"};
const std::vector<std::string> kTokens = {"accuracy", "perplexity"};
const std::vector<std::string> kClasses = {"accuracy"};

std::vector<SourceCase> Sources() {
  return {
      {"Text", "text: {paths: [F/text]}", "language_model", 8, kText, "F/text"},
      {"Tokens", "tokens: {paths: [F/tokens.bin]}", "language_model", 8, kTokens, "F/tokens.bin"},
      {"Copying", "copying: {}", "language_model", 9, kTokens, ""},
      {"CopyingWithSeparator", "copying: {predict_separator: true}", "language_model", 9, kTokens,
       ""},
      {"SelectiveCopying", "selective_copying: {data_tokens: 3}", "language_model", 9, kTokens, ""},
      {"InductionHeads", "induction_heads: {}", "language_model", 9, kTokens, ""},
      {"Recall", "recall: {pairs: 2}", "language_model", 16, kTokens, ""},
      {"RepeatedTokens", "repeated_tokens: {symbols: 9}", "token_classifier", 9, kClasses, ""},
      {"ListOps", "listops: {}", "classifier", 16, kClasses, ""},
      {"ListOpsFiles", "listops: {folder: F}", "classifier", 16, kClasses, "F/basic_train.tsv"},
      {"Imdb", "imdb: {folder: F}", "classifier", 16, kClasses, "F/train"},
      {"Aan", "aan: {folder: F}", "two_tower", 16, kClasses, "F/new_aan_pairs.train.tsv"},
      {"Cifar10", "cifar10: {folder: F, mask_zero_pixels: true}", "classifier", 1024, kClasses,
       "F/data_batch_1.bin"},
      {"Pathfinder", "pathfinder: {folder: F}", "classifier", 16, kClasses, "F/metadata"},
      {"PennTreebank", "penn_treebank: {folder: F}", "language_model", 8, kText, "F/ptb.train.txt"},
      {"Enwik8", "enwik8: {path: F/text, train_bytes: 100, held_out_bytes: 40}", "language_model",
       8, kText, "F/text"},
      {"WikiText103", "wikitext103: {folder: F}", "language_model", 8, kTokens, "F/wiki.train"},
      {"Pg19", "pg19: {folder: F}", "language_model", 8, kText, "F/train"},
  };
}

void Put(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string TokenFile() {
  std::vector<int32_t> header(256, 0);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 200;
  std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
  for (int i = 0; i < 200; ++i) bytes.append({static_cast<char>(i % 50), '\0'});
  return bytes;
}

// A little of everything; names do not collide.
void PutAllFiles(const std::string& folder) {
  std::string text;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&text, " word", i % 7, i % 5 == 0 ? "\n" : "");
  Put(folder + "/text", text);
  Put(folder + "/tokens.bin", TokenFile());
  for (const char* split : {"train", "valid", "test"}) {
    Put(absl::StrCat(folder, "/ptb.", split, ".txt"), text);
    Put(absl::StrCat(folder, "/wiki.", split, ".tokens"), text);
  }
  for (const char* split : {"train", "validation", "test"}) {
    Put(absl::StrCat(folder, "/", split, "/1.txt"), text);
    Put(absl::StrCat(folder, "/", split, "/pos/1_9.txt"), "fine");
    Put(absl::StrCat(folder, "/", split, "/neg/1_2.txt"), "not so fine");
  }
  for (const char* split : {"train", "val", "test"}) {
    Put(absl::StrCat(folder, "/basic_", split, ".tsv"),
        "Source\tTarget\r\n( ( ( [MAX 1 ) 2 ) ] )\t2\r\n");
  }
  for (const char* split : {"train", "eval", "test"}) {
    Put(absl::StrCat(folder, "/new_aan_pairs.", split, ".tsv"), "1.0\ta\tb\tone\ttwo\n");
  }
  const std::string image = std::string(1, '\3') + std::string(3072, 'x');
  for (int i = 1; i <= 5; ++i) {
    Put(absl::StrCat(folder, "/data_batch_", i, ".bin"), image + image);
  }
  Put(folder + "/test_batch.bin", image);
  std::string metadata;
  for (int i = 0; i < 10; ++i) {
    const std::vector<uint8_t> pixels(16, static_cast<uint8_t>(i));
    Put(absl::StrCat(folder, "/imgs/0/sample_", i, ".png"), GreyPng(4, 4, pixels));
    absl::StrAppend(&metadata, "imgs/0 sample_", i, ".png ", i, " ", i % 2, " 3.5 2\n");
  }
  Put(folder + "/metadata/0.npy", metadata);
}

absl::StatusOr<TrainConfig> ConfigOf(const SourceCase& source, const std::string& folder) {
  v1::JobSpec spec;
  const std::string text = absl::StrCat(
      "name: a\nmodel: {kind: ", source.kind, ", width: 8, layers: 1, mlp_width: 8, mixers: ",
      "[{softmax: {heads: 2}}]}\ntraining: {steps: 2, batch_size: 2, sequence_length: ",
      source.sequence, "}\nevaluation: {sequences: 2}\ndata: {",
      absl::StrReplaceAll(source.data, {{"F", folder}}), "}\n");
  EXPECT_OK(spec::ToStatus(spec::ParseSpec(text, spec)));
  return ConfigFromSpec(spec, "");
}

struct Observer final : RunObserver {
  void OnPhase(RunPhase /*phase*/, int64_t /*step*/) override {}
  void OnStep(const StepSummary& summary) override { steps.push_back(summary); }
  void OnCheckpoint(const SavedCheckpoint& /*checkpoint*/) override {}
  void OnNotice(const std::string& /*notice*/) override {}
  std::vector<StepSummary> steps;
};

class EverySource : public ::testing::TestWithParam<SourceCase> {
 protected:
  EverySource() {
    kernels::RegisterCpuKernels();
    kernels::RegisterCpuAttention();
  }
  const TempDir folder_;
};

TEST_P(EverySource, TrainsWithItsKindOfModel) {
  const std::string files = (folder_.path() / "files").string();
  PutAllFiles(files);
  ASSERT_OK_AND_ASSIGN(const TrainConfig config, ConfigOf(GetParam(), files));
  ASSERT_OK_AND_ASSIGN(const auto data, OpenData(config.data, config.batch.sequence_length,
                                                 static_cast<int32_t>(config.model.vocabulary)));
  ASSERT_OK_AND_ASSIGN(const auto device, kernels::NewCpuDevice({.threads = 1}));
  ASSERT_OK_AND_ASSIGN(
      const auto store,
      NewDirectoryCheckpointStore(RealFileSystem(),
                                  {.root = (folder_.path() / "own").string(), .job = "a"}));
  LocalExchange exchange;
  const RealClock clock;
  Observer observer;
  const std::atomic<bool> stop{false};
  const Membership membership = {.job = "jobs/a",
                                 .generation = Generation(1),
                                 .rank = 0,
                                 .ranks = 1,
                                 .local_rank = 0,
                                 .relay_channel = ""};
  ASSERT_OK(RunTraining(config, {.device = *device,
                                 .data = *data,
                                 .exchange = exchange,
                                 .membership = membership,
                                 .checkpoints = *store,
                                 .clock = clock,
                                 .observer = observer,
                                 .save_and_stop = stop,
                                 .spec = "spec"}));
  ASSERT_EQ(observer.steps.size(), 2U);
  const StepSummary& last = observer.steps.back();
  EXPECT_GT(last.result.loss, 0);
  ASSERT_TRUE(last.validation.has_value());
  for (const auto* metrics : {&last.result.metrics, &last.validation->metrics}) {
    std::vector<std::string> names;
    for (const StepMetric& metric : *metrics) names.push_back(metric.name);
    EXPECT_EQ(names, GetParam().metrics);
  }
}

TEST_P(EverySource, NamesTheFileThatIsMissing) {
  const std::string nothing = (folder_.path() / "nothing").string();
  ASSERT_OK_AND_ASSIGN(const TrainConfig config, ConfigOf(GetParam(), nothing));
  const auto data = OpenData(config.data, config.batch.sequence_length,
                             static_cast<int32_t>(config.model.vocabulary));
  if (GetParam().missing.empty()) {
    EXPECT_OK(data);
  } else {
    EXPECT_THAT(data.status(),
                StatusIs(absl::StatusCode::kNotFound,
                         HasSubstr(absl::StrReplaceAll(GetParam().missing, {{"F", nothing}}))));
  }
}

INSTANTIATE_TEST_SUITE_P(All, EverySource, ::testing::ValuesIn(Sources()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace weft::worker

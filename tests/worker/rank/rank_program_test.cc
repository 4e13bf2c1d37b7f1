// weft-rank as its agent sees it: the real program at the other end of a socket pair.
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/exit_codes.h"
#include "common/process/process_supervisor.h"
#include "proto/spec/parse.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "weft/v1/rank_link.pb.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using weft::testing::TempDir;

constexpr absl::Duration kPatience = absl::Minutes(1);

// One weft-rank and all that it has said.
class RankProgram {
 public:
  explicit RankProgram(std::vector<std::string> arguments = {}) {
    const char* folder = std::getenv("WEFT_BIN_DIR");  // NOLINT(concurrency-mt-unsafe)
    WEFT_CHECK_MSG(folder != nullptr, "run by ctest, which sets WEFT_BIN_DIR");
    ChildOptions options;
    options.program = absl::StrCat(folder, "/weft-rank");
    options.arguments = std::move(arguments);
    options.arguments.insert(options.arguments.begin(), options.program);
    options.with_messages = true;
    auto supervisor = ProcessSupervisor::Create();
    WEFT_CHECK_MSG(supervisor.ok(), supervisor.status().ToString());
    supervisor_ = *std::move(supervisor);
    auto child = supervisor_->Spawn(options, Callbacks());
    WEFT_CHECK_MSG(child.ok(), child.status().ToString());
    child_ = *child;
  }

  void Send(const v1::AgentToRank& message) {
    supervisor_->Send(child_, message.SerializeAsString());
  }
  void SendStop(v1::StopMember::Mode mode) {
    v1::AgentToRank message;
    message.mutable_stop()->set_mode(mode);
    Send(message);
  }
  ExitStatus WaitForExit() {
    absl::MutexLock lock(&mutex_);
    WEFT_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&ended_), kPatience));
    return exit_;
  }
  // Waits for the report of a step at or after `step`.
  void WaitForStep(int64_t step) {
    absl::MutexLock lock(&mutex_);
    const auto seen = [&] {
      for (const v1::RankToAgent& message : messages_) {
        if (message.step().step() >= step) return true;
      }
      return ended_;
    };
    WEFT_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&seen), kPatience));
  }
  std::vector<v1::RankToAgent> messages() {
    absl::MutexLock lock(&mutex_);
    return messages_;
  }
  v1::RankFinished Finished() {
    const std::vector<v1::RankToAgent> all = messages();
    EXPECT_FALSE(all.empty());
    return all.empty() ? v1::RankFinished() : all.back().finished();
  }
  std::string output() {
    absl::MutexLock lock(&mutex_);
    return output_;
  }

 private:
  ChildCallbacks Callbacks() {
    ChildCallbacks callbacks;
    callbacks.on_output = [this](OutputStream, absl::string_view piece) {
      absl::MutexLock lock(&mutex_);
      absl::StrAppend(&output_, piece);
    };
    callbacks.on_message = [this](absl::StatusOr<std::string> bytes) {
      ASSERT_OK(bytes);
      v1::RankToAgent message;
      ASSERT_TRUE(message.ParseFromString(*bytes));
      absl::MutexLock lock(&mutex_);
      messages_.push_back(message);
    };
    callbacks.on_exit = [this](ExitStatus exit) {
      absl::MutexLock lock(&mutex_);
      exit_ = exit;
      ended_ = true;
    };
    return callbacks;
  }

  absl::Mutex mutex_;
  std::vector<v1::RankToAgent> messages_ ABSL_GUARDED_BY(mutex_);
  std::string output_ ABSL_GUARDED_BY(mutex_);
  ExitStatus exit_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  ChildId child_;
  std::unique_ptr<ProcessSupervisor> supervisor_;  // last: its callbacks end first
};

class RankProgramTest : public ::testing::Test {
 protected:
  RankProgramTest() {
    std::ofstream text(folder_.path() / "text");
    for (int i = 0; i < 2000; ++i) text << "the quick brown fox " << i % 17 << '\n';
  }

  [[nodiscard]] v1::AgentToRank Assignment(int64_t steps, int64_t generation = 1) const {
    v1::AgentToRank message;
    v1::RankAssignment& assignment = *message.mutable_assignment();
    const std::string spec = absl::StrCat(R"(
name: small
model: {width: 16, layers: 2, mlp_width: 32, mixers: [{delta: {heads: 2}}, {softmax: {heads: 2}}]}
data: {text: {paths: [text]}}
training: {batch_size: 4, sequence_length: 16, learning_rate: {peak: 0.01}, steps: )",
                                          steps, "}\n");
    EXPECT_TRUE(spec::ParseSpec(spec, *assignment.mutable_spec()).empty());
    assignment.set_job("jobs/small-1");
    assignment.set_generation(generation);
    assignment.set_world_size(1);
    assignment.set_local_ranks(1);
    assignment.set_threads(1);
    assignment.set_checkpoint_root(CheckpointRoot());
    assignment.set_data_root(folder_.path());
    return message;
  }
  [[nodiscard]] std::string CheckpointRoot() const { return folder_.path() / "checkpoints"; }

  const TempDir folder_;
};

TEST_F(RankProgramTest, TrainsReportsAndEndsAndItsCheckpointGeneratesText) {
  RankProgram rank;
  rank.Send(Assignment(/*steps=*/3));
  EXPECT_TRUE(rank.WaitForExit().ok());
  int64_t steps = 0;
  v1::Checkpoint checkpoint;
  std::vector<v1::MemberStatus::Phase> phases;
  for (const v1::RankToAgent& message : rank.messages()) {
    if (message.has_step()) {
      EXPECT_EQ(message.step().step(), ++steps);
      EXPECT_GT(message.step().loss(), 0);
      EXPECT_EQ(message.step().tokens(), 64);
      EXPECT_GT(message.step().time().compute(), 0);
    }
    if (message.has_checkpoint()) checkpoint = message.checkpoint();
    if (message.has_phase() && (phases.empty() || phases.back() != message.phase().phase())) {
      phases.push_back(message.phase().phase());
    }
  }
  EXPECT_EQ(steps, 3);
  EXPECT_THAT(phases, ::testing::ElementsAre(
                          v1::MemberStatus::PHASE_STARTING, v1::MemberStatus::PHASE_RESTORING,
                          v1::MemberStatus::PHASE_TRAINING, v1::MemberStatus::PHASE_SAVING));
  EXPECT_EQ(rank.Finished().outcome(), v1::MemberExit::OUTCOME_SUCCEEDED);
  EXPECT_EQ(rank.Finished().step(), 3);
  EXPECT_EQ(rank.Finished().weights_hash(), checkpoint.weights_hash());
  EXPECT_EQ(checkpoint.step(), 3);
  EXPECT_GT(checkpoint.bytes(), 0);
  EXPECT_THAT(rank.output(), HasSubstr("step 3/3 | loss "));

  const std::vector<std::string> arguments = {"sample",   "--checkpoint", checkpoint.path(),
                                              "--prompt", "the ",         "--tokens",
                                              "12",       "--seed",       "4"};
  RankProgram sample(arguments);
  EXPECT_TRUE(sample.WaitForExit().ok());
  EXPECT_EQ(sample.output().size(), 12U);
  RankProgram again(arguments);
  EXPECT_TRUE(again.WaitForExit().ok());
  EXPECT_EQ(again.output(), sample.output());
}

TEST_F(RankProgramTest, SavesAndStopsWhenToldAndGoesOnInTheNextGeneration) {
  std::string hash;
  {
    RankProgram rank;
    rank.Send(Assignment(/*steps=*/100'000, /*generation=*/1));
    rank.WaitForStep(2);
    rank.SendStop(v1::StopMember::MODE_SAVE);
    EXPECT_TRUE(rank.WaitForExit().ok());
    EXPECT_EQ(rank.Finished().outcome(), v1::MemberExit::OUTCOME_SAVED);
    EXPECT_GE(rank.Finished().step(), 2);
    hash = rank.Finished().weights_hash();
    EXPECT_EQ(hash.size(), 64U);
  }
  RankProgram rank;
  rank.Send(Assignment(/*steps=*/100'000, /*generation=*/2));
  rank.WaitForStep(1);
  rank.SendStop(v1::StopMember::MODE_KILL);
  EXPECT_EQ(rank.WaitForExit().code, kExitInterrupted);
  EXPECT_THAT(rank.output(), HasSubstr("resumed after step "));
}

TEST_F(RankProgramTest, AnswersBadSpecsAndMissingDataAsTheAuthorsError) {
  v1::AgentToRank assignment = Assignment(3);
  assignment.mutable_assignment()->mutable_spec()->mutable_model()->set_width(15);
  RankProgram wrong_spec;
  wrong_spec.Send(assignment);
  EXPECT_EQ(wrong_spec.WaitForExit().code, kExitUsage);
  EXPECT_EQ(wrong_spec.Finished().outcome(), v1::MemberExit::OUTCOME_USER_ERROR);
  EXPECT_THAT(wrong_spec.Finished().message(), HasSubstr("heads"));

  assignment = Assignment(3);
  assignment.mutable_assignment()->set_data_root(folder_.path() / "nowhere");
  RankProgram no_data;
  no_data.Send(assignment);
  EXPECT_EQ(no_data.WaitForExit().code, kExitNotFound);
  EXPECT_EQ(no_data.Finished().outcome(), v1::MemberExit::OUTCOME_USER_ERROR);
  EXPECT_THAT(no_data.Finished().message(), HasSubstr("nowhere/text"));
}

TEST_F(RankProgramTest, SampleNamesAMissingCheckpoint) {
  RankProgram sample(
      {"sample", "--checkpoint", CheckpointRoot() + "/small-1/step_000000000007.g1"});
  EXPECT_EQ(sample.WaitForExit().code, kExitNotFound);
  EXPECT_THAT(sample.output(), HasSubstr("step_000000000007.g1"));
}

}  // namespace
}  // namespace weft::worker

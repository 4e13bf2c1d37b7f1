// The contract of CheckpointStore, on the real file system and on the one that tests crash.
#include "worker/checkpoint/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/checkpoint/checkpoint_content.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::IsOkAndHolds;
using ::testing::SizeIs;
using testing::StatusIs;

struct RealWorld {
  FileSystem& files() { return RealFileSystem(); }
  [[nodiscard]] std::string root() const { return (folder.path() / "checkpoints").string(); }
  testing::TempDir folder;
};

struct FaultyWorld {
  FileSystem& files() { return faulty; }
  [[nodiscard]] std::string root() const { return "/checkpoints"; }
  testing::FaultyFileSystem faulty;
};

template <typename World>
class CheckpointStoreTest : public ::testing::Test {
 protected:
  FileSystem& files() { return world_.files(); }
  std::string root() { return world_.root(); }
  std::unique_ptr<CheckpointStore> Open(int keep = 2) { return OpenStore(files(), root(), keep); }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const auto entries = files().List(JoinPath(root(), "job"));
    EXPECT_OK(entries);
    if (!entries.ok()) return names;
    for (const DirectoryEntry& entry : *entries) names.push_back(entry.name);
    return names;
  }
  void Overwrite(const std::string& path, absl::string_view bytes) {
    ASSERT_OK(files().Write(path, absl::MakeConstSpan(&bytes, 1)));
  }

 private:
  World world_;
};

using Worlds = ::testing::Types<RealWorld, FaultyWorld>;
TYPED_TEST_SUITE(CheckpointStoreTest, Worlds);

TYPED_TEST(CheckpointStoreTest, HoldsNothingAtFirst) {
  auto store = this->Open();
  EXPECT_THAT(store->Latest(), StatusIs(absl::StatusCode::kNotFound, HasSubstr(this->root())));
  EXPECT_THAT(store->List(), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(store->Read({1, 1}, "model"), StatusIs(absl::StatusCode::kNotFound));
}

TYPED_TEST(CheckpointStoreTest, WhatWasPublishedIsTheLatestAndReadsBack) {
  auto store = this->Open();
  ASSERT_OK(store->Fence(1));
  ASSERT_OK(SaveStep(*store, 1, 100));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, this->Open()->Latest());
  EXPECT_EQ(latest.checkpoint.id, (CheckpointId{1, 100}));
  EXPECT_THAT(latest.damaged, IsEmpty());
  ASSERT_THAT(latest.checkpoint.files, SizeIs(2));
  EXPECT_EQ(latest.checkpoint.files[0].name, "model");
  EXPECT_EQ(latest.checkpoint.files[0].sha256, Sha256Of(ContentOf(100, "model")));
  EXPECT_EQ(latest.checkpoint.bytes,
            latest.checkpoint.files[0].bytes + latest.checkpoint.files[1].bytes);
  EXPECT_THAT(store->Read({1, 100}, "state"), IsOkAndHolds(ContentOf(100, "state")));
  EXPECT_THAT(store->Read({1, 100}, "other"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("other")));
}

TYPED_TEST(CheckpointStoreTest, NothingIsVisibleBeforePublishAndNothingStaysWithoutIt) {
  auto store = this->Open();
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, store->Begin({1, 100}, "w"));
    ASSERT_OK(AddContent(*writer, 100, "model"));
    EXPECT_THAT(store->Latest(), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(store->List(), IsOkAndHolds(IsEmpty()));
  }
  EXPECT_THAT(this->Names(), ElementsAre("generation"));
}

TYPED_TEST(CheckpointStoreTest, RanksWriteTheirPartsAndOnePublishesAll) {
  auto store = this->Open();
  ASSERT_OK_AND_ASSIGN(auto lead, store->Begin({1, 5}, "gang"));
  ASSERT_OK_AND_ASSIGN(auto other, this->Open()->Begin({1, 5}, "gang"));
  ASSERT_OK(AddContent(*lead, 5, "rank_0"));
  ASSERT_OK_AND_ASSIGN(const CheckpointFile part, AddContent(*other, 5, "rank_1"));
  other->HandOver();
  other.reset();
  ASSERT_OK(lead->Publish({part}));
  EXPECT_THAT(store->Read({1, 5}, "rank_1"), IsOkAndHolds(ContentOf(5, "rank_1")));
  EXPECT_THAT(store->Latest(), IsOk());
}

TYPED_TEST(CheckpointStoreTest, ARankThatGaveUpMakesPublishingFail) {
  auto store = this->Open();
  ASSERT_OK_AND_ASSIGN(auto lead, store->Begin({1, 5}, "gang"));
  ASSERT_OK_AND_ASSIGN(auto other, store->Begin({1, 5}, "gang"));
  ASSERT_OK(AddContent(*lead, 5, "rank_0"));
  ASSERT_OK_AND_ASSIGN(const CheckpointFile part, AddContent(*other, 5, "rank_1"));
  other.reset();  // failed: its file is gone
  EXPECT_THAT(lead->Publish({part}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("rank_1")));
  EXPECT_THAT(store->Latest(), StatusIs(absl::StatusCode::kNotFound));
  lead.reset();
  EXPECT_THAT(this->Names(), ElementsAre("generation"));
}

TYPED_TEST(CheckpointStoreTest, FilesHavePlainNamesEachOnce) {
  auto store = this->Open();
  ASSERT_OK_AND_ASSIGN(const auto writer, store->Begin({1, 5}, "w"));
  for (absl::string_view name : {"", ".", "..", "a/b", "../x", ".hidden", "MANIFEST.json", "a b"}) {
    EXPECT_THAT(AddContent(*writer, 5, name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
  ASSERT_OK_AND_ASSIGN(const CheckpointFile file, AddContent(*writer, 5, "model"));
  EXPECT_THAT(AddContent(*writer, 5, "model"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(writer->Publish({file}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("two ranks wrote")));
}

TYPED_TEST(CheckpointStoreTest, OptionsOutOfRangeAreRefused) {
  for (const std::string job : {"", ".", "..", "a/b", ".x"}) {
    EXPECT_THAT(NewDirectoryCheckpointStore(this->files(), {.root = "/r", .job = job}),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(NewDirectoryCheckpointStore(this->files(), {.root = "", .job = "j"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(NewDirectoryCheckpointStore(this->files(), {.root = "/r", .job = "j", .keep = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  auto store = this->Open();
  EXPECT_THAT(store->Fence(-1), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store->Begin({1, -1}, "w"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store->Begin({1, 1}, "a.b"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TYPED_TEST(CheckpointStoreTest, AnOlderGenerationIsFencedOff) {
  auto old = this->Open();
  ASSERT_OK(old->Fence(3));
  ASSERT_OK_AND_ASSIGN(auto late, old->Begin({3, 50}, "w"));
  ASSERT_OK(AddContent(*late, 50, "model"));
  auto young = this->Open();
  ASSERT_OK(young->Fence(4));
  // Its half-written checkpoint is gone, and it can neither publish nor begin nor fence again.
  EXPECT_THAT(late->Publish({}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(AddContent(*late, 50, "state"), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(old->Begin({3, 51}, "w"),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("generation 4 has begun")));
  EXPECT_THAT(old->Fence(3), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(young->Fence(4), IsOk());
  late.reset();
  EXPECT_THAT(this->Names(), ElementsAre("generation"));
  EXPECT_THAT(young->Latest(), StatusIs(absl::StatusCode::kNotFound));
}

TYPED_TEST(CheckpointStoreTest, FencesDoNotPileUp) {
  auto store = this->Open();
  for (int64_t generation = 1; generation <= 20; ++generation) {
    ASSERT_OK(store->Fence(generation));
    EXPECT_THAT(store->Begin({generation - 1, 1}, "w"), StatusIs(absl::StatusCode::kAborted));
  }
  EXPECT_THAT(this->files().List(JoinPath(this->root(), "job/generation")),
              IsOkAndHolds(SizeIs(2)));
}

TYPED_TEST(CheckpointStoreTest, TheFenceHoldsUntilTheLastMoment) {
  auto old = this->Open();
  ASSERT_OK_AND_ASSIGN(auto late, old->Begin({3, 50}, "w"));
  ASSERT_OK(AddContent(*late, 50, "model"));
  // The newer generation's fence alone, without the clearing that follows it.
  this->Overwrite(JoinPath(this->root(), "job/generation/0000000004"), "");
  EXPECT_THAT(late->Publish({}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(old->Latest(), StatusIs(absl::StatusCode::kNotFound));
}

TYPED_TEST(CheckpointStoreTest, ANewerGenerationIsLaterWhateverItsStep) {
  auto store = this->Open();
  ASSERT_OK(SaveStep(*store, 1, 100));
  ASSERT_OK(SaveStep(*store, 2, 90));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
  EXPECT_EQ(latest.checkpoint.id, (CheckpointId{2, 90}));
}

TYPED_TEST(CheckpointStoreTest, AStepIsPublishedOnceInAGeneration) {
  auto store = this->Open();
  ASSERT_OK_AND_ASSIGN(auto first, store->Begin({1, 7}, "a"));
  ASSERT_OK_AND_ASSIGN(auto second, store->Begin({1, 7}, "b"));
  ASSERT_OK(AddContent(*first, 7, "model"));
  ASSERT_OK(AddContent(*second, 8, "model"));
  EXPECT_OK(first->Publish({}));
  EXPECT_THAT(second->Publish({}), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(first->Publish({}), StatusIs(absl::StatusCode::kFailedPrecondition));
  second.reset();
  EXPECT_THAT(store->Read({1, 7}, "model"), IsOkAndHolds(ContentOf(7, "model")));
  EXPECT_THAT(this->Names(), SizeIs(2));
}

TYPED_TEST(CheckpointStoreTest, TheLastFewAreKept) {
  auto store = this->Open(3);
  for (int64_t step = 1; step <= 6; ++step) ASSERT_OK(SaveStep(*store, 1, step));
  ASSERT_OK_AND_ASSIGN(const auto kept, store->List());
  ASSERT_THAT(kept, SizeIs(3));
  EXPECT_EQ(kept[0].id.step, 6);
  EXPECT_EQ(kept[2].id.step, 4);
  EXPECT_THAT(this->Names(), SizeIs(4));  // those and the fences
}

TYPED_TEST(CheckpointStoreTest, ADamagedOneDoesNotCountAmongThoseKept) {
  auto store = this->Open(2);
  ASSERT_OK(SaveStep(*store, 1, 1));
  ASSERT_OK(SaveStep(*store, 1, 2));
  this->Overwrite(JoinPath(this->root(), "job/step_000000000002.g0000000001/model"), "cut");
  ASSERT_OK(SaveStep(*store, 1, 3));
  ASSERT_OK_AND_ASSIGN(const auto kept, store->List());
  ASSERT_THAT(kept, SizeIs(3));
  EXPECT_EQ(kept[2].id.step, 1);  // a sound one to fall back on
}

TYPED_TEST(CheckpointStoreTest, WhatACrashLeftIsRemovedByTheNextGeneration) {
  auto store = this->Open();
  ASSERT_OK(SaveStep(*store, 1, 1));
  ASSERT_OK_AND_ASSIGN(auto crashed, store->Begin({1, 2}, "w"));
  ASSERT_OK(AddContent(*crashed, 2, "model"));
  crashed->HandOver();  // as if the process had died
  ASSERT_OK(this->files().CreateDirectories(
      JoinPath(this->root(), "job/removed.step_000000000000.g0000000001")));
  ASSERT_OK(store->Fence(2));
  EXPECT_THAT(this->Names(), ElementsAre("generation", "step_000000000001.g0000000001"));
}

TYPED_TEST(CheckpointStoreTest, ForeignNamesAreLeftAlone) {
  auto store = this->Open();
  const std::string job = JoinPath(this->root(), "job");
  ASSERT_OK(store->Fence(1));
  for (absl::string_view name : {"step_1.g1", "step_00000000000x.g0000000001", "notes"}) {
    ASSERT_OK(this->files().CreateDirectories(JoinPath(job, name)));
  }
  this->Overwrite(JoinPath(job, "step_000000000009.g0000000009"), "a file, not a folder");
  ASSERT_OK(SaveStep(*store, 1, 1));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
  EXPECT_EQ(latest.checkpoint.id, (CheckpointId{1, 1}));
  EXPECT_THAT(latest.damaged, IsEmpty());
  EXPECT_THAT(this->Names(), SizeIs(6));
}

TYPED_TEST(CheckpointStoreTest, EveryKindOfDamageFallsBackToTheOneBefore) {
  struct Case {
    std::string file;
    absl::string_view bytes;
    std::string reason;
  };
  for (const Case& damage : std::vector<Case>{{"model", "", "0 bytes instead of"},
                                              {"MANIFEST.json", "", "not a manifest"},
                                              {"MANIFEST.json", "{}", "not a manifest"},
                                              {"MANIFEST.json", "[1]", "not a manifest"}}) {
    auto store = this->Open();
    ASSERT_OK(this->files().RemoveTree(this->root()));
    ASSERT_OK(SaveStep(*store, 1, 1));
    ASSERT_OK(SaveStep(*store, 1, 2));
    const std::string path =
        JoinPath(this->root(), "job/step_000000000002.g0000000001/" + damage.file);
    this->Overwrite(path, damage.bytes);
    ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
    EXPECT_EQ(latest.checkpoint.id.step, 1);
    ASSERT_THAT(latest.damaged, SizeIs(1));
    EXPECT_EQ(latest.damaged[0].id.step, 2);
    EXPECT_EQ(latest.damaged[0].file, path);
    EXPECT_THAT(latest.damaged[0].reason, HasSubstr(damage.reason));
  }
}

TYPED_TEST(CheckpointStoreTest, MissingFilesAreDamage) {
  for (absl::string_view file : {"model", "MANIFEST.json"}) {
    auto store = this->Open();
    ASSERT_OK(this->files().RemoveTree(this->root()));
    ASSERT_OK(SaveStep(*store, 1, 1));
    ASSERT_OK(SaveStep(*store, 1, 2));
    ASSERT_OK(this->files().RemoveTree(
        JoinPath(this->root(), absl::StrCat("job/step_000000000002.g0000000001/", file))));
    ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
    EXPECT_EQ(latest.checkpoint.id.step, 1);
    ASSERT_THAT(latest.damaged, SizeIs(1));
    EXPECT_THAT(latest.damaged[0].file, HasSubstr(std::string(file)));
  }
}

TYPED_TEST(CheckpointStoreTest, DataIsLostOnlyWhenAllAreDamaged) {
  auto store = this->Open();
  ASSERT_OK(SaveStep(*store, 1, 1));
  ASSERT_OK(SaveStep(*store, 1, 2));
  for (absl::string_view step : {"1", "2"}) {
    this->Overwrite(
        JoinPath(this->root(), absl::StrCat("job/step_00000000000", step, ".g0000000001/state")),
        "garbage");
  }
  EXPECT_THAT(store->Latest(), StatusIs(absl::StatusCode::kDataLoss,
                                        AllOf(HasSubstr("step_000000000001.g0000000001/state"),
                                              HasSubstr("step_000000000002.g0000000001/state"))));
}

TYPED_TEST(CheckpointStoreTest, ACheckpointCopiedUnderAnotherNameIsNotTaken) {
  auto store = this->Open();
  ASSERT_OK(SaveStep(*store, 1, 1));
  ASSERT_OK(SaveStep(*store, 1, 2));
  ASSERT_OK(this->files().Rename(JoinPath(this->root(), "job/step_000000000002.g0000000001"),
                                 JoinPath(this->root(), "job/step_000000000003.g0000000001")));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
  EXPECT_EQ(latest.checkpoint.id.step, 1);
}

// One writer, and readers that ask for the latest all the time: each must get a whole checkpoint,
// and never an older one than before.
TYPED_TEST(CheckpointStoreTest, ReadersBesideAWriterSeeWholeCheckpointsInOrder) {
  auto store = this->Open(2);
  ASSERT_OK(SaveStep(*store, 1, 0));
  std::atomic<bool> done = false;
  std::vector<std::string> problems[2];
  std::vector<std::thread> readers;
  for (std::vector<std::string>& wrong : problems) {
    readers.emplace_back([&, own = this->Open(2)] {
      int64_t newest = 0;
      while (!done) {
        const auto latest = own->Latest();
        if (!latest.ok()) {
          wrong.push_back(latest.status().ToString());
          continue;
        }
        const int64_t step = latest->checkpoint.id.step;
        if (step < newest) wrong.push_back(absl::StrCat(step, " after ", newest));
        if (!latest->damaged.empty()) wrong.push_back(latest->damaged[0].reason);
        newest = step;
        const auto model = own->Read(latest->checkpoint.id, "model");
        if (model.ok() ? *model != ContentOf(step, "model") : !absl::IsNotFound(model.status())) {
          wrong.push_back(absl::StrCat("content of ", step, model.status().ToString()));
        }
      }
    });
  }
  for (int64_t step = 1; step <= 60; ++step) ASSERT_OK(SaveStep(*store, 1, step));
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_THAT(problems[0], IsEmpty());
  EXPECT_THAT(problems[1], IsEmpty());
}

TYPED_TEST(CheckpointStoreTest, OfRacingWritersOneWins) {
  auto store = this->Open(100);
  for (int64_t step = 1; step <= 10; ++step) {
    std::atomic<int> winners = 0;
    std::atomic<int> losers = 0;
    std::vector<std::thread> writers;
    for (const char* word : {"a", "b", "c"}) {
      writers.emplace_back([&, word, own = this->Open(100)] {
        const absl::Status status = SaveStep(*own, 1, step, word);
        winners += status.ok() ? 1 : 0;
        losers += absl::IsAlreadyExists(status) ? 1 : 0;
      });
    }
    for (std::thread& writer : writers) writer.join();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(losers, 2);
  }
  EXPECT_THAT(this->Names(), SizeIs(11));  // nothing half-written stays
}

TYPED_TEST(CheckpointStoreTest, OfRacingGenerationsTheNewestStaysFenced) {
  std::vector<std::thread> starters;
  for (int64_t generation = 1; generation <= 8; ++generation) {
    starters.emplace_back([generation, own = this->Open()] {
      const absl::Status status = own->Fence(generation);
      EXPECT_TRUE(status.ok() || absl::IsAborted(status)) << status;
    });
  }
  for (std::thread& starter : starters) starter.join();
  EXPECT_THAT(this->Open()->Begin({7, 1}, "w"), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(this->Open()->Begin({8, 1}, "w"), IsOk());
}

}  // namespace
}  // namespace weft::worker

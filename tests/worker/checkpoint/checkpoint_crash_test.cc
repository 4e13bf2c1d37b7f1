// Power cuts, failing and full disks, at every operation of a checkpoint's life.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "common/file/durable_file.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/checkpoint/checkpoint_content.h"
#include "worker/checkpoint/checkpoint_store.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using testing::FaultyFileSystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

constexpr char kRoot[] = "/checkpoints";
constexpr uint64_t kSeeds = 40;  // outcomes of a power cut tried for each operation

// Two good checkpoints of an earlier generation, and a new generation about to save step 3: that
// save writes, publishes and prunes.
struct Scene {
  Scene() {
    auto store = OpenStore(files, kRoot);
    WEFT_CHECK(store->Fence(1).ok());
    WEFT_CHECK(SaveStep(*store, 1, 1).ok());
    WEFT_CHECK(SaveStep(*store, 1, 2).ok());
  }
  absl::Status NextGeneration() {
    auto store = OpenStore(files, kRoot);
    WEFT_RETURN_IF_ERROR(store->Fence(2));
    return SaveStep(*store, 2, 3);
  }
  FaultyFileSystem files;
};

int64_t OperationsOfASave() {
  Scene scene;
  const int64_t before = scene.files.operations();
  WEFT_CHECK(scene.NextGeneration().ok());
  return scene.files.operations() - before;
}

// The latest step, after checking that all of it is as written.
int64_t WholeLatest(FaultyFileSystem& files) {
  auto store = OpenStore(files, kRoot);
  const auto latest = store->Latest();
  EXPECT_OK(latest);
  if (!latest.ok()) return -1;
  EXPECT_THAT(latest->damaged, IsEmpty()) << latest->damaged[0].file << latest->damaged[0].reason;
  const CheckpointId id = latest->checkpoint.id;
  EXPECT_THAT(store->Read(id, "model"), IsOkAndHolds(ContentOf(id.step, "model")));
  EXPECT_THAT(store->Read(id, "state"), IsOkAndHolds(ContentOf(id.step, "state")));
  return id.step;
}

TEST(CheckpointCrashTest, APowerCutAnywhereLeavesTheOldOrTheNewCheckpoint) {
  const int64_t operations = OperationsOfASave();
  ASSERT_GT(operations, 15);
  std::set<int64_t> seen;
  for (int64_t cut = 0; cut < operations; ++cut) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      Scene scene;
      scene.files.LosePowerAt(scene.files.operations() + cut);
      const bool promised = scene.NextGeneration().ok();
      scene.files.RestorePower(seed);
      const int64_t step = WholeLatest(scene.files);
      ASSERT_TRUE(step == 2 || step == 3) << "cut at " << cut << ", seed " << seed;
      // What was reported as saved is there, whatever the cut interrupted afterwards.
      ASSERT_TRUE(step == 3 || !promised) << "cut at " << cut << ", seed " << seed;
      seen.insert(step);
      // Life goes on: the next generation saves, and clears what the crash left.
      auto store = OpenStore(scene.files, kRoot);
      ASSERT_OK(store->Fence(3));
      ASSERT_OK(SaveStep(*store, 3, 4));
      ASSERT_EQ(WholeLatest(scene.files), 4);
      ASSERT_OK_AND_ASSIGN(const auto rest, scene.files.List("/checkpoints/job"));
      ASSERT_LE(rest.size(), 3U) << "cut at " << cut << ", seed " << seed;
    }
  }
  EXPECT_THAT(seen, ElementsAre(2, 3));
}

TEST(CheckpointCrashTest, APowerCutDuringTheVeryFirstSaveLeavesNoneOrOne) {
  int64_t operations = 0;
  {
    FaultyFileSystem files;
    ASSERT_OK(OpenStore(files, kRoot)->Fence(1));
    ASSERT_OK(SaveStep(*OpenStore(files, kRoot), 1, 1));
    operations = files.operations();
  }
  for (int64_t cut = 0; cut < operations; ++cut) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      FaultyFileSystem files;
      files.LosePowerAt(cut);
      auto store = OpenStore(files, kRoot);
      const bool promised = store->Fence(1).ok() && SaveStep(*store, 1, 1).ok();
      files.RestorePower(seed);
      const auto latest = OpenStore(files, kRoot)->Latest();
      if (promised || latest.ok()) {
        ASSERT_EQ(WholeLatest(files), 1) << "cut at " << cut << ", seed " << seed;
      } else {
        ASSERT_THAT(latest, StatusIs(absl::StatusCode::kNotFound));
      }
    }
  }
}

TEST(CheckpointCrashTest, AFenceThatWasReportedSurvivesAPowerCut) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    FaultyFileSystem files;
    ASSERT_OK(OpenStore(files, kRoot)->Fence(5));
    files.RestorePower(seed);
    ASSERT_THAT(OpenStore(files, kRoot)->Begin({4, 1}, "w"), StatusIs(absl::StatusCode::kAborted));
  }
}

TEST(CheckpointCrashTest, OneFailingOperationCostsAtMostTheNewCheckpoint) {
  const int64_t operations = OperationsOfASave();
  int failures = 0;
  for (const absl::Status& error :
       {absl::UnknownError("Input/output error"), absl::ResourceExhaustedError("disk full")}) {
    for (int64_t failing = 0; failing < operations; ++failing) {
      Scene scene;
      scene.files.FailAt(scene.files.operations() + failing, error);
      const absl::Status saved = scene.NextGeneration();
      if (!saved.ok()) {
        EXPECT_EQ(saved.code(), error.code());
        ++failures;
      }
      const int64_t step = WholeLatest(scene.files);
      ASSERT_TRUE(step == 3 || (!saved.ok() && step == 2)) << "operation " << failing;
    }
  }
  EXPECT_GT(failures, 20);
}

TEST(CheckpointCrashTest, AFullDiskIsReportedKeepsTheOldAndLeavesNothingHalfWritten) {
  for (int64_t space = 0; space < 400; space += 7) {
    Scene scene;
    auto store = OpenStore(scene.files, kRoot);
    ASSERT_OK(store->Fence(2));
    ASSERT_OK_AND_ASSIGN(const auto before, scene.files.List("/checkpoints/job"));
    int64_t used = 0;  // of the scene: its two checkpoints
    for (absl::string_view step : {"1", "2"}) {
      ASSERT_OK_AND_ASSIGN(const auto files,
                           scene.files.List(absl::StrCat("/checkpoints/job/step_00000000000", step,
                                                         ".g0000000001")));
      for (const DirectoryEntry& file : files) used += file.bytes;
    }
    scene.files.SetCapacity(used + space);
    ASSERT_THAT(SaveStep(*store, 2, 3),
                StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("partial.step_")));
    EXPECT_EQ(WholeLatest(scene.files), 2);
    EXPECT_THAT(scene.files.List("/checkpoints/job"), IsOkAndHolds(before));
    scene.files.SetCapacity(INT64_MAX);  // somebody made room
    ASSERT_OK(SaveStep(*store, 2, 3));
    EXPECT_EQ(WholeLatest(scene.files), 3);
  }
}

TEST(CheckpointCrashTest, AFailingSyncIsNeverASuccess) {
  Scene scene;
  auto store = OpenStore(scene.files, kRoot);
  ASSERT_OK(store->Fence(2));
  scene.files.FailEverySync(absl::UnknownError("Input/output error"));
  EXPECT_THAT(SaveStep(*store, 2, 3), StatusIs(absl::StatusCode::kUnknown, HasSubstr("sync")));
  EXPECT_THAT(store->Fence(3), StatusIs(absl::StatusCode::kUnknown, HasSubstr("sync")));
  EXPECT_EQ(WholeLatest(scene.files), 2);
}

// Every bit of every file of the newest checkpoint, the manifest included.
TEST(CheckpointCrashTest, EveryFlippedBitIsNoticed) {
  Scene scene;
  ASSERT_OK(scene.NextGeneration());
  auto store = OpenStore(scene.files, kRoot);
  const std::string folder = "/checkpoints/job/step_000000000003.g0000000002";
  ASSERT_OK_AND_ASSIGN(const auto files, scene.files.List(folder));
  ASSERT_EQ(files.size(), 3U);
  for (const DirectoryEntry& file : files) {
    const std::string path = JoinPath(folder, file.name);
    for (int64_t bit = 0; bit < file.bytes * 8; ++bit) {
      scene.files.FlipBit(path, bit);
      ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store->Latest());
      ASSERT_EQ(latest.checkpoint.id.step, 2) << path << " bit " << bit;
      ASSERT_EQ(latest.damaged.size(), 1U);
      if (file.name != "MANIFEST.json") {
        ASSERT_THAT(store->Read({2, 3}, file.name), StatusIs(absl::StatusCode::kDataLoss));
        ASSERT_EQ(latest.damaged[0].file, path);
      }
      scene.files.FlipBit(path, bit);
    }
  }
  EXPECT_EQ(WholeLatest(scene.files), 3);
}

}  // namespace
}  // namespace weft::worker

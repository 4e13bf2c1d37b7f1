#include "worker/checkpoint/training_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/checkpoint/checkpoint_content.h"

namespace weft::worker {
namespace {

using kernels::DType;
using kernels::Shape;
using testing::FaultyFileSystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOkAndHolds;
using testing::StatusIs;

class TrainingCheckpointTest : public ::testing::Test {
 protected:
  std::vector<NamedTensor> Tensors(const std::string& prefix) const {
    const absl::string_view bytes(reinterpret_cast<const char*>(values_.data()), 24);
    return {{prefix + "embedding", DType::kF32, Shape{2, 2}, bytes.substr(0, 16)},
            {prefix + "head", DType::kF32, Shape{2}, bytes.substr(16, 8)}};
  }
  static TrainingState State() {
    TrainingState state;
    state.step = 12;
    state.skipped_steps = 1;
    state.samples_seen = 96;
    state.tokens_seen = 24'576;
    state.seed = 0xFFFFFFFFFFFFFFFF;
    state.data_fingerprint = "d";
    state.spec_sha256 = "s";
    state.spec = "model: {width: 64}\n# \"quoted\"";
    state.device_class = "cpu-avx2";
    return state;
  }

  std::vector<float> values_ = {1, 2, 3, 4, 5, 6};
  FaultyFileSystem files_;
  std::unique_ptr<CheckpointStore> store_ = OpenStore(files_, "/c");
};

TEST_F(TrainingCheckpointTest, LoadsBitForBitWhatWasSaved) {
  ASSERT_OK_AND_ASSIGN(const std::string sha256,
                       SaveCheckpoint(*store_, 3, State(), Tensors(""), Tensors("m.")));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store_->Latest());
  EXPECT_EQ(latest.checkpoint.id, (CheckpointId{3, 12}));
  ASSERT_OK_AND_ASSIGN(const auto loaded, LoadCheckpoint(*store_, latest.checkpoint.id, true));
  TrainingState expected = State();
  expected.weights_sha256 = sha256;
  EXPECT_EQ(loaded->state, expected);
  ASSERT_EQ(loaded->weights.size(), 2U);
  EXPECT_EQ(loaded->weights[1].name, "head");
  EXPECT_EQ(loaded->weights[1].bytes, Tensors("")[1].bytes);
  ASSERT_EQ(loaded->optimizer.size(), 2U);
  EXPECT_EQ(loaded->optimizer[0].name, "m.embedding");
}

TEST_F(TrainingCheckpointTest, WeightsAloneCanBeLoaded) {
  ASSERT_OK(SaveCheckpoint(*store_, 3, State(), Tensors(""), Tensors("m.")));
  ASSERT_OK(files_.RemoveTree("/c/job/step_000000000012.g0000000003/optimizer.safetensors"));
  ASSERT_OK_AND_ASSIGN(const auto loaded, LoadCheckpoint(*store_, {3, 12}, false));
  EXPECT_EQ(loaded->weights.size(), 2U);
  EXPECT_THAT(loaded->optimizer, IsEmpty());
  EXPECT_FALSE(LoadCheckpoint(*store_, {3, 12}, true).ok());
}

TEST_F(TrainingCheckpointTest, TheHashIsOfTheWeightsAndNothingElse) {
  ASSERT_OK_AND_ASSIGN(const std::string first,
                       SaveCheckpoint(*store_, 3, State(), Tensors(""), Tensors("m.")));
  TrainingState later = State();
  later.step = 13;
  later.seed = 1;
  ASSERT_OK_AND_ASSIGN(const std::string same, SaveCheckpoint(*store_, 4, later, Tensors(""), {}));
  EXPECT_EQ(first, same);
  EXPECT_THAT(WeightsSha256(Tensors("")), IsOkAndHolds(first));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store_->Latest());
  EXPECT_EQ(latest.checkpoint.files.back().name, kWeightsFile);
  EXPECT_EQ(latest.checkpoint.files.back().sha256, first);
  values_[5] = -6;
  ASSERT_OK_AND_ASSIGN(const std::string changed, WeightsSha256(Tensors("")));
  EXPECT_NE(changed, first);
}

TEST_F(TrainingCheckpointTest, AFailedSaveLeavesTheOneBefore) {
  ASSERT_OK(SaveCheckpoint(*store_, 3, State(), Tensors(""), Tensors("m.")));
  TrainingState later = State();
  later.step = 13;
  files_.SetCapacity(0);
  EXPECT_THAT(SaveCheckpoint(*store_, 3, later, Tensors(""), {}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("weights.safetensors")));
  ASSERT_OK_AND_ASSIGN(const LatestCheckpoint latest, store_->Latest());
  EXPECT_EQ(latest.checkpoint.id.step, 12);
}

TEST_F(TrainingCheckpointTest, StateReadsBackAndDamageIsNamed) {
  EXPECT_THAT(TrainingStateFromJson(ToJson(State())), IsOkAndHolds(State()));
  const std::string json = ToJson(State());
  EXPECT_THAT(TrainingStateFromJson(absl::StrReplaceAll(json, {{"\"seed\"", "\"sead\""}})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("seed")));
  EXPECT_THAT(TrainingStateFromJson(absl::StrReplaceAll(json, {{": 12", ": \"12\""}})),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(TrainingStateFromJson("{"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(TrainingStateFromJson("[]"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace weft::worker

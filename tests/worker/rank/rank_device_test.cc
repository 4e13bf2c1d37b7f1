#include "worker/rank/rank_device.h"

#include <cstdlib>

#include "tests/testing/status_matchers.h"
#include "worker/rank/rank_reporter.h"

namespace weft::worker {
namespace {

using weft::testing::StatusIs;

TEST(RankDeviceTest, AGpuThatCannotBeUsedIsAFailureOfThisWorker) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): before anything that reads it
  setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);  // none, whatever the machine has
  v1::RankAssignment assignment;
  assignment.mutable_device()->set_kind(v1::DEVICE_KIND_GPU);
  const auto device = NewRankDevice(assignment);
  EXPECT_THAT(device, StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(OutcomeOf(device.status()), v1::MemberExit::OUTCOME_FAILED);
}

}  // namespace
}  // namespace weft::worker

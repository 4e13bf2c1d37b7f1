#include "worker/rank/agent_link.h"

#include <optional>
#include <utility>

#include "absl/synchronization/notification.h"
#include "tests/testing/status_matchers.h"
#include "worker/rank/rank_reporter.h"

namespace weft::worker {
namespace {

using weft::testing::IsOk;
using weft::testing::StatusIs;

// The agent's side of the line, and a link whose end is recorded instead of ending the process.
class AgentLinkTest : public ::testing::Test {
 protected:
  AgentLinkTest() {
    auto pair = NewSocketPair();
    WEFT_CHECK(pair.ok());
    agent_.emplace(std::move(pair->first));
    link_ = std::make_unique<AgentLink>(std::move(pair->second), [this](const absl::Status& why) {
      why_ = why;
      ended_.Notify();
    });
  }
  void Order(v1::StopMember::Mode mode) {
    v1::AgentToRank message;
    message.mutable_stop()->set_mode(mode);
    ASSERT_OK(agent_->Send(message.SerializeAsString()));
  }
  absl::Status WaitForEnd() {
    WEFT_CHECK(ended_.WaitForNotificationWithTimeout(absl::Minutes(1)));
    return why_;
  }
  v1::RankToAgent Receive() {
    v1::RankToAgent message;
    const auto bytes = agent_->Receive(absl::Now() + absl::Minutes(1));
    EXPECT_THAT(bytes, IsOk());
    EXPECT_TRUE(message.ParseFromString(bytes.value_or("")));
    return message;
  }

  absl::Notification ended_;
  absl::Status why_;
  std::optional<FramedSocket> agent_;
  std::unique_ptr<AgentLink> link_;
};

TEST_F(AgentLinkTest, TheFirstMessageIsTheAssignment) {
  v1::AgentToRank message;
  message.mutable_assignment()->set_rank(3);
  ASSERT_OK(agent_->Send(message.SerializeAsString()));
  const auto assignment = link_->ReceiveAssignment();
  ASSERT_THAT(assignment, IsOk());
  EXPECT_EQ(assignment->rank(), 3);
}

TEST_F(AgentLinkTest, AnythingElseFirstIsRefused) {
  Order(v1::StopMember::MODE_KILL);
  EXPECT_THAT(link_->ReceiveAssignment(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(AgentLinkTest, TheRankEndsWhenTheLineCloses) {
  link_->Listen();
  agent_.reset();
  EXPECT_THAT(WaitForEnd(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(AgentLinkTest, TheRankEndsWhenItIsToldTo) {
  link_->Listen();
  Order(v1::StopMember::MODE_KILL);
  EXPECT_THAT(WaitForEnd(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(AgentLinkTest, TheWishToSaveIsKnownAndEndsNothing) {
  link_->Listen();
  EXPECT_FALSE(link_->save_and_stop());
  Order(v1::StopMember::MODE_SAVE);
  Order(v1::StopMember::MODE_KILL);  // read after the wish
  EXPECT_THAT(WaitForEnd(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(link_->save_and_stop());
}

TEST_F(AgentLinkTest, ThePhaseIsRepeatedWithoutBeingAsked) {
  link_->Listen();
  link_->SendPhase(v1::MemberStatus::PHASE_TRAINING, 7);
  for (int i = 0; i < 2; ++i) {
    const v1::RankToAgent message = Receive();
    EXPECT_EQ(message.phase().phase(), v1::MemberStatus::PHASE_TRAINING);
    EXPECT_EQ(message.phase().step(), 7);
  }
}

TEST(OutcomeTest, ErrorsAreAnsweredForByWhoCanMendThem) {
  EXPECT_EQ(OutcomeOf(absl::InvalidArgumentError("")), v1::MemberExit::OUTCOME_USER_ERROR);
  EXPECT_EQ(OutcomeOf(absl::FailedPreconditionError("")), v1::MemberExit::OUTCOME_USER_ERROR);
  EXPECT_EQ(OutcomeOf(absl::NotFoundError("")), v1::MemberExit::OUTCOME_USER_ERROR);
  EXPECT_EQ(OutcomeOf(absl::UnavailableError("")), v1::MemberExit::OUTCOME_PEER_LOST);
  EXPECT_EQ(OutcomeOf(absl::AbortedError("")), v1::MemberExit::OUTCOME_PEER_LOST);
  EXPECT_EQ(OutcomeOf(absl::ResourceExhaustedError("")), v1::MemberExit::OUTCOME_FAILED);
  EXPECT_EQ(OutcomeOf(absl::DataLossError("")), v1::MemberExit::OUTCOME_FAILED);
}

}  // namespace
}  // namespace weft::worker

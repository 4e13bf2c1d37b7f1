#include "coordinator/store/record_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/coordinator/store/stored_history.h"

namespace weft::coordinator {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::StatusIs;

TEST(RecordCodec, EveryDurableFactKeepsItsMeaning) {
  std::set<std::string> kinds;
  ClusterState told;
  ClusterState read;
  std::vector<Fact> facts;
  for (const std::vector<Fact>& batch : StoredHistory()) {
    facts.insert(facts.end(), batch.begin(), batch.end());
  }
  for (const Fact& fact : facts) {
    kinds.insert(FactName(fact));
    ASSERT_OK_AND_ASSIGN(Fact decoded, DecodeFact(FactName(fact), EncodeFact(fact)));
    EXPECT_EQ(EncodeFact(decoded), EncodeFact(fact));
    // The spec is stored beside the fact.
    if (JobAdded* added = std::get_if<JobAdded>(&decoded)) {
      added->request.spec = std::get<JobAdded>(fact).request.spec;
    }
    Apply(told, fact);
    Apply(read, decoded);
    EXPECT_EQ(told.jobs, read.jobs) << FactName(fact);
    EXPECT_EQ(told.workers, read.workers) << FactName(fact);
    EXPECT_EQ(told.queues, read.queues) << FactName(fact);
  }
  EXPECT_EQ(kinds.size(), 14U) << "the history lacks a kind of durable fact";
}

TEST(RecordCodec, InfiniteTimesAndAbsentValuesKeepTheirMeaning) {
  Job job;
  job.id = JobId(7);
  job.gang.emplace_back();
  job.gang.emplace_back().outcome = MemberOutcome::kPeerLost;
  ASSERT_OK_AND_ASSIGN(const Job read, DecodeJob(EncodeJob(job)));
  EXPECT_EQ(read, job);
  EXPECT_EQ(read.finished, absl::InfiniteFuture());
  EXPECT_EQ(read.created, absl::InfinitePast());
}

TEST(RecordCodec, AMissingKeyLeavesTheDefault) {
  ASSERT_OK_AND_ASSIGN(const Job read, DecodeJob(R"({"id": 3, "from_the_future": [1]})"));
  EXPECT_EQ(read.id, JobId(3));
  EXPECT_EQ(read.request.max_retries, JobRequest().max_retries);
}

TEST(RecordCodec, AFailureThatWasAReasonAloneIsReadStill) {
  ASSERT_OK_AND_ASSIGN(
      const Job read,
      DecodeJob(R"({"id": 3, "last_failure": {"code": 8, "text": "worker a was lost"}})"));
  EXPECT_EQ(read.last_failure.reason, (Reason{ReasonCode::kHostLost, "worker a was lost"}));
  EXPECT_EQ(read.last_failure.at, absl::InfinitePast());
  EXPECT_TRUE(read.HasFailed());
}

TEST(RecordCodec, AWrongTypeIsDataLossThatNamesTheKey) {
  EXPECT_THAT(DecodeJob(R"({"generation": "seven"})"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("generation")));
  EXPECT_THAT(DecodeJob(R"({"step": 1.5})"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("step")));
  EXPECT_THAT(DecodeJob(R"({"request": {"priority": 99999999999}})"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("request")));
  EXPECT_THAT(DecodeJob("{\"id\": 3"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeFact("JobTeleported", "{}"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("JobTeleported")));
}

TEST(RecordCodec, TextThatIsNotUtf8IsStoredWithReplacements) {
  Job job;
  job.reason.text = "rank said \xff\xfe";
  ASSERT_OK_AND_ASSIGN(const Job read, DecodeJob(EncodeJob(job)));
  EXPECT_THAT(read.reason.text, HasSubstr("rank said "));
}

}  // namespace
}  // namespace weft::coordinator

// The agent's core against a coordinator whose messages are lost, doubled and reordered, and
// processes that end in every way: thousands of seeds, invariants after every event.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "worker/agent/agent_core.h"

namespace weft::worker {
namespace {

// What really runs on the host, as the core's actions make it.
struct FakeMember {
  std::set<int> ranks;
  bool launcher = false;
  bool daemon = false;
  bool killed = false;
  bool save_asked = false;
  [[nodiscard]] bool alive() const { return !ranks.empty() || launcher || daemon; }
};

class World {
 public:
  explicit World(uint32_t seed) : random_(seed), core_(AgentPolicy()) {}

  void Run() {
    for (int i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) RandomEvent();
    Calm();
  }

 private:
  int Pick(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  MemberKey RandomKey() {
    return MemberKey{absl::StrCat("jobs/j-", Pick(2)), Generation(1 + Pick(newest_))};
  }

  void Step(const AgentEvent& event) {
    for (const AgentAction& action : core_.Step(event, now_)) {
      std::visit([this](const auto& concrete) { Do(concrete); }, action);
    }
    CheckInvariants();
  }

  // --- what the actions do ---
  void Do(const SpawnMember& action) {
    const MemberKey& key = action.order.key;
    for (const auto& [other, member] : members_) {
      ASSERT_FALSE(other.job == key.job && member.alive())
          << key.generation << " starts while " << other.generation << " of " << key.job << " runs";
    }
    ASSERT_TRUE(started_.insert(key).second) << "started twice";
    ASSERT_GT(key.generation, newest_started_[key.job]) << "an old generation acts";
    newest_started_[key.job] = key.generation;
    FakeMember& member = members_[key];
    member.ranks.insert(action.order.ranks.begin(), action.order.ranks.end());
    member.launcher = action.order.has_relays() && action.order.leads();
  }
  void Do(const AskToSave& action) { members_.at(action.key).save_asked = true; }
  void Do(const AbortExchange& /*action*/) {}
  void Do(const KillMember& action) { members_.at(action.key).killed = true; }
  void Do(const ReleaseMember& action) {
    ASSERT_FALSE(members_.at(action.key).alive()) << "released while processes run";
    members_.erase(action.key);
    released_.push_back(action.key);
  }
  void Do(const RunDaemon& action) {
    ASSERT_FALSE(members_.at(action.key).killed) << "a daemon for a member that is being killed";
    members_.at(action.key).daemon = true;
  }
  void Do(const RefuseDaemon& /*action*/) {}
  void Do(const SendReport& action) {
    const auto* exit = std::get_if<ExitReport>(&action.report.content);
    if (exit == nullptr) return;
    const auto member = members_.find(exit->key);
    if (member != members_.end()) {
      ASSERT_TRUE(member->second.ranks.empty()) << "reported while ranks run";
    }
    if (Pick(3) == 0) unseen_acknowledgements_.push_back(action.report.id);
  }
  void Do(const SendHeartbeat& /*action*/) {}
  void Do(const Quit& /*action*/) { FAIL() << "nobody asked for a shutdown"; }

  void CheckInvariants() {
    std::map<std::string, int> alive;
    for (const auto& [key, member] : members_) {
      if (member.alive()) ++alive[key.job];
    }
    for (const auto& [job, count] : alive) EXPECT_LE(count, 1) << job;
    // Every member whose ranks run is in a heartbeat, unless its report is.
    std::set<MemberKey> told;
    for (const MemberSnapshot& snapshot : core_.Running()) told.insert(snapshot.key);
    for (const Report& report : core_.UnacknowledgedExits()) {
      const MemberKey& key = std::get<ExitReport>(report.content).key;
      told.insert(key);
      reports_[key].insert(report.id);
      EXPECT_EQ(reports_[key].size(), 1U) << "two different final reports of one member";
    }
    for (const MemberKey& key : released_) {
      EXPECT_EQ(reports_[key].size(), 1U) << "gone without a report";
    }
    released_.clear();
    for (const auto& [key, member] : members_) {
      if (member.ranks.empty()) continue;
      EXPECT_EQ(told.count(key), 1U) << "hidden from the coordinator";
    }
  }

  // --- what happens ---
  void RandomEvent() {
    now_ += absl::Milliseconds(Pick(400));
    if (core_.NextWakeup() <= now_) Step(TimePassed{});
    switch (Pick(10)) {
      case 0:
        newest_ += Pick(2);
        return Step(StartReceived{RandomOrder()});
      case 1:
        return Step(
            StopReceived{RandomKey(), Pick(2) == 0 ? StopMode::kSave : StopMode::kKill, "asked"});
      case 2:
        return Pick(4) == 0 ? Step(LinkLost{}) : Step(LinkRestored{});
      case 3:
        return Acknowledge();
      case 4:
        return Step(DaemonRequested{DaemonRequestId(++last_request_), RandomKey()});
      case 5:
        return Step(PeerUnreachable{RandomKey(), "a peer is gone"});
      default:
        return ProcessEvent();
    }
  }

  MemberOrder RandomOrder() {
    const MemberKey key = RandomKey();
    // The same order each time that it is sent: a function of its key.
    const int shape = static_cast<int>(key.generation.value() % 4);
    if (shape == 0) return MemberOrder{key, {0}, 1, 0, ""};
    if (shape == 1) return MemberOrder{key, {0, 1, 2}, 1, 0, ""};
    return MemberOrder{key, {shape - 2}, 2, shape - 2, ""};
  }

  void Acknowledge() {
    if (unseen_acknowledgements_.empty()) return;
    Step(AcknowledgementReceived{unseen_acknowledgements_});
    if (Pick(2) == 0) unseen_acknowledgements_.clear();  // else it comes again
  }

  void ProcessEvent() {
    if (members_.empty()) return;
    auto chosen = members_.begin();
    std::advance(chosen, Pick(static_cast<int>(members_.size())));
    const MemberKey key = chosen->first;
    FakeMember& member = chosen->second;
    if (member.launcher && Pick(8) == 0) return EndRelay(key, RelayPart::kLauncher);
    if (member.daemon && Pick(8) == 0) return EndRelay(key, RelayPart::kDaemon);
    if (member.ranks.empty()) return;
    const int rank = *member.ranks.begin();
    switch (Pick(5)) {
      case 0:
        return Step(RankFinished{key, rank, static_cast<MemberOutcome>(Pick(6)), "said", 5, ""});
      case 1:
        return EndRank(key, rank);
      default:
        return Step(RankAdvanced{key, rank, MemberPhase::kTraining, Pick(100)});
    }
  }

  void EndRank(const MemberKey& key, int rank) {
    members_.at(key).ranks.erase(rank);
    Step(RankEnded{key, rank, members_.at(key).killed || Pick(2) == 0, "ended"});
  }
  void EndRelay(const MemberKey& key, RelayPart part) {
    FakeMember& member = members_.at(key);
    (part == RelayPart::kLauncher ? member.launcher : member.daemon) = false;
    Step(RelayEnded{key, part, Pick(2) == 0, "ended"});
  }

  // Faults stop: what was killed dies, the others end, reports arrive. Then nothing is left.
  void Calm() {
    Step(LinkRestored{});
    for (int round = 0; round < 1000 && !::testing::Test::HasFailure(); ++round) {
      now_ += absl::Seconds(1);
      if (core_.NextWakeup() <= now_) Step(TimePassed{});
      std::vector<MemberKey> keys;
      for (const auto& [key, member] : members_) keys.push_back(key);
      for (const MemberKey& key : keys) EndAll(key);
      std::vector<ReportId> ids;
      for (const Report& report : core_.UnacknowledgedExits()) ids.push_back(report.id);
      if (!ids.empty()) Step(AcknowledgementReceived{ids});
      if (members_.empty() && core_.Running().empty() && ids.empty()) break;
    }
    EXPECT_TRUE(members_.empty()) << "something never ends";
    EXPECT_TRUE(core_.Running().empty());
    for (const MemberKey& key : started_) {
      EXPECT_EQ(reports_[key].size(), 1U)
          << "no report of generation " << key.generation << " of " << key.job;
    }
  }

  void EndAll(const MemberKey& key) {
    while (members_.count(key) > 0 && !members_.at(key).ranks.empty()) {
      EndRank(key, *members_.at(key).ranks.begin());
    }
    if (members_.count(key) > 0 && members_.at(key).launcher) EndRelay(key, RelayPart::kLauncher);
    if (members_.count(key) > 0 && members_.at(key).daemon) EndRelay(key, RelayPart::kDaemon);
  }

  std::mt19937 random_;
  AgentCore core_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  int newest_ = 1;
  int64_t last_request_ = 0;
  std::map<MemberKey, FakeMember> members_;
  std::set<MemberKey> started_;
  std::map<std::string, Generation> newest_started_;
  std::vector<MemberKey> released_;  // in this step
  std::map<MemberKey, std::set<ReportId>> reports_;
  std::vector<ReportId> unseen_acknowledgements_;
};

TEST(AgentCoreRandomTest, KeepsItsPromisesInAnyOrderOfEvents) {
  for (uint32_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World(seed).Run();
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
}  // namespace weft::worker

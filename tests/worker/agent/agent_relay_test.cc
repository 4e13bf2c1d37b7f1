// Gangs of several agents, with real relays over real MPI on the loopback, started by the real
// weft-rsh. The agents live in this process; the fake ranks add up ones in every step.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <fstream>

#include "absl/strings/match.h"
#include "common/process/file_descriptor.h"
#include "tests/testing/await.h"
#include "tests/worker/agent/agent_harness.h"

namespace weft::worker {
namespace {

using ::testing::AnyOf;
using ::testing::IsEmpty;

// Has an address, and hangs up on the first who calls there.
class HangingUp {
 public:
  HangingUp() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(place);
    auto* const any = reinterpret_cast<sockaddr*>(&place);
    WEFT_CHECK(bind(listener_.get(), any, size) == 0 && listen(listener_.get(), 1) == 0 &&
               getsockname(listener_.get(), any, &size) == 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(place.sin_port));
  }
  [[nodiscard]] const std::string& address() const { return address_; }
  // Waits for somebody; afterwards the address is free.
  bool HangUpOnce() {
    pollfd event{listener_.get(), POLLIN, 0};
    if (poll(&event, 1, static_cast<int>(absl::ToInt64Milliseconds(FakeCoordinator::kPatience))) !=
        1) {
      return false;
    }
    const FileDescriptor caller(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const linger at_once{1, 0};  // a connection that was closed in order would keep the address
    setsockopt(caller.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    listener_.Close();
    return caller.is_open();
  }

 private:
  FileDescriptor listener_;
  std::string address_;
};

class AgentRelayTest : public AgentHarness {
 protected:
  void StartAgents(int count) {
    for (int i = 0; i < count; ++i) {
      names_.push_back(std::string(1, static_cast<char>('a' + i)));
      agents_.push_back(StartAgent(names_.back()));
      ASSERT_TRUE(AwaitConnected(names_.back()));
    }
  }

  // A gang over all agents, one rank each.
  v1::CoordinatorMessage GangOrder(const std::string& name, int64_t generation, int64_t steps) {
    v1::CoordinatorMessage message = StartOrder(name, generation, steps);
    v1::StartMember& start = *message.mutable_start();
    start.clear_members();
    start.set_world_size(static_cast<int>(agents_.size()));
    for (size_t i = 0; i < agents_.size(); ++i) {
      v1::GangMember& member = *start.add_members();
      member.set_worker(names_[i]);
      member.set_peer_address(agents_[i]->peer_address());
      member.add_ranks()->set_rank(static_cast<int>(i));
    }
    return message;
  }
  // A gang of the agents there are and of a worker b at this address.
  v1::CoordinatorMessage OrderWithPeer(const std::string& address) {
    v1::CoordinatorMessage message = GangOrder("train-1", 1, 10);
    v1::StartMember& start = *message.mutable_start();
    v1::GangMember& peer = *start.add_members();
    peer.set_worker("b");
    peer.set_peer_address(address);
    peer.add_ranks()->set_rank(start.world_size());
    start.set_world_size(start.world_size() + 1);
    return message;
  }
  void SendToAll(const v1::CoordinatorMessage& message) {
    for (const std::string& name : names_) coordinator_.Send(name, message);
  }

  // Processes whose environment names this test's folder and whose command line has `program`.
  std::vector<pid_t> Processes(const std::string& program) const {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream environment_file(entry.path() / "environ", std::ios::binary);
      std::ifstream command_file(entry.path() / "cmdline", std::ios::binary);
      std::string environment;
      std::string command;
      std::getline(environment_file, environment);
      std::getline(command_file, command, '\0');
      if (absl::StrContains(environment, home_.path().string()) &&
          absl::StrContains(command, program)) {
        found.push_back(std::stoi(entry.path().filename().string()));
      }
    }
    return found;
  }
  bool AwaitNoProcesses() const {
    for (const char* program : {"orted", "mpirun", "weft-relay", "weft-rsh", "weft-rank"}) {
      if (!weft::testing::Await([&] { return Processes(program).empty(); },
                                FakeCoordinator::kPatience)) {
        return false;
      }
    }
    return true;
  }

  std::vector<std::string> names_;
  std::vector<std::unique_ptr<Agent>> agents_;
};

TEST_F(AgentRelayTest, AGangOverThreeWorkersExchangesAndSucceeds) {
  StartAgents(3);
  SendToAll(GangOrder("train-1", 1, 20));
  for (const std::string& name : names_) {
    EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED, name)) << name;
  }
  EXPECT_TRUE(AwaitNoProcesses()) << "the relays end soon after the ranks";
}

TEST_F(AgentRelayTest, TheEndOfTheRelaysAfterASuccessLeavesNoLineInTheLog) {
  StartAgents(2);
  SendToAll(GangOrder("train-1", 1, 20));
  for (const std::string& name : names_) {
    ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED, name)) << name;
  }
  ASSERT_TRUE(AwaitNoProcesses());
  for (size_t i = 0; i < agents_.size(); ++i) {
    agents_[i]->RequestShutdown(StopMode::kSave, absl::Seconds(30));
    EXPECT_TRUE(agents_[i]->Wait().ok());  // all lines are sent then
    for (const v1::WorkerMessage& message : coordinator_.messages(names_[i])) {
      for (const v1::LogLine& line : message.logs().lines()) {
        EXPECT_GE(line.rank(), 0) << names_[i] << ": " << line.text();
      }
    }
  }
}

TEST_F(AgentRelayTest, ADeadRankEndsTheGangAndTheNextGenerationRuns) {
  StartAgents(2);
  SendToAll(GangOrder("train-1", 1, 1000000));
  for (const std::string& name : names_) {
    ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, name));
  }
  const std::vector<pid_t> ranks = Processes("rank=1 ");
  ASSERT_EQ(ranks.size(), 1U);
  ASSERT_EQ(kill(ranks[0], SIGKILL), 0);
  // The one that lost its rank says so; the other one has lost a peer.
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_FAILED, "b"));
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_PEER_LOST, "a"));
  SendToAll(GangOrder("train-1", 2, 10));
  for (const std::string& name : names_) {
    EXPECT_TRUE(AwaitExit("train-1", 2, v1::MemberExit::OUTCOME_SUCCEEDED, name));
  }
}

TEST_F(AgentRelayTest, ADeadRelayIsALostPeerForEveryMember) {
  StartAgents(2);
  SendToAll(GangOrder("train-1", 1, 1000000));
  for (const std::string& name : names_) {
    ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, name));
  }
  const std::vector<pid_t> relays = Processes("weft-relay");
  ASSERT_EQ(relays.size(), 2U);
  ASSERT_EQ(kill(relays[0], SIGKILL), 0);
  for (const std::string& name : names_) {
    EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_PEER_LOST, name));
  }
  EXPECT_TRUE(AwaitNoProcesses());
}

TEST_F(AgentRelayTest, APeerThatIsAwayForAMomentIsWaitedFor) {
  StartAgents(1);
  HangingUp nobody;
  AgentOptions options = Options("b");
  options.listen = nobody.address();
  const v1::CoordinatorMessage order = OrderWithPeer(nobody.address());
  coordinator_.Send("a", order);
  ASSERT_TRUE(nobody.HangUpOnce());  // the lead has tried; only now the peer begins to listen
  auto peer = Agent::Start(std::move(options), metrics_);
  ASSERT_TRUE(peer.ok()) << peer.status();
  ASSERT_TRUE(AwaitConnected("b"));
  coordinator_.Send("b", order);
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED, "a"));
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED, "b"));
}

TEST_F(AgentRelayTest, AMemberWhoseAgentCannotBeReachedIsNamedByTheLead) {
  policy_.peer_contact_timeout = absl::Milliseconds(200);
  StartAgents(1);
  const v1::CoordinatorMessage order = OrderWithPeer("127.0.0.1:1");
  coordinator_.Send("a", order);
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_PEER_LOST, "a"));
  EXPECT_THAT(ExitOf(coordinator_.messages("a"), JobOf("train-1")).message(),
              ::testing::HasSubstr("worker b"));
  EXPECT_TRUE(AwaitNoProcesses());
}

TEST_F(AgentRelayTest, AnAgentThatEndsLeavesNoProcess) {
  StartAgents(2);
  SendToAll(GangOrder("train-1", 1, 1000000));
  for (const std::string& name : names_) {
    ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, name));
  }
  agents_.clear();
  EXPECT_TRUE(AwaitNoProcesses());
}

}  // namespace
}  // namespace weft::worker

// The program weft-worker itself: its exit codes, its files, and what is left when it is killed.
#include <gmock/gmock.h>
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "common/base/exit_codes.h"
#include "common/process/process_supervisor.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/agent/agent_harness.h"
#include "worker/agent/leftovers.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WorkerProgramTest : public AgentHarness {
 protected:
  struct Program {
    ChildId child;
    mutable absl::Mutex mutex;
    std::string output ABSL_GUARDED_BY(mutex);
    std::optional<ExitStatus> exit ABSL_GUARDED_BY(mutex);
  };

  WorkerProgramTest() {
    auto supervisor = ProcessSupervisor::Create();
    WEFT_CHECK(supervisor.ok());
    supervisor_ = *std::move(supervisor);
  }
  ~WorkerProgramTest() override { supervisor_.reset(); }  // before the programs' records

  Program& Start(const std::string& worker, std::vector<std::string> more = {}) {
    Program& program = *programs_.emplace_back(std::make_unique<Program>());
    ChildOptions options;
    options.program = (home_.path() / "bin/weft-worker").string();
    options.arguments = {"weft-worker",
                         "--coordinator",
                         coordinator_.address(),
                         "--name",
                         worker,
                         "--state-dir",
                         StateOf(worker),
                         "--grace",
                         "60s",
                         "--data-root",
                         "/"};
    options.arguments.insert(options.arguments.end(), more.begin(), more.end());
    options.environment = OwnEnvironment();
    options.environment.push_back(absl::StrCat("WEFT_LIBEXEC=", (home_.path() / "bin").string()));
    ChildCallbacks callbacks;
    callbacks.on_output = [&program](OutputStream, absl::string_view text) {
      const absl::MutexLock lock(&program.mutex);
      absl::StrAppend(&program.output, text);
    };
    callbacks.on_exit = [&program](ExitStatus status) {
      const absl::MutexLock lock(&program.mutex);
      program.exit = status;
    };
    auto child = supervisor_->Spawn(options, std::move(callbacks));
    WEFT_CHECK_MSG(child.ok(), child.status().message());
    program.child = *child;
    return program;
  }
  static ExitStatus AwaitEnd(Program& program) {
    const absl::MutexLock lock(&program.mutex);
    const auto ended = [&program]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(program.mutex) {
      return program.exit.has_value();
    };
    EXPECT_TRUE(program.mutex.AwaitWithTimeout(absl::Condition(&ended), FakeCoordinator::kPatience))
        << program.output;
    return program.exit.value_or(ExitStatus{-1, -1});
  }
  static std::string OutputOf(const Program& program) {
    const absl::MutexLock lock(&program.mutex);
    return program.output;
  }
  [[nodiscard]] std::string StateOf(const std::string& worker) const {
    return (home_.path() / worker).string();
  }
  // Waits for it: it is written when everything else serves.
  [[nodiscard]] nlohmann::json AwaitAnnouncement(const std::string& worker) const {
    nlohmann::json content;
    weft::testing::Await(
        [&] {
          std::ifstream file(absl::StrCat(StateOf(worker), "/worker.json"));
          content = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
          return content.is_object();
        },
        FakeCoordinator::kPatience);
    return content;
  }

  // Processes other than the agents that carry this test's folder in their environment.
  std::vector<std::string> Descendants() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream environment_file(entry.path() / "environ", std::ios::binary);
      std::string environment;
      std::getline(environment_file, environment);
      if (!absl::StrContains(environment,
                             absl::StrCat(kOwnerVariable, "=", home_.path().string()))) {
        continue;
      }
      std::ifstream command_file(entry.path() / "cmdline", std::ios::binary);
      std::string command;
      std::getline(command_file, command, '\0');
      found.push_back(absl::StrCat(entry.path().filename().string(), " ", command));
    }
    return found;
  }
  // Waits until none is left; returns how long that took.
  absl::Duration AwaitNoDescendants() const {
    const absl::Time begin = absl::Now();
    weft::testing::Await([&] { return Descendants().empty(); }, FakeCoordinator::kPatience);
    EXPECT_THAT(Descendants(), IsEmpty());
    return absl::Now() - begin;
  }
  static std::vector<std::string> SharedMemory() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  v1::CoordinatorMessage GangOrder(const std::string& name, int64_t steps,
                                   const std::vector<std::string>& workers) {
    v1::CoordinatorMessage message = StartOrder(name, 1, steps);
    v1::StartMember& start = *message.mutable_start();
    start.clear_members();
    start.set_world_size(static_cast<int>(workers.size()));
    for (size_t i = 0; i < workers.size(); ++i) {
      v1::GangMember& member = *start.add_members();
      member.set_worker(workers[i]);
      member.set_peer_address(coordinator_.messages(workers[i]).front().hello().peer_address());
      member.add_ranks()->set_rank(static_cast<int>(i));
    }
    return message;
  }

  std::vector<std::unique_ptr<Program>> programs_;
  std::unique_ptr<ProcessSupervisor> supervisor_;
};

TEST_F(WorkerProgramTest, AnnouncesItselfAndEndsInOrder) {
  Program& program = Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  const nlohmann::json announcement = AwaitAnnouncement("a");
  ASSERT_TRUE(announcement.is_object());
  EXPECT_EQ(announcement["pid"], supervisor_->PidOf(program.child));
  supervisor_->Signal(program.child, SIGTERM);
  EXPECT_EQ(AwaitEnd(program).code, kExitOk) << OutputOf(program);
  EXPECT_FALSE(std::filesystem::exists(absl::StrCat(StateOf("a"), "/worker.json")));
}

TEST_F(WorkerProgramTest, SigtermSavesWhatRuns) {
  Program& program = Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  coordinator_.Send("a", StartOrder("train-1", 1, 1000000));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, "a"));
  supervisor_->Signal(program.child, SIGTERM);
  EXPECT_EQ(AwaitEnd(program).code, kExitOk);
  EXPECT_TRUE(
      HasExit(coordinator_.messages("a"), JobOf("train-1"), 1, v1::MemberExit::OUTCOME_SAVED));
}

TEST_F(WorkerProgramTest, ASecondWorkerOnTheStateDirectoryIsRefused) {
  Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  Program& second = Start("a");
  EXPECT_EQ(AwaitEnd(second).code, kExitConflict);
  EXPECT_THAT(OutputOf(second), HasSubstr(StateOf("a")));
}

TEST_F(WorkerProgramTest, ARefusalByTheCoordinatorIsItsLastWord) {
  coordinator_.set_refusal("this coordinator speaks protocol 9");
  Program& program = Start("a");
  EXPECT_EQ(AwaitEnd(program).code, kExitConflict);
  EXPECT_THAT(OutputOf(program), HasSubstr("this coordinator speaks protocol 9"));
}

TEST_F(WorkerProgramTest, APortInUseIsNamed) {
  Program& program = Start("a", {"--listen", coordinator_.address()});
  EXPECT_EQ(AwaitEnd(program).code, kExitUnavailable) << OutputOf(program);
  EXPECT_THAT(OutputOf(program), HasSubstr(coordinator_.address()));
}

TEST_F(WorkerProgramTest, WithoutACoordinatorItSaysSoOnceAndWaits) {
  coordinator_.Disconnect(/*keep_away=*/true);
  Program& program = Start("a");
  EXPECT_TRUE(
      weft::testing::Await([&] { return absl::StrContains(OutputOf(program), "trying on"); },
                           FakeCoordinator::kPatience));
  coordinator_.Disconnect(/*keep_away=*/false);
  ASSERT_TRUE(AwaitConnected("a"));
  const std::string output = OutputOf(program);
  EXPECT_EQ(output.find("trying on"), output.rfind("trying on")) << output;
}

TEST_F(WorkerProgramTest, AnIdleWorkerIsSmall) {
  Program& program = Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  std::ifstream file(absl::StrCat("/proc/", supervisor_->PidOf(program.child), "/status"));
  int64_t kibibytes = 0;
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "VmRSS:")) kibibytes = std::stoll(line.substr(6));
  }
  EXPECT_GT(kibibytes, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(kibibytes, 50 << 10);
#endif
}

TEST_F(WorkerProgramTest, KilledItLeavesNoRankAndItsSuccessorTakesOver) {
  Program& first = Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  coordinator_.Send("a", StartOrder("hang-1", 1, 1000));  // one that heeds nothing
  ASSERT_TRUE(AwaitPhase("hang-1", v1::MemberStatus::PHASE_TRAINING, "a"));
  ASSERT_EQ(Descendants().size(), 1U);
  supervisor_->Signal(first.child, SIGKILL);
  AwaitEnd(first);
  EXPECT_LT(AwaitNoDescendants(), absl::Seconds(5)) << "by the kernel, not by patience";
  coordinator_.Clear();
  Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  EXPECT_EQ(coordinator_.messages("a").front().hello().running_size(), 0);
}

TEST_F(WorkerProgramTest, ASuccessorSweepsTheProcessesOfTheOneThatWasKilled) {
  Program& first = Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  // Stands for a process that escaped: it carries the mark, but is no child of the agent.
  Program& escaped = *programs_.emplace_back(std::make_unique<Program>());
  ChildOptions options;
  options.program = "/bin/sleep";
  options.arguments = {"sleep", "1000"};
  options.environment = {absl::StrCat(kOwnerVariable, "=", StateOf("a"))};
  ChildCallbacks callbacks;
  callbacks.on_exit = [&escaped](ExitStatus status) {
    const absl::MutexLock lock(&escaped.mutex);
    escaped.exit = status;
  };
  ASSERT_TRUE(supervisor_->Spawn(options, std::move(callbacks)).ok());
  supervisor_->Signal(first.child, SIGKILL);
  AwaitEnd(first);
  Start("a");
  EXPECT_EQ(AwaitEnd(escaped).signal, SIGKILL);
}

#ifdef WEFT_HAVE_MPI
TEST_F(WorkerProgramTest, AKilledWorkerOfAGangLeavesNothingBehind) {
  const std::vector<std::string> shared_before = SharedMemory();
  Program& a = Start("a");
  Program& b = Start("b");
  ASSERT_TRUE(AwaitConnected("a"));
  ASSERT_TRUE(AwaitConnected("b"));
  const v1::CoordinatorMessage order = GangOrder("train-1", 1000000, {"a", "b"});
  coordinator_.Send("a", order);
  coordinator_.Send("b", order);
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, "a"));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING, "b"));
  supervisor_->Signal(a.child, SIGKILL);  // the lead, with its mpirun
  AwaitEnd(a);
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_PEER_LOST, "b"));
  EXPECT_LT(AwaitNoDescendants(), absl::Seconds(10));
  // What a killed process cannot remove itself goes when its successor starts.
  coordinator_.Clear();
  Start("a");
  ASSERT_TRUE(AwaitConnected("a"));
  supervisor_->Signal(b.child, SIGTERM);
  AwaitEnd(b);
  EXPECT_THAT(SharedMemory(), ::testing::IsSubsetOf(shared_before));
  for (const char* worker : {"a", "b"}) {
    std::vector<std::string> left;
    for (const auto& entry :
         std::filesystem::directory_iterator(absl::StrCat(StateOf(worker), "/run"))) {
      if (!entry.is_socket()) left.push_back(entry.path().string());
    }
    EXPECT_THAT(left, IsEmpty());
  }
}
#endif

}  // namespace
}  // namespace weft::worker

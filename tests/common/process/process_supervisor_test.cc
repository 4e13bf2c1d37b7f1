#include "common/process/process_supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/process/framed_socket.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr absl::Duration kPatience = absl::Seconds(60);

// What one child has done; safe to ask from the test's thread.
class Watched {
 public:
  ChildCallbacks Callbacks(bool with_output = true) {
    ChildCallbacks callbacks;
    if (with_output) {
      callbacks.on_output = [this](OutputStream stream, absl::string_view text) {
        const absl::MutexLock lock(&mutex_);
        EXPECT_FALSE(exit_.has_value()) << "output after the exit";
        absl::StrAppend(stream == OutputStream::kStdout ? &out_ : &err_, text);
      };
    }
    callbacks.on_message = [this](absl::StatusOr<std::string> message) {
      const absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(exit_.has_value()) << "a message after the exit";
      messages_.push_back(message.ok() ? *message : message.status().ToString());
    };
    callbacks.on_exit = [this](ExitStatus status) {
      const absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(exit_.has_value()) << "two exits";
      exit_ = status;
    };
    return callbacks;
  }
  ExitStatus AwaitExit() {
    const absl::MutexLock lock(&mutex_);
    const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return exit_.has_value(); };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&ended), kPatience));
    return exit_.value_or(ExitStatus{-1, -1});
  }
  std::string AwaitOutput(absl::string_view part) {
    const absl::MutexLock lock(&mutex_);
    const auto there = [this, part]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return absl::StrContains(out_, part);
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience));
    return out_;
  }
  std::string out() const {
    const absl::MutexLock lock(&mutex_);
    return out_;
  }
  std::string err() const {
    const absl::MutexLock lock(&mutex_);
    return err_;
  }
  std::vector<std::string> messages() const {
    const absl::MutexLock lock(&mutex_);
    return messages_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::string out_ ABSL_GUARDED_BY(mutex_);
  std::string err_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> messages_ ABSL_GUARDED_BY(mutex_);
  std::optional<ExitStatus> exit_ ABSL_GUARDED_BY(mutex_);
};

ChildOptions Shell(const std::string& script) {
  ChildOptions options;
  options.program = "/bin/sh";
  options.arguments = {"sh", "-c", script};
  options.environment = {"PATH=/usr/bin:/bin", "GREETING=hello"};
  return options;
}

// A zombie is dead, though nobody may have fetched its status: orphans depend on who adopts them.
bool IsAlive(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string stat;
  std::getline(file, stat);
  return !stat.empty() && !absl::StrContains(stat, ") Z");
}

bool AwaitGone(pid_t pid) {
  return weft::testing::Await([pid] { return !IsAlive(pid); }, kPatience);
}

class ProcessSupervisorTest : public ::testing::Test {
 protected:
  ProcessSupervisorTest() {
    auto supervisor = ProcessSupervisor::Create();
    EXPECT_THAT(supervisor, IsOk());
    supervisor_ = *std::move(supervisor);
  }
  ChildId Spawn(const ChildOptions& options, Watched& watched) {
    auto child = supervisor_->Spawn(options, watched.Callbacks());
    EXPECT_THAT(child, IsOk());
    return *child;
  }

  Watched watched_;  // outlives the supervisor
  std::unique_ptr<ProcessSupervisor> supervisor_;
};

TEST_F(ProcessSupervisorTest, GivesOutputEnvironmentDirectoryAndStatus) {
  const testing::TempDir directory;
  ChildOptions options = Shell("echo $GREETING; pwd; echo problem >&2; exit 7");
  options.directory = directory.path().string();
  Spawn(options, watched_);
  const ExitStatus status = watched_.AwaitExit();
  EXPECT_EQ(status.code, 7);
  EXPECT_EQ(status.ToString(), "ended with status 7");
  EXPECT_EQ(watched_.out(), absl::StrCat("hello\n", directory.path().string(), "\n"));
  EXPECT_EQ(watched_.err(), "problem\n");
}

TEST_F(ProcessSupervisorTest, NamesTheSignal) {
  Spawn(Shell("kill -SEGV $$"), watched_);
  const ExitStatus status = watched_.AwaitExit();
  EXPECT_EQ(status.signal, SIGSEGV);
  EXPECT_EQ(status.ToString(), "was killed by SIGSEGV");
  EXPECT_EQ(status.ShellCode(), 128 + SIGSEGV);
}

TEST_F(ProcessSupervisorTest, AProgramThatCannotRunIsAnErrorAndNoChild) {
  ChildOptions options = Shell("");
  options.program = "/no/such/program";
  EXPECT_THAT(supervisor_->Spawn(options, watched_.Callbacks()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/program")));
  options.program = "/etc/passwd";
  EXPECT_THAT(supervisor_->Spawn(options, watched_.Callbacks()),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(ProcessSupervisorTest, SpeaksWithTheChildOverDescriptor3) {
  // Sends back what comes: frames are bytes, and cat keeps them whole.
  ChildOptions options = Shell("exec head -c 6 <&3 >&3");
  options.with_messages = true;
  const ChildId child = Spawn(options, watched_);
  supervisor_->Send(child, "hi");
  EXPECT_TRUE(watched_.AwaitExit().ok());
  EXPECT_THAT(watched_.messages(), ElementsAre("hi"));
}

TEST_F(ProcessSupervisorTest, MessagesLargerThanTheSocketArrive) {
  ChildOptions options = Shell("head -c 4000004 <&3 | wc -c");
  options.with_messages = true;
  const ChildId child = Spawn(options, watched_);
  supervisor_->Send(child, std::string(4000000, 'x'));
  EXPECT_TRUE(watched_.AwaitExit().ok());
  EXPECT_EQ(watched_.out(), "4000004\n");
}

TEST_F(ProcessSupervisorTest, ATornMessageIsTold) {
  ChildOptions options = Shell("printf '\\11\\0\\0\\0abc' >&3");
  options.with_messages = true;
  Spawn(options, watched_);
  watched_.AwaitExit();
  EXPECT_THAT(watched_.messages(), ElementsAre(HasSubstr("DATA_LOSS")));
}

TEST_F(ProcessSupervisorTest, ALengthBeyondTheLimitIsTold) {
  ChildOptions options = Shell("printf '\\377\\377\\377\\377' >&3; echo said; sleep 100");
  options.with_messages = true;
  const ChildId child = Spawn(options, watched_);
  watched_.AwaitOutput("said");
  supervisor_->Signal(child, SIGKILL);
  watched_.AwaitExit();
  EXPECT_THAT(watched_.messages(), ElementsAre(HasSubstr("4294967295")));
}

TEST_F(ProcessSupervisorTest, TheChildHasNoDescriptorsButItsOwn) {
  Spawn(Shell("ls /proc/self/fd | wc -l"), watched_);
  watched_.AwaitExit();
  EXPECT_EQ(watched_.out(), "4\n") << "0, 1, 2, and the one that ls reads with";
}

TEST_F(ProcessSupervisorTest, ASignalReachesTheWholeGroup) {
  const ChildId child = Spawn(Shell("sleep 1000 & echo $!; wait"), watched_);
  int grandchild = 0;
  ASSERT_TRUE(absl::SimpleAtoi(watched_.AwaitOutput("\n"), &grandchild));
  ASSERT_TRUE(IsAlive(grandchild));
  supervisor_->Signal(child, SIGTERM);
  EXPECT_EQ(watched_.AwaitExit().signal, SIGTERM);
  EXPECT_TRUE(AwaitGone(grandchild));
}

TEST_F(ProcessSupervisorTest, WhatTheChildLeavesBehindIsKilledWithIt) {
  // The grandchild holds the output open: the end is noticed all the same.
  Spawn(Shell("sleep 1000 & echo $!"), watched_);
  EXPECT_TRUE(watched_.AwaitExit().ok());
  int grandchild = 0;
  ASSERT_TRUE(absl::SimpleAtoi(watched_.out(), &grandchild));
  EXPECT_TRUE(AwaitGone(grandchild));
}

TEST_F(ProcessSupervisorTest, AllOutputOfAFastChildComesBeforeItsExit) {
  Spawn(Shell("i=0; while [ $i -lt 5000 ]; do echo 0123456789; i=$((i+1)); done"), watched_);
  watched_.AwaitExit();
  EXPECT_EQ(watched_.out().size(), 5000U * 11);
}

TEST_F(ProcessSupervisorTest, ManyChildrenAtOnce) {
  std::vector<std::unique_ptr<Watched>> all;
  for (int i = 0; i < 30; ++i) {
    all.push_back(std::make_unique<Watched>());
    Spawn(Shell(absl::StrCat("exit ", i)), *all.back());
  }
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(all[static_cast<size_t>(i)]->AwaitExit().code, i);
  }
  supervisor_.reset();
}

TEST_F(ProcessSupervisorTest, ItsEndKillsTheChildren) {
  const ChildId child = Spawn(Shell("trap '' TERM; echo up; sleep 1000"), watched_);
  watched_.AwaitOutput("up");
  const pid_t pid = supervisor_->PidOf(child);
  ASSERT_TRUE(IsAlive(pid));
  supervisor_.reset();
  EXPECT_FALSE(IsAlive(pid));
}

TEST_F(ProcessSupervisorTest, AChildThatEndedIsIgnored) {
  const ChildId child = Spawn(Shell("exit 0"), watched_);
  watched_.AwaitExit();
  EXPECT_EQ(supervisor_->PidOf(child), 0);
  supervisor_->Signal(child, SIGKILL);
  supervisor_->Send(child, "nobody");
}

TEST_F(ProcessSupervisorTest, TheDeathOfOurProcessKillsTheChildren) {
  // Another process with a supervisor of its own, which is then killed.
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t other = fork();
  if (other == 0) {
    // The forked copy has one thread; a new supervisor makes its own.
    auto supervisor = ProcessSupervisor::Create();
    if (!supervisor.ok()) _exit(1);
    auto child = (*supervisor)->Spawn(Shell("exec sleep 1000"), ChildCallbacks());
    if (!child.ok()) _exit(1);
    const pid_t pid = (*supervisor)->PidOf(*child);
    if (write(ends[1], &pid, sizeof(pid)) != sizeof(pid)) _exit(1);
    while (true) pause();
  }
  pid_t grandchild = 0;
  ASSERT_EQ(read(ends[0], &grandchild, sizeof(grandchild)),
            static_cast<ssize_t>(sizeof(grandchild)));
  ASSERT_TRUE(IsAlive(grandchild));
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  EXPECT_TRUE(AwaitGone(grandchild));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace weft

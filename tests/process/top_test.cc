// `weft top` in a terminal: what keys do, and that it gives the terminal back however it ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/terminal_program.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::ProgramResult;
using weft::testing::TerminalProgram;
using weft::testing::TestCluster;

constexpr char kEntered[] = "\x1b[?1049h\x1b[?25l\x1b[2J";
constexpr char kLeft[] = "\x1b[?25h\x1b[?1049l";
constexpr char kKeyLine[] = "q: quit";  // the last thing of each frame
constexpr char kFrame[] = "\x1b[H";     // the first one

class Top : public ::testing::Test {
 protected:
  Top() {
    EXPECT_OK(cluster_.Start(1));
    Begin({"--interval", "100ms"});
  }

  static std::string Weft() { return weft::testing::ProgramDirectory() + "/weft"; }
  void Start(const std::string& program, const std::vector<std::string>& arguments) {
    top_ = std::make_unique<TerminalProgram>(
        program, arguments, std::map<std::string, std::string>{{"TERM", "xterm"}}, /*columns=*/80,
        /*rows=*/24);
  }
  // `weft top`, until it has drawn something.
  void Begin(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"top", "--address", cluster_.address()});
    Start(Weft(), arguments);
    ASSERT_TRUE(top_->AwaitDrawn(kKeyLine)) << top_->drawn();
    EXPECT_FALSE(top_->IsRestored());
  }
  // Whether the terminal is as it was before.
  void ExpectRestored() {
    EXPECT_TRUE(top_->IsRestored());
    EXPECT_THAT(top_->drawn(), EndsWith(kLeft));
  }
  // The next whole frame is drawn, and shows this text.
  bool AwaitFrame(const std::string& text) {
    top_->Forget();
    return top_->AwaitDrawn([&](const std::string& drawn) {
      const size_t end = drawn.rfind(kKeyLine);
      const size_t begin = end == std::string::npos ? end : drawn.rfind(kFrame, end);
      return begin != std::string::npos &&
             absl::StrContains(drawn.substr(begin, end - begin), text);
    });
  }

  TestCluster cluster_;
  std::unique_ptr<TerminalProgram> top_;
};

TEST_F(Top, EndsWithQAndDrawsWithoutClearing) {
  EXPECT_THAT(top_->drawn(), HasSubstr(kEntered));
  ASSERT_TRUE(AwaitFrame("w1"));
  EXPECT_THAT(top_->drawn(), Not(HasSubstr("\x1b[2J")));
  top_->Press("q");
  EXPECT_EQ(top_->AwaitEnd(), 0);
  ExpectRestored();
}

TEST_F(Top, EndsWithEscapeButNotWithArrows) {
  top_->Press("\x1b[B");
  top_->Press("\t");
  ASSERT_TRUE(top_->AwaitDrawn("tab: jobs  "));
  top_->Press("\x1b");
  EXPECT_EQ(top_->AwaitEnd(), 0);
  ExpectRestored();
}

TEST_F(Top, GivesTheTerminalBackWhenASignalEndsIt) {
  top_->Press("\x03");  // Ctrl-C
  int status = top_->AwaitEnd();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  ExpectRestored();
  for (const int signal : {SIGTERM, SIGHUP, SIGQUIT}) {
    Begin({});
    top_->Signal(signal);
    status = top_->AwaitEnd();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal << ' ' << status;
    ExpectRestored();
  }
}

TEST_F(Top, EndsWithItsTerminal) {
  top_->HangUp();
  EXPECT_NE(top_->AwaitEnd(), -1);
}

TEST_F(Top, GivesTheTerminalBackWhileItIsStopped) {
  // Only the programs of a shell with job control can be stopped by a key.
  Start("/bin/bash", {"-c", "set -m; \"$0\" \"$@\"; echo away; read -r; fg", Weft(), "top",
                      "--address", cluster_.address()});
  ASSERT_TRUE(top_->AwaitDrawn(kKeyLine));
  top_->Press("\x1a");  // Ctrl-Z
  ASSERT_TRUE(top_->AwaitDrawn("away")) << top_->drawn();
  EXPECT_TRUE(top_->IsRestored());
  EXPECT_THAT(top_->drawn(), HasSubstr(kLeft));
  top_->Forget();
  top_->Press("\n");
  EXPECT_TRUE(top_->AwaitDrawn(kEntered));
  EXPECT_TRUE(top_->AwaitDrawn(kKeyLine));
  top_->Press("q");
  EXPECT_EQ(top_->AwaitEnd(), 0);
  ExpectRestored();
}

TEST_F(Top, FillsTheTerminalAfterItChangedItsSize) {
  const auto rows = [](const std::string& drawn) {
    const size_t end = drawn.find(kKeyLine);
    const size_t begin = end == std::string::npos ? end : drawn.rfind(kFrame, end);
    if (begin == std::string::npos) return std::ptrdiff_t{0};
    return std::count(drawn.begin() + static_cast<std::ptrdiff_t>(begin),
                      drawn.begin() + static_cast<std::ptrdiff_t>(end), '\n') +
           1;
  };
  // An interval beyond the test's patience: only the new size can be why it draws.
  Begin({"--interval", "1h"});
  for (const int size : {40, 10}) {
    top_->Forget();
    top_->Resize(100, size);
    EXPECT_TRUE(top_->AwaitDrawn([&](const std::string& drawn) { return rows(drawn) == size; }))
        << top_->drawn();
  }
}

TEST_F(Top, OutlivesACoordinatorThatIsAway) {
  cluster_.Kill("coordinator", SIGTERM);
  ASSERT_TRUE(AwaitFrame("no answer from the coordinator at"));
  EXPECT_TRUE(AwaitFrame("w1"));  // what was seen last stays
  ASSERT_OK(cluster_.StartCoordinator());
  EXPECT_TRUE(top_->AwaitDrawn([](const std::string& drawn) {
    const size_t frame = drawn.rfind(kFrame);
    return frame != std::string::npos && absl::StrContains(drawn.substr(frame), kKeyLine) &&
           !absl::StrContains(drawn.substr(frame), "no answer");
  }));
  top_->Press("q");
  EXPECT_EQ(top_->AwaitEnd(), 0);
  ExpectRestored();
}

TEST_F(Top, EndsAtOnceWhileTheCoordinatorHangs) {
  kill(cluster_.PidOf("coordinator"), SIGSTOP);
  // The look that begins with this key gives up after 10 s; keys do what they do all the same.
  top_->Press("a");
  EXPECT_TRUE(top_->AwaitDrawn("a: all jobs"));
  top_->Press("q");
  EXPECT_EQ(top_->AwaitEnd(absl::Seconds(5)), 0);
  ExpectRestored();
  kill(cluster_.PidOf("coordinator"), SIGCONT);
}

TEST_F(Top, PrintsOnceWhereThereIsNoTerminal) {
  const ProgramResult once = cluster_.Cli({"top"});
  EXPECT_EQ(once.exit_code, 0) << once.errors;
  EXPECT_THAT(once.output, HasSubstr("w1"));
  EXPECT_THAT(once.output, Not(HasSubstr("\x1b")));
  const ProgramResult twice = cluster_.Cli({"top", "-n", "2", "--interval", "100ms"});
  EXPECT_EQ(twice.exit_code, 0) << twice.errors;
  const size_t first = twice.output.find("weft at ");
  EXPECT_NE(twice.output.find("weft at ", first + 1), std::string::npos);
}

TEST_F(Top, LeavesTheTerminalAloneWhenNobodyAnswers) {
  Start(Weft(), {"top", "--address", "127.0.0.1:1"});
  const int status = top_->AwaitEnd();
  EXPECT_EQ(WEXITSTATUS(status), 6);
  EXPECT_THAT(top_->drawn(), HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(top_->drawn(), Not(HasSubstr("\x1b")));
  EXPECT_TRUE(top_->IsRestored());
}

}  // namespace
}  // namespace weft

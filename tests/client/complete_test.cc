#include "client/complete.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/commands.h"
#include "client/session.h"

namespace weft::client {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

class CompleteTest : public ::testing::Test {
 protected:
  CompleteTest() {
    app_.fallthrough();
    app_.add_option("-o,--output", output_)->type_name("table|json");
    app_.add_option("--context", session_.context_flag);
    AddGet(app_, session_);
    AddWatch(app_, session_);
    AddCancel(app_, session_);
    AddSubmit(app_, session_);
    AddCompletion(app_, session_);
  }

  std::vector<std::string> Texts(const std::vector<std::string>& words) {
    std::vector<std::string> texts;
    const auto names = [](const std::string& kind) -> std::vector<std::string> {
      if (kind == "JOB") return {"demo-1", "other-2"};
      if (kind == "CONTEXT") return {"lab"};
      return {};
    };
    for (const Candidate& found : Complete(app_, words, names)) texts.push_back(found.text);
    return texts;
  }

  Session session_;
  std::string output_;
  CLI::App app_;
};

TEST_F(CompleteTest, Commands) {
  EXPECT_THAT(Texts({"wa"}), ElementsAre("watch"));
  EXPECT_THAT(Texts({"get", "wo"}), ElementsAre("workers"));
}

TEST_F(CompleteTest, Flags) {
  EXPECT_THAT(Texts({"watch", "--f"}), ElementsAre("--for"));
  EXPECT_THAT(Texts({"watch", "--"}), Contains("--output"));  // global flags may follow
  EXPECT_THAT(Texts({"watch", "--"}), Not(Contains("--watch")));
}

TEST_F(CompleteTest, ValuesOfFlags) {
  EXPECT_THAT(Texts({"get", "-o", "j"}), ElementsAre("json"));
  EXPECT_THAT(Texts({"--context", ""}), ElementsAre("lab"));
  EXPECT_THAT(Texts({"completion", ""}), ElementsAre("bash", "zsh", "fish"));
}

TEST_F(CompleteTest, NamesOfJobs) {
  EXPECT_THAT(Texts({"watch", "de"}), ElementsAre("demo-1"));
  EXPECT_THAT(Texts({"-o", "json", "get", "job", ""}), ElementsAre("demo-1", "other-2"));
  EXPECT_THAT(Texts({"watch", "demo-1", ""}), IsEmpty());
  EXPECT_THAT(Texts({"cancel", "demo-1", "o"}), ElementsAre("other-2"));  // takes several
}

TEST_F(CompleteTest, LeavesFilesToTheShell) { EXPECT_THAT(Texts({"submit", ""}), IsEmpty()); }

}  // namespace
}  // namespace weft::client

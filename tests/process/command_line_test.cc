// `weft` as a person uses it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/terminal_program.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using weft::testing::Await;
using weft::testing::ProgramResult;
using weft::testing::TerminalProgram;
using weft::testing::TestCluster;

constexpr char kTiny[] = R"(
name: small
model: {width: 16, layers: 1, mlp_width: 32, mixers: [{delta: {heads: 1}}]}
data: {text: {paths: [text]}}
training: {steps: %d, batch_size: 4, sequence_length: 16, shards: 4}
checkpoint: {every_steps: 0}
evaluation: {every_steps: 0, sequences: 4}
)";

class CommandLine : public ::testing::Test {
 protected:
  std::string WriteJob(int steps) {
    std::string path = cluster_.directory() + "/job.yaml";
    char text[1024];
    std::snprintf(text, sizeof(text), kTiny, steps);
    std::ofstream(path) << text;
    return path;
  }

  TestCluster cluster_;
};

TEST_F(CommandLine, RunsOneJobWithNothingElseRunning) {
  const ProgramResult result = cluster_.RunProgram(
      "weft",
      {"run", WriteJob(20), "--state-dir", cluster_.directory() + "/own", "--workers", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("SUCCEEDED"), HasSubstr("checkpoint at step 20")));
}

TEST_F(CommandLine, RunThatIsInterruptedShowsNoMoreProgress) {
  TerminalProgram program(
      weft::testing::ProgramDirectory() + "/weft",
      {"run", WriteJob(10'000'000), "--workers", "1", "--state-dir", cluster_.directory() + "/own"},
      {}, /*columns=*/200, /*rows=*/24);
  ASSERT_TRUE(program.AwaitDrawn("RUNNING  step ")) << program.drawn();
  program.Press("\x03");
  EXPECT_EQ(WEXITSTATUS(program.AwaitEnd(absl::Seconds(60))), 130);
  const std::string drawn = program.drawn();
  const size_t said = drawn.find("\nweft: interrupted; saving.");
  ASSERT_NE(said, std::string::npos) << drawn;
  EXPECT_THAT(drawn.substr(said), ::testing::Not(HasSubstr("step")));
}

TEST_F(CommandLine, UpSaysHowOtherCommandsFindWhatTheyWouldNotFind) {
  const std::string home = cluster_.directory() + "/home";
  const std::map<std::string, std::string> environment = {{"WEFT_STATE_DIR", home},
                                                          {"WEFT_ADDRESS", ""}};
  const auto up = [&](const std::string& state_directory) {
    TerminalProgram program(weft::testing::ProgramDirectory() + "/weft",
                            {"up", "--any-port", "--workers", "1", "--state-dir", state_directory},
                            environment,
                            /*columns=*/200, /*rows=*/24);
    EXPECT_TRUE(program.AwaitDrawn("Ctrl-C stops the cluster")) << program.drawn();
    program.Press("\x03");
    EXPECT_EQ(program.AwaitEnd(), 0);
    return program.drawn();
  };
  EXPECT_THAT(up(home + "/../elsewhere"), HasSubstr("export WEFT_ADDRESS=127.0.0.1:"));
  EXPECT_THAT(up(home), ::testing::Not(HasSubstr("WEFT_ADDRESS")));
}

TEST_F(CommandLine, UpSaysInOneLineWhyItCannotStart) {
  ASSERT_OK(cluster_.StartCoordinator());
  const auto up = [&](const std::vector<std::string>& flags, int exit_code) {
    std::vector<std::string> arguments = {"up", "--workers", "1"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const ProgramResult result = cluster_.RunProgram("weft", arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.errors;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
    return result.errors;
  };
  const std::string other = cluster_.directory() + "/other";
  EXPECT_THAT(up({"--any-port", "--state-dir", cluster_.state_directory()}, 5),
              AllOf(StartsWith("weft: state directory "), HasSubstr("is in use")));
  EXPECT_THAT(up({"--listen", cluster_.address(), "--state-dir", other}, 1),
              AllOf(StartsWith("weft: cannot listen on "), HasSubstr("is in use")));
  EXPECT_THAT(up({"--listen", "foo", "--state-dir", other}, 2),
              StartsWith("weft: listen: 'foo' is no address to listen on; allowed: "));
}

TEST_F(CommandLine, UpGoesOnWithoutAFailureWhereCtrlCStoppedIt) {
  const std::string home = cluster_.directory() + "/home";
  const std::map<std::string, std::string> environment = {{"WEFT_STATE_DIR", home},
                                                          {"WEFT_ADDRESS", ""}};
  for (const int generation : {1, 2}) {
    TerminalProgram up(
        weft::testing::ProgramDirectory() + "/weft",
        {"up", "--any-port", "--workers", "2", "--threads", "1", "--state-dir", home}, environment,
        /*columns=*/200, /*rows=*/24);
    ASSERT_TRUE(up.AwaitDrawn("Ctrl-C stops the cluster")) << up.drawn();
    if (generation == 1) {
      const std::string data = absl::StrCat("data={text: {paths: [", cluster_.text_path(), "]}}");
      EXPECT_EQ(
          cluster_.RunProgram("weft", {"submit", WriteJob(1'000'000), "--set", data}, environment)
              .exit_code,
          0);
    }
    std::string job;
    EXPECT_TRUE(weft::testing::Await([&] {
      job =
          cluster_.RunProgram("weft", {"get", "job", "small-1", "-o", "yaml"}, environment).output;
      return absl::StrContains(job, "RUNNING") &&
             absl::StrContains(job, absl::StrCat("generation: ", generation, "\n"));
    })) << job;
    EXPECT_THAT(job, ::testing::Not(HasSubstr("last_failure")));
    up.Press("\x03");
    EXPECT_EQ(up.AwaitEnd(), 0);
  }
}

TEST_F(CommandLine, SaysThatASpecIsWrongBeforeStartingAnything) {
  const std::string path = cluster_.directory() + "/job.yaml";
  std::ofstream(path)
      << "name: small\nmodel: {width: 30, layers: 1, mixers: [{delta: {heads: 4}}]}\n";
  const ProgramResult result = cluster_.RunProgram("weft", {"run", path});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("must divide model.width (30), is 4"),
                                   HasSubstr("training: is required")));
}

TEST_F(CommandLine, StartsFromAPreset) {
  const ProgramResult list = cluster_.RunProgram("weft", {"presets"});
  EXPECT_EQ(list.exit_code, 0) << list.errors;
  EXPECT_THAT(list.output, AllOf(StartsWith("NAME"), HasSubstr("deltanet-1.3b-swa")));
  const ProgramResult show = cluster_.RunProgram("weft", {"presets", "show", "deltanet-340m"});
  EXPECT_EQ(show.exit_code, 0) << show.errors;
  EXPECT_THAT(show.output, AllOf(StartsWith("# DeltaNet"), HasSubstr("mlp_width: 2816")));
  EXPECT_EQ(cluster_.RunProgram("weft", {"presets", "show", "none"}).exit_code, 3);
  const ProgramResult changed = cluster_.RunProgram(
      "weft", {"validate", "--preset", "deltanet-340m", "--set", "data={text: {paths: [/mine]}}",
               "--set", "model.vocab_size=256"});
  EXPECT_EQ(changed.exit_code, 0) << changed.errors;
  EXPECT_THAT(changed.output, AllOf(HasSubstr("/mine"), HasSubstr("vocab_size: 256")));
}

TEST_F(CommandLine, PrintsPresetsForProgramsToo) {
  const auto output = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "presets");
    return cluster_.RunProgram("weft", arguments).output;
  };
  EXPECT_THAT(output({"-o", "name"}), StartsWith("deltanet-1.3b\ndeltanet-1.3b-global\n"));
  EXPECT_THAT(output({"-o", "json"}), AllOf(StartsWith("[\n {\n  \"name\": \"deltanet-1.3b\",\n"),
                                            HasSubstr("\"what\": \"DeltaNet with ")));
  EXPECT_THAT(output({"show", "deltanet-340m", "-o", "json"}),
              AllOf(StartsWith("{\n \"name\": \"deltanet-340m\""), HasSubstr("\"width\": 1024")));
}

TEST_F(CommandLine, PrintsOneDocumentForPrograms) {
  ASSERT_OK(cluster_.Start(1));
  const std::string job = WriteJob(20);
  EXPECT_EQ(cluster_.Cli({"submit", job, "--dry-run", "-o", "name"}).output, "small\n");
  EXPECT_EQ(cluster_.Cli({"submit", job, "-w", "-o", "name"}).output, "jobs/small-1\n");
  const ProgramResult watched = cluster_.Cli({"submit", job, "-w", "-o", "json"});
  EXPECT_EQ(watched.exit_code, 0) << watched.errors;
  const auto ended = nlohmann::json::parse(watched.output, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(ended.is_object()) << watched.output;
  EXPECT_EQ(ended.value("state", ""), "STATE_SUCCEEDED");
  const ProgramResult sampled =
      cluster_.Cli({"sample", "small", "-p", "the ", "-n", "5", "-o", "json"});
  EXPECT_EQ(sampled.exit_code, 0) << sampled.errors;
  const auto sample = nlohmann::json::parse(sampled.output, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(sample.is_object()) << sampled.output;
  EXPECT_THAT(sample.value("text", ""), StartsWith("the "));
}

TEST_F(CommandLine, ValidatesWhatItHasPrinted) {
  const std::string printed = cluster_.directory() + "/printed";
  for (const char* format : {"json", "yaml"}) {
    const ProgramResult first =
        cluster_.RunProgram("weft", {"validate", WriteJob(9), "-o", format});
    std::ofstream(printed) << first.output;
    const ProgramResult again = cluster_.RunProgram("weft", {"validate", printed, "-o", format});
    EXPECT_EQ(again.exit_code, 0) << again.errors;
    EXPECT_EQ(again.output, first.output);
  }
}

TEST_F(CommandLine, GoesThroughTheLifeOfAJob) {
  ASSERT_OK(cluster_.Start(1));
  const ProgramResult dry = cluster_.Cli({"submit", WriteJob(1'000'000), "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.errors;
  const ProgramResult submitted = cluster_.Cli({"submit", WriteJob(1'000'000), "-o", "name"});
  EXPECT_EQ(submitted.exit_code, 0) << submitted.errors;
  EXPECT_EQ(submitted.output, "jobs/small-1\n");
  ASSERT_OK(cluster_.AwaitStep("jobs/small-1", 3));
  EXPECT_THAT(cluster_.Cli({"get", "jobs"}).output,
              AllOf(StartsWith("NAME"), HasSubstr("small-1")));
  EXPECT_THAT(cluster_.Cli({"get", "job", "small-1", "-o", "json"}).output,
              HasSubstr("\"name\": \"jobs/small-1\""));
  EXPECT_THAT(cluster_.Cli({"get", "workers"}).output, HasSubstr("w1"));
  EXPECT_THAT(cluster_.Cli({"get", "queues"}).output, HasSubstr("default"));
  EXPECT_THAT(cluster_.Cli({"explain", "small"}).output, HasSubstr("RUNNING"));
  EXPECT_EQ(cluster_.Cli({"pause", "small"}).exit_code, 0);
  ASSERT_OK(cluster_.AwaitState("jobs/small-1", v1::Job::STATE_PAUSED));
  EXPECT_EQ(cluster_.Cli({"pause", "small"}).exit_code, 5);
  EXPECT_EQ(cluster_.Cli({"resume", "small"}).exit_code, 0);
  ASSERT_OK(cluster_.AwaitState("jobs/small-1", v1::Job::STATE_RUNNING));
  EXPECT_EQ(cluster_.Cli({"delete", "small"}).exit_code, 5);
  EXPECT_EQ(cluster_.Cli({"cancel", "small"}).exit_code, 0);
  ASSERT_OK(cluster_.AwaitState("jobs/small-1", v1::Job::STATE_CANCELLED));
  EXPECT_THAT(cluster_.Cli({"get", "checkpoints", "small-1", "-o", "name"}).output,
              HasSubstr("jobs/small-1/checkpoints/"));
  EXPECT_EQ(cluster_.Cli({"delete", "small-1"}).exit_code, 0);
  EXPECT_EQ(cluster_.Cli({"get", "job", "small-1"}).exit_code, 3);
}

TEST_F(CommandLine, DrawsHowAJobWent) {
  ASSERT_OK(cluster_.Start(1));
  ASSERT_EQ(cluster_.Cli({"submit", WriteJob(30)}).exit_code, 0);
  ASSERT_OK(cluster_.AwaitState("jobs/small-1", v1::Job::STATE_SUCCEEDED));
  const ProgramResult drawn = cluster_.RunProgram(
      "weft", {"plot", "small"}, {{"WEFT_ADDRESS", cluster_.address()}, {"LC_ALL", "en_US.UTF-8"}});
  EXPECT_EQ(drawn.exit_code, 0) << drawn.errors;
  EXPECT_THAT(drawn.output, AllOf(HasSubstr("step 30"), HasSubstr(" loss"), HasSubstr("\xe2\xa1")));
  const std::string file = cluster_.directory() + "/loss.svg";
  EXPECT_EQ(cluster_.Cli({"plot", "small", "-o", file}).exit_code, 0);
  std::ifstream svg(file);
  const std::string text((std::istreambuf_iterator<char>(svg)), std::istreambuf_iterator<char>());
  EXPECT_THAT(text, AllOf(StartsWith("<svg "), HasSubstr("<polyline"), HasSubstr(">small-1<")));
  const std::string picture = cluster_.directory() + "/loss.png";
  EXPECT_EQ(cluster_.Cli({"plot", "small", "-o", picture}).exit_code, 0);
  std::ifstream png(picture);
  std::string signature(8, '\0');
  png.read(signature.data(), 8);
  EXPECT_EQ(signature, "\x89PNG\r\n\x1a\n");
  const ProgramResult unknown = cluster_.Cli({"plot", "small", "--metric", "beauty"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("small-1 has no 'beauty'; it has accuracy, bits_per_byte"));
  EXPECT_EQ(cluster_.Cli({"plot", "small", "-o", "loss.bmp"}).exit_code, 2);
}

TEST_F(CommandLine, ExplainsAJobThatWaitsForWorkers) {
  ASSERT_OK(cluster_.Start(1));
  v1::JobSpec spec = weft::testing::TinySpec(cluster_.text_path(), 10);
  spec.mutable_resources()->set_min_workers(3);
  spec.mutable_resources()->set_max_workers(3);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(spec));
  const ProgramResult explained = cluster_.Cli({"explain", job.name()});
  EXPECT_EQ(explained.exit_code, 0) << explained.errors;
  EXPECT_THAT(explained.output, AllOf(HasSubstr("QUEUED"), HasSubstr("needs 3"),
                                      HasSubstr("2 missing"), HasSubstr("would start now")));
}

TEST_F(CommandLine, EndsWithSixWhenNobodyAnswers) {
  const ProgramResult result =
      cluster_.RunProgram("weft", {"get", "jobs", "--address", "127.0.0.1:1"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_THAT(result.errors, HasSubstr("127.0.0.1:1"));
}

TEST_F(CommandLine, SaysWhatIsAllowedInPlaceOfWhatIsWrong) {
  const auto errors = [&](const std::vector<std::string>& arguments) {
    const ProgramResult result = cluster_.RunProgram("weft", arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    return result.errors;
  };
  EXPECT_EQ(errors({"get", "jbos"}),
            "weft: weft get must be followed by one of jobs, workers, queues, checkpoints\n");
  EXPECT_THAT(errors({"describe", "job", "a"}),
              StartsWith("weft: weft has no command describe; it has submit, "));
  EXPECT_THAT(errors({"--frobnicate"}), AllOf(HasSubstr("--frobnicate"), HasSubstr("weft --help")));
  EXPECT_THAT(errors({"plot"}), HasSubstr("weft plot --help"));
  EXPECT_EQ(
      errors({"top", "-n", "0"}),
      "weft: --count: must be a whole number of at least 1, is 0\nweft top --help says more\n");
  EXPECT_THAT(errors({"sample", "small", "--step", "-5"}),
              StartsWith("weft: --step: must be a whole number of at least 1, is -5\n"));
  EXPECT_THAT(errors({"sample", "small", "-t", "-1"}),
              StartsWith("weft: --temperature: must be a number of at least 0, is -1\n"));
  EXPECT_THAT(errors({"sample", "small", "-p", "Zo\xEB"}),
              StartsWith("weft: --prompt: must be UTF-8\n"));
  for (const char* address : {"foo", "127.0.0.1:0", "127.0.0.1:99999"}) {
    EXPECT_EQ(errors({"get", "jobs", "--address", address}),
              absl::StrCat("weft: '", address,
                           "' is no address of a coordinator; allowed: host:port, for example "
                           "127.0.0.1:7733, with a port from 1 to 65535\n"));
  }
}

TEST_F(CommandLine, EndsWhenItsOutputCannotBeWritten) {
  ASSERT_OK(cluster_.Start(1));
  ASSERT_EQ(cluster_.Cli({"submit", WriteJob(10'000'000)}).exit_code, 0);
  ASSERT_OK(cluster_.AwaitStep("jobs/small-1", 3));
  for (const char* command : {"logs -f small", "watch small", "top -n 100 --interval 100ms"}) {
    const ProgramResult piped = cluster_.Shell(
        absl::StrCat("weft ", command, " | head -1 > /dev/null; echo ${PIPESTATUS[0]}"));
    EXPECT_EQ(piped.output, "141\n") << command;  // SIGPIPE
    EXPECT_EQ(piped.errors, "") << command;
  }
  for (const char* command : {"get jobs -o json", "logs small --tail 1", "--help"}) {
    const ProgramResult full = cluster_.Shell(absl::StrCat("weft ", command, " > /dev/full"));
    EXPECT_EQ(full.exit_code, 1) << command;
    EXPECT_EQ(full.errors, "weft: cannot write to standard output: No space left on device\n")
        << command;
  }
}

TEST_F(CommandLine, RunSavesWhenItsOutputCannotBeWritten) {
  const std::string state = cluster_.directory() + "/own";
  const ProgramResult run =
      cluster_.Shell(absl::StrCat("weft run ", WriteJob(10'000'000), " --workers 1 --state-dir ",
                                  state, " | head -1 > /dev/null; echo ${PIPESTATUS[0]}"));
  EXPECT_EQ(run.output, "1\n");
  EXPECT_THAT(run.errors, HasSubstr("saving. The job small-1 goes on when a cluster runs on"));
}

TEST_F(CommandLine, FollowsAJobThroughARestartOfTheCoordinator) {
  ASSERT_OK(cluster_.Start(1));
  ASSERT_EQ(cluster_.Cli({"submit", WriteJob(10'000'000)}).exit_code, 0);
  const std::string& address = cluster_.address();
  ASSERT_OK(cluster_.StartProgram("logs", "weft",
                                  {"logs", "-f", "--bare", "small", "--address", address}));
  ASSERT_OK(cluster_.StartProgram("watch", "weft", {"watch", "small", "--address", address}));
  ASSERT_TRUE(Await([&] {
    return absl::StrContains(cluster_.OutputOf("logs"), "step 3/") &&
           absl::StrContains(cluster_.OutputOf("watch"), "  step ");
  }));
  cluster_.Kill("coordinator", SIGKILL);
  ASSERT_TRUE(Await([&] {
    return absl::StrContains(cluster_.OutputOf("watch"), "; trying again\n") &&
           absl::StrContains(cluster_.ErrorsOf("logs"), "; trying again\n");
  }));
  const std::string before = cluster_.OutputOf("logs");
  ASSERT_OK(cluster_.StartCoordinator());
  EXPECT_TRUE(Await([&] { return cluster_.OutputOf("logs").size() > before.size(); }));
  EXPECT_EQ(cluster_.Cli({"cancel", "small"}).exit_code, 0);
  EXPECT_EQ(cluster_.AwaitExit("watch", absl::Seconds(60)), 11);
  EXPECT_EQ(cluster_.AwaitExit("logs", absl::Seconds(60)), 0);
  const std::string followed = cluster_.OutputOf("logs");
  const std::string whole = cluster_.Cli({"logs", "--bare", "small"}).output;
  EXPECT_TRUE(absl::StartsWith(whole, followed)) << "a line is there twice, or not at all";
}

TEST_F(CommandLine, SaysThatAJobHasNotEndedInTime) {
  ASSERT_OK(cluster_.StartCoordinator());
  ASSERT_EQ(cluster_.Cli({"submit", WriteJob(5)}).exit_code, 0);
  const ProgramResult result = cluster_.Cli({"watch", "small", "--for", "200ms"});
  EXPECT_EQ(result.exit_code, 12);
  EXPECT_EQ(result.errors, "weft: small-1 has not ended after 200ms; it is QUEUED\n");
}

TEST_F(CommandLine, FindsJobsOfASpecWhoseNameEndsWithANumber) {
  ASSERT_OK(cluster_.StartCoordinator());
  const auto submit = [&](const std::string& name) {
    return cluster_.Cli({"submit", WriteJob(5), "--set", "name=" + name, "-o", "name"}).output;
  };
  const auto found = [&](const std::string& text) {
    return cluster_.Cli({"get", "job", text, "-o", "name"}).output;
  };
  EXPECT_EQ(submit("exp-2"), "jobs/exp-2-1\n");
  EXPECT_EQ(found("exp-2"), "jobs/exp-2-1\n");
  EXPECT_EQ(found("exp-2-1"), "jobs/exp-2-1\n");
  EXPECT_EQ(cluster_.Cli({"get", "job", "jobs/exp-2"}).exit_code, 3);
  EXPECT_EQ(submit("exp"), "jobs/exp-2\n");
  EXPECT_EQ(found("exp-2"), "jobs/exp-2\n");  // an id comes before a name
}

TEST_F(CommandLine, UpdatesAQueueOnlyToALimitThatIsGiven) {
  ASSERT_OK(cluster_.StartCoordinator());
  ASSERT_EQ(cluster_.Cli({"create-queue", "small", "--max-workers", "3"}).exit_code, 0);
  const ProgramResult without = cluster_.Cli({"update-queue", "small"});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_THAT(without.errors, HasSubstr("--max-workers is required"));
  EXPECT_THAT(cluster_.Cli({"get", "queue", "small", "-o", "json"}).output,
              HasSubstr("\"max_workers\": 3"));
  EXPECT_EQ(cluster_.Cli({"update-queue", "small", "--max-workers", "0"}).exit_code, 0);
  EXPECT_THAT(cluster_.Cli({"get", "queue", "small", "-o", "json"}).output,
              ::testing::Not(HasSubstr("max_workers")));
}

TEST_F(CommandLine, KnowsNothingOfJobsThatAreNotThere) {
  ASSERT_OK(cluster_.StartCoordinator());
  for (const char* verb : {"cancel", "watch", "logs", "explain"}) {
    EXPECT_EQ(cluster_.Cli({verb, "none-7"}).exit_code, 3) << verb;
    EXPECT_EQ(cluster_.Cli({verb, "none"}).exit_code, 3) << verb;
  }
}

}  // namespace
}  // namespace weft

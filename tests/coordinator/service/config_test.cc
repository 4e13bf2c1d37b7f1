#include "coordinator/service/config.h"

#include <filesystem>
#include <map>

#include "tests/testing/status_matchers.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

ConfigSource Source(std::vector<std::pair<std::string, std::string>> values) {
  return {.origin = "test", .values = std::move(values)};
}

const ConfigSource kState = Source({{"state_dir", "/state"}});

TEST(ConfigTest, LaterSourcesOverrideEarlierOnes) {
  ASSERT_OK_AND_ASSIGN(const ConfigSource file,
                       ParseConfigFile("f.yaml",
                                       "listen: 0.0.0.0:1\nheartbeat_timeout: 7s\n"
                                       "max_queued_jobs: 5\n"));
  const std::map<std::string, std::string> variables = {
      {"WEFT_COORDINATOR_HEARTBEAT_TIMEOUT", "8s"},
      {"WEFT_COORDINATOR_MAX_QUEUED_JOBS", "6"},
      {"WEFT_LOG_LEVEL", "debug"},
      {"HOME", "/home/ada"}};
  const Environment environment = [&variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  ASSERT_OK_AND_ASSIGN(const CoordinatorConfig config,
                       MakeConfig({DefaultsFor(environment), file, ReadEnvironment(environment),
                                   Source({{"max_queued_jobs", "7"}})}));
  EXPECT_EQ(config.listen, "0.0.0.0:1");
  EXPECT_EQ(config.policy.heartbeat_timeout, absl::Seconds(8));
  EXPECT_EQ(config.policy.max_queued_jobs, 7);
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.state_dir, "/home/ada/.local/state/weft");
  EXPECT_EQ(config.checkpoint_root, "/home/ada/.local/state/weft/checkpoints");
}

// The workers are told the checkpoint root, and have folders of their own.
TEST(ConfigTest, FoldersAreAbsolute) {
  const std::string here = std::filesystem::current_path().string();
  ASSERT_OK_AND_ASSIGN(CoordinatorConfig config, MakeConfig({Source({{"state_dir", "./state"}})}));
  EXPECT_EQ(config.state_dir, here + "/state");
  EXPECT_EQ(config.checkpoint_root, here + "/state/checkpoints");
  EXPECT_EQ(config.log_root, here + "/state/logs");
  ASSERT_OK_AND_ASSIGN(config, MakeConfig({kState, Source({{"checkpoint_root", "points"}})}));
  EXPECT_EQ(config.checkpoint_root, here + "/points");
}

TEST(ConfigTest, TlsFilesHaveNamesOfTheirOwn) {
  ASSERT_OK_AND_ASSIGN(
      const CoordinatorConfig config,
      MakeConfig({kState, Source({{"tls_cert", "c"}, {"tls_key", "k"}, {"tls_client_ca", "a"}})}));
  EXPECT_EQ(config.tls.cert, "c");
  EXPECT_EQ(config.tls.key, "k");
  EXPECT_EQ(config.tls.ca, "a");
  EXPECT_EQ(config.tls.ca_name, "tls_client_ca") << "so errors name the setting";
  EXPECT_EQ(VariableOf("tls_client_ca"), "WEFT_COORDINATOR_TLS_CLIENT_CA");
}

TEST(ConfigTest, AllProblemsAreToldAtOnceWithTheirOrigin) {
  const auto config = MakeConfig({kState, Source({{"heartbeat_timout", "5s"},
                                                  {"heartbeat_interval", "5"},
                                                  {"listen", "nonsense"},
                                                  {"log_level", "loud"},
                                                  {"max_queued_jobs", "many"},
                                                  {"log_megabytes_per_job", "0"}})});
  EXPECT_THAT(config, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("test: there is no setting 'heartbeat_timout'"),
                                     HasSubstr("heartbeat_interval: '5'; allowed: a duration"),
                                     HasSubstr("listen: 'nonsense'"), HasSubstr("'loud'"),
                                     HasSubstr("max_queued_jobs: 'many'"),
                                     HasSubstr("log_megabytes_per_job: allowed: 1"))));
}

TEST(ConfigTest, APolicyThatCannotWorkIsRefused) {
  EXPECT_THAT(MakeConfig({kState, Source({{"heartbeat_timeout", "1s"}})}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heartbeat_timeout")));
}

TEST(ConfigTest, SettingsOfASharedDatabaseFitTogether) {
  EXPECT_THAT(MakeConfig({kState, Source({{"postgres_password_file", "/secret"}})}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("postgres_password_file: is for postgres")));
  EXPECT_THAT(
      MakeConfig({kState, Source({{"leader_lease", "500ms"}})}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("leader_lease: allowed: 1s to 10m")));
  EXPECT_THAT(MakeConfig({kState, Source({{"postgres", "host=db"},
                                          {"postgres_password_file", "/secret"},
                                          {"leader_lease", "5s"}})}),
              IsOk());
}

TEST(ConfigTest, FilesThatAreNoneAreRefusedWithTheLine) {
  EXPECT_THAT(ParseConfigFile("f.yaml", "listen: a:1\nlisten: b:2\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f.yaml, line 2: listen is given twice")));
  EXPECT_THAT(ParseConfigFile("f.yaml", "listen:\n  - a:1\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 1: listen")));
  EXPECT_THAT(ParseConfigFile("f.yaml", "just text"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseConfigFile("f.yaml", "a: [1"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseConfigFile("f.yaml", ""), IsOk());
}

TEST(ConfigTest, WhatIsPrintedCanBeRead) {
  ASSERT_OK_AND_ASSIGN(
      const CoordinatorConfig config,
      MakeConfig({kState, Source({{"save_timeout", "90s"}, {"checkpoint_root", "/c: d"}})}));
  ASSERT_OK_AND_ASSIGN(const ConfigSource printed, ParseConfigFile("printed", ToYaml(config)));
  EXPECT_EQ(printed.values.size(), AllSettings().size());
  ASSERT_OK_AND_ASSIGN(const CoordinatorConfig read, MakeConfig({printed}));
  EXPECT_EQ(ToYaml(read), ToYaml(config));
  EXPECT_EQ(read.policy.save_timeout, absl::Seconds(90));
}

}  // namespace
}  // namespace weft::coordinator

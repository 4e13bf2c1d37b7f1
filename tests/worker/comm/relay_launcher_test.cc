#include "worker/relay/relay_launcher.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "worker/comm/relay_channel.h"

namespace weft::worker {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using ::testing::Not;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempDir;

void WriteProgram(const fs::path& path, const std::string& script) {
  std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
  fs::permissions(path, fs::perms::owner_all);
}

class ProgramsOfRelays : public ::testing::Test {
 protected:
  // A machine with all that is needed; `version` is what its mpirun prints.
  void Install(const std::string& version) {
    WriteProgram(folder_.path() / "mpirun", "echo '" + version + "'");
    for (const char* name : {"orted", "weft-relay", "weft-rsh"}) {
      WriteProgram(folder_.path() / name, "exit 0");
    }
  }
  absl::StatusOr<RelayPrograms> Find() {
    return FindRelayPrograms(folder_.path(), folder_.path().string());
  }

  TempDir folder_;
};

TEST_F(ProgramsOfRelays, OnAMachineWithOpenMpi4AreFound) {
  Install("mpirun (Open MPI) 4.1.4");
  const auto programs = Find();
  ASSERT_THAT(programs, IsOk());
  EXPECT_EQ(programs->mpirun, (folder_.path() / "mpirun").string());
  EXPECT_EQ(programs->rsh, (folder_.path() / "weft-rsh").string());
}

TEST_F(ProgramsOfRelays, ThatLackOneAreRefusedByItsName) {
  for (const char* missing : {"mpirun", "orted", "weft-relay", "weft-rsh"}) {
    Install("mpirun (Open MPI) 4.1.4");
    fs::remove(folder_.path() / missing);
    EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(missing)));
  }
}

TEST_F(ProgramsOfRelays, OfAnotherMpiAreRefusedByItsVersion) {
  Install("mpirun (Open MPI) 5.0.7");
  EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("Open MPI 5.0.7")));
  Install("HYDRA build details:");
  EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("HYDRA")));
  WriteProgram(folder_.path() / "mpirun", "exit 3");
  EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not that of")));
}

class Launching : public ::testing::Test {
 protected:
  Launching()
      : launcher_({{"/usr/bin/mpirun", "/opt/a b/weft-relay", "/opt/a b/weft-rsh"},
                   "/run/agent.sock",
                   scratch_.path(),
                   "10.0.0.0/8"}) {}

  RelaySiteOptions Site(int64_t generation) {
    RelaySiteOptions options;
    options.job = "job-1";
    options.generation = Generation(generation);
    options.hosts = 2;
    options.ranks = 2;
    options.relay_program = "/opt/weft/weft-relay";
    options.scratch = scratch_.path();
    return options;
  }

  TempDir scratch_;
  RelayLauncher launcher_;
};

TEST_F(Launching, MpirunReachesEveryHostByAnAliasThroughOurShell) {
  const RelayGang gang = {"job-1", Generation(3), 3, "secret"};
  const auto line =
      launcher_.Mpirun(gang, {"PATH=/usr/bin", "LANG=C", "OMPI_MCA_plm=slurm", "SLURM_JOB_ID=1",
                              "TMPDIR=/elsewhere", "WEFT_AGENT_SOCKET=/old"});
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(line->program, "/usr/bin/mpirun");
  EXPECT_THAT(line->arguments, Contains("3"));
  EXPECT_THAT(line->arguments, Contains(AllOf(HasSubstr("h0:1,"), HasSubstr("h2:1"))));
  EXPECT_THAT(line->arguments, Contains("10.0.0.0/8").Times(2));
  // The folder with the space is in PATH, the shell goes by its bare name.
  EXPECT_THAT(line->arguments, Contains("weft-rsh"));
  EXPECT_THAT(line->environment, Contains("PATH=/opt/a b:/usr/bin"));
  EXPECT_THAT(line->environment, Contains("LANG=C"));
  EXPECT_THAT(line->environment, Contains("WEFT_AGENT_SOCKET=/run/agent.sock"));
  EXPECT_THAT(line->environment, Contains("WEFT_GANG_TOKEN=secret"));
  EXPECT_THAT(line->environment, Not(Contains(HasSubstr("slurm"))));
  EXPECT_THAT(line->environment, Not(Contains(StartsWith("SLURM_"))));
  EXPECT_THAT(line->environment, Not(Contains("TMPDIR=/elsewhere")));
  EXPECT_THAT(line->environment, Not(Contains("WEFT_AGENT_SOCKET=/old")));
  launcher_.RemoveScratch(gang);
  EXPECT_TRUE(fs::is_empty(scratch_.path()));
}

TEST_F(Launching, AGangOfOneHostOrWithoutATokenIsRefused) {
  EXPECT_THAT(launcher_.Mpirun({"job-1", Generation(3), 1, "secret"}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(launcher_.Mpirun({"job-1", Generation(3), 2, ""}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(MemberIndexOf, UnderstandsAliasesAndNothingElse) {
  EXPECT_EQ(MemberIndexOf("weft-h0"), 0);
  EXPECT_EQ(MemberIndexOf("gang-h12"), 12);
  for (const char* other :
       {"", "weft-h", "weft-h-1", "weft-h1x", "localhost", "weft-h 1", "weft-h99999999999", "h1"}) {
    EXPECT_EQ(MemberIndexOf(other), std::nullopt) << other;
  }
}

TEST_F(Launching, ASiteHasItsMemoryAndFolderForItsLifeOnly) {
  std::string channel;
  {
    const auto site = RelaySite::Create(Site(4));
    ASSERT_THAT(site, IsOk());
    channel = (*site)->channel_name();
    EXPECT_THAT(RelayChannel::Open(channel), IsOk());
    EXPECT_FALSE(fs::is_empty(scratch_.path()));
    const CommandLine line = (*site)->Shell("orted \"x\"", {"PATH=/usr/bin"});
    EXPECT_THAT(line.arguments, ::testing::ElementsAre("sh", "-c", "orted \"x\""));
    EXPECT_THAT(line.environment, Contains("WEFT_RELAY_CHANNEL=" + channel));
    EXPECT_THAT(line.environment, Contains("WEFT_RELAY_PROGRAM=/opt/weft/weft-relay"));
    // The same generation again, while the first is here.
    EXPECT_THAT(RelaySite::Create(Site(4)), StatusIs(absl::StatusCode::kAlreadyExists));
    // The refusal has taken nothing away.
    EXPECT_THAT(RelayChannel::Open(channel), IsOk());
    EXPECT_THAT(RelaySite::Create(Site(5)), IsOk());
  }
  EXPECT_THAT(RelayChannel::Open(channel), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(fs::is_empty(scratch_.path()));
}

TEST_F(Launching, TheEndOfASiteTellsWhoStillListens) {
  auto site = RelaySite::Create(Site(1));
  ASSERT_THAT(site, IsOk());
  const auto rank = RelayChannel::Open((*site)->channel_name());
  ASSERT_THAT(rank, IsOk());
  *site = nullptr;
  EXPECT_THAT((*rank)->AbortStatus(),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("the generation has ended")));
}

// A living site's name, with the start time of an earlier process that had our pid.
std::string NameOfTheDead(const std::string& living) {
  std::string dead;
  int dots = 0;
  for (const char c : living) {
    dead.push_back(c);
    if (c == '.' && ++dots == 3) dead.push_back('1');
  }
  return dead;
}

TEST_F(Launching, LeftoversAreRemovedAndTheLivingKept) {
  const auto alive = RelaySite::Create(Site(1));
  ASSERT_THAT(alive, IsOk());
  const std::string name = (*alive)->channel_name();
  const std::string dead = NameOfTheDead(name);
  RelayChannelOptions options;
  ASSERT_OK_AND_ASSIGN(const auto other, RelayChannel::Create(dead, options));
  TempDir empty;
  ASSERT_OK(RelaySite::RemoveLeftovers(empty.path()));
  EXPECT_THAT(RelayChannel::Open(dead), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(RelayChannel::Open(name), IsOk());
  fs::create_directory(empty.path() / "relay-old");
  fs::create_directory(empty.path() / "not ours");
  ASSERT_OK(RelaySite::RemoveLeftovers(empty.path()));
  EXPECT_FALSE(fs::exists(empty.path() / "relay-old"));
  EXPECT_TRUE(fs::exists(empty.path() / "not ours"));
  EXPECT_THAT(RelaySite::RemoveLeftovers(empty.path() / "never made"), IsOk());
}

TEST_F(Launching, SharedMemoryThatCannotBeRemovedIsInNobodysWay) {
  std::string dead;
  {
    const auto alive = RelaySite::Create(Site(1));
    ASSERT_THAT(alive, IsOk());
    dead = NameOfTheDead((*alive)->channel_name());
  }
  // Stands for another user's: a folder cannot be unlinked, not even by root.
  const fs::path segment = fs::path("/dev/shm") / dead.substr(1);
  ASSERT_TRUE(fs::create_directory(segment));
  TempDir scratch;
  fs::create_directory(scratch.path() / "relay-old");
  EXPECT_THAT(RelaySite::RemoveLeftovers(scratch.path()), IsOk());
  EXPECT_FALSE(fs::exists(scratch.path() / "relay-old")) << "the rest is done";
  EXPECT_TRUE(fs::exists(segment));
  fs::remove(segment);
}

}  // namespace
}  // namespace weft::worker

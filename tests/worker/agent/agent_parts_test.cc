// The small parts of the agent: lines, spool, devices, names, options, locks, buffers.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/exit_codes.h"
#include "common/process/file_descriptor.h"
#include "common/process/process_supervisor.h"
#include "tests/simulation/sim_loop.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "worker/agent/agent_messages.h"
#include "worker/agent/backoff.h"
#include "worker/agent/exit_gate.h"
#include "worker/agent/host_devices.h"
#include "worker/agent/leftovers.h"
#include "worker/agent/line_splitter.h"
#include "worker/agent/log_shipper.h"
#include "worker/agent/log_spool.h"
#include "worker/agent/step_buffer.h"
#include "worker/agent/worker_options.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using weft::testing::IsOk;
using weft::testing::IsOkAndHolds;
using weft::testing::StatusIs;
using weft::testing::TempDir;

// --- lines --------------------------------------------------------------------------------------

TEST(LineSplitterTest, CutsAtLineEndsWhereverThePiecesEnd) {
  LineSplitter splitter;
  EXPECT_THAT(splitter.Append("one\ntw"), ElementsAre("one"));
  EXPECT_THAT(splitter.Append("o\r\n\nthr"), ElementsAre("two", ""));
  EXPECT_THAT(splitter.Finish(), ElementsAre("thr"));
  EXPECT_THAT(splitter.Finish(), IsEmpty());
}

TEST(LineSplitterTest, CutsEndlessLines) {
  LineSplitter splitter;
  EXPECT_THAT(splitter.Append(std::string(kMaxLineBytes * 2 + 1, 'x')),
              ElementsAre(SizeIs(kMaxLineBytes), SizeIs(kMaxLineBytes)));
  EXPECT_THAT(splitter.Append("\n"), ElementsAre("x"));
}

TEST(LineSplitterTest, LinesAreValidUtf8) {
  LineSplitter splitter;
  EXPECT_THAT(splitter.Append("x\xFFy\n"), ElementsAre("x\xEF\xBF\xBDy"));
}

// --- the spool ----------------------------------------------------------------------------------

constexpr int64_t kManyBytes = int64_t{1} << 20;

SpooledLine Line(const std::string& text) {
  return SpooledLine{absl::FromUnixSeconds(1000), 0, 1, text};
}

std::vector<std::string> Texts(const LogSpool::Batch& batch) {
  std::vector<std::string> texts;
  for (const SpooledLine& line : batch.lines) texts.push_back(line.text);
  return texts;
}

std::unique_ptr<LogSpool> OpenSpool(const TempDir& directory, SpoolLimits limits = {}) {
  auto spool = LogSpool::Open(directory.path() / "logs", limits);
  EXPECT_THAT(spool, IsOk());
  return *std::move(spool);
}

// Whether a thread of ours waits for something.
bool Waits(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  std::string number;
  std::string name;  // of this test: without spaces
  std::string state;
  file >> number >> name >> state;
  return state == "S";
}

TEST(LogSpoolTest, GivesBackWhatWasWrittenAlsoAfterARestart) {
  const TempDir directory;
  auto spool = OpenSpool(directory);
  const SpooledLine line{absl::FromUnixMicros(1234567), 3, 2, "with  spaces "};
  spool->Append("demo-1", line);
  spool->Append("demo-1", Line(""));
  spool = OpenSpool(directory);
  spool->Append("demo-1", Line("later"));
  const LogSpool::Batch batch = spool->Read("demo-1", 0, kManyBytes);
  EXPECT_EQ(batch.first, 0);
  EXPECT_THAT(Texts(batch), ElementsAre("with  spaces ", "", "later"));
  EXPECT_EQ(batch.lines[0].time, line.time);
  EXPECT_EQ(batch.lines[0].rank, 3);
  EXPECT_EQ(batch.lines[0].generation, 2);
  EXPECT_EQ(spool->End("demo-1"), 3);
  EXPECT_THAT(Texts(spool->Read("demo-1", 2, kManyBytes)), ElementsAre("later"));
  EXPECT_THAT(spool->Read("demo-1", 3, kManyBytes).lines, IsEmpty());
  EXPECT_THAT(spool->Read("other-2", 0, kManyBytes).lines, IsEmpty());
}

TEST(LogSpoolTest, ATornLastLineIsForgotten) {
  const TempDir directory;
  OpenSpool(directory)->Append("demo-1", Line("whole"));
  std::ofstream(directory.path() / "logs/demo-1/000000000000.log", std::ios::app) << "1000 0 1 to";
  auto spool = OpenSpool(directory);
  EXPECT_EQ(spool->End("demo-1"), 1);
  spool->Append("demo-1", Line("next"));
  EXPECT_THAT(Texts(spool->Read("demo-1", 0, kManyBytes)), ElementsAre("whole", "next"));
}

TEST(LogSpoolTest, AFullJobLosesItsOldestLinesAndSaysSo) {
  const TempDir directory;
  SpoolLimits limits;
  limits.segment_bytes = 1000;
  limits.job_bytes = 5000;
  auto spool = OpenSpool(directory, limits);
  for (int i = 0; i < 1000; ++i) spool->Append("demo-1", Line(absl::StrCat("line ", i)));
  EXPECT_LE(spool->bytes(), 5000 + 100);
  EXPECT_EQ(spool->End("demo-1"), 1000) << "numbers go on";
  const LogSpool::Batch batch = spool->Read("demo-1", 0, kManyBytes);
  ASSERT_GE(batch.lines.size(), 2U);
  EXPECT_THAT(batch.lines[0].text, HasSubstr("lines are missing here"));
  EXPECT_EQ(batch.lines[1].text, absl::StrCat("line ", batch.first + 1));
  EXPECT_THAT(batch.lines[0].text, HasSubstr(absl::StrCat(batch.first + 1, " lines")));
  EXPECT_LE(batch.lines[0].time, batch.lines[1].time);
  EXPECT_GT(spool->dropped_lines(), 0);
}

TEST(LogSpoolTest, ReadsInBoundedBatchesThatFollowOneAnother) {
  const TempDir directory;
  SpoolLimits limits;
  limits.segment_bytes = 700;
  auto spool = OpenSpool(directory, limits);
  for (int i = 0; i < 100; ++i) spool->Append("demo-1", Line(absl::StrCat("line ", i)));
  std::vector<std::string> all;
  while (true) {
    const LogSpool::Batch batch =
        spool->Read("demo-1", static_cast<int64_t>(all.size()), /*max_bytes=*/200);
    if (batch.lines.empty()) break;
    ASSERT_EQ(batch.first, static_cast<int64_t>(all.size()));
    for (const std::string& text : Texts(batch)) all.push_back(text);
  }
  ASSERT_THAT(all, SizeIs(100));
  EXPECT_EQ(all[57], "line 57");
}

TEST(LogSpoolTest, SweepsIdleJobsOnly) {
  const TempDir directory;
  auto spool = OpenSpool(directory);
  spool->Append("old-1", Line("x"));
  spool->Append("running-2", Line("x"));
  spool->Sweep({"running-2"}, absl::Now() + absl::Hours(1));
  EXPECT_THAT(spool->Jobs(), ElementsAre("running-2"));
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "logs/old-1"));
  spool->Append("new-3", Line("x"));
  spool->Sweep({}, absl::Now() - absl::Hours(1));
  EXPECT_THAT(spool->Jobs(), SizeIs(2)) << "written to since";
}

TEST(LogSpoolTest, NumbersGoOnWhenAJobThatWasSweptPrintsAgain) {
  const TempDir directory;
  auto spool = OpenSpool(directory);
  for (const char* text : {"a", "b", "c"}) spool->Append("demo-1", Line(text));
  for (const char* text : {"d", "e"}) {
    spool->Sweep({}, absl::InfiniteFuture());
    EXPECT_THAT(spool->Jobs(), IsEmpty());
    const int64_t end = spool->End("demo-1");
    spool->Append("demo-1", Line(text));
    EXPECT_THAT(Texts(spool->Read("demo-1", end, kManyBytes)), ElementsAre(text));
  }
  EXPECT_EQ(spool->End("demo-1"), 5);
  EXPECT_THAT(Texts(OpenSpool(directory)->Read("demo-1", 4, kManyBytes)), ElementsAre("e"));
}

TEST(LogSpoolTest, SweepsTheOldestWhenAllTogetherAreTooMuch) {
  const TempDir directory;
  SpoolLimits limits;
  limits.total_bytes = 100;
  auto spool = OpenSpool(directory, limits);
  spool->Append("a-1", Line(std::string(80, 'x')));
  spool->Append("b-2", Line(std::string(80, 'x')));
  spool->Sweep({}, absl::InfinitePast());
  EXPECT_THAT(spool->Jobs(), ElementsAre("b-2"));
}

TEST(LogSpoolTest, LinesThatCannotBeWrittenAreCountedAndNamedLater) {
  const TempDir directory;
  auto spool = OpenSpool(directory);
  // A file where the job's folder should be: nothing can be written, root or not.
  std::ofstream(directory.path() / "logs/demo-1") << "in the way";
  spool->Append("demo-1", Line("lost"));
  spool->Append("demo-1", Line("lost too"));
  EXPECT_EQ(spool->dropped_lines(), 2);
  std::filesystem::remove(directory.path() / "logs/demo-1");
  spool->Append("demo-1", Line("found"));
  EXPECT_THAT(Texts(spool->Read("demo-1", 0, kManyBytes)),
              ElementsAre(HasSubstr("2 lines were lost"), "found"));
}

// The agent's loop asks for the numbers; a disk that does not answer must not silence it.
TEST(LogSpoolTest, ItsNumbersCanBeReadWhileTheDiskStands) {
  const TempDir directory;
  auto spool = OpenSpool(directory);
  spool->Append("demo-1", Line("x"));
  const int64_t bytes = spool->bytes();
  // A full pipe stands for the file on such a disk.
  const std::string path = (directory.path() / "logs/slow-2/000000000000.log").string();
  std::filesystem::create_directory(directory.path() / "logs/slow-2");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const FileDescriptor pipe(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(pipe.is_open());
  std::array<char, 4096> block{};
  int blocks = 0;
  while (write(pipe.get(), block.data(), block.size()) > 0) ++blocks;

  std::atomic<pid_t> writer_id = 0;
  std::thread writer([&] {
    writer_id = static_cast<pid_t>(syscall(SYS_gettid));
    spool->Append("slow-2", Line("y"));
  });
  EXPECT_TRUE(weft::testing::Await([&] { return writer_id != 0 && Waits(writer_id); }));
  std::atomic<int64_t> read = -1;
  std::thread reader([&] { read = spool->bytes() + spool->dropped_lines(); });
  EXPECT_TRUE(weft::testing::Await([&] { return read == bytes; }));
  for (; blocks > 0; --blocks) {
    EXPECT_GT(::read(pipe.get(), block.data(), block.size()), 0);
  }
  writer.join();
  reader.join();
  EXPECT_GT(spool->bytes(), bytes);
}

// --- the shipper, with a coordinator that stores what comes ------------------------------------

class LogShipperTest : public ::testing::Test {
 protected:
  void Run(absl::Duration time) {
    const absl::Time end = schedule_.Now() + time;
    while (schedule_.RunNext(end)) {
    }
  }
  void Take(const v1::LogBatch& batch) {
    if (!stores_) return;
    for (const v1::LogLine& line : batch.lines()) stored_.push_back(line.text());
    shipper_.OnStored(std::string(absl::StripPrefix(batch.job(), "jobs/")),
                      batch.first() + batch.lines_size());
  }

  const TempDir directory_;
  simulation::SimSchedule schedule_;
  simulation::SimLoop loop_{schedule_, [] { return absl::ZeroDuration(); }};
  std::unique_ptr<LogSpool> spool_ = OpenSpool(directory_);
  bool stores_ = true;
  std::vector<std::string> stored_;
  LogShipper shipper_{"a", loop_, *spool_, [this](v1::LogBatch batch) { Take(batch); }};
};

TEST_F(LogShipperTest, WhatAJobPrintsAfterItWasSweptIsSent) {
  shipper_.OnConnected();
  for (const char* text : {"a", "b", "c"}) spool_->Append("demo-1", Line(text));
  Run(absl::Seconds(1));
  spool_->Sweep({}, absl::InfiniteFuture());
  spool_->Append("demo-1", Line("d"));
  Run(absl::Seconds(1));
  EXPECT_THAT(stored_, ElementsAre("a", "b", "c", "d"));
  EXPECT_TRUE(shipper_.idle());
}

// --- ends wait for their lines ----------------------------------------------------------------

class ExitGateTest : public LogShipperTest {
 protected:
  ExitGateTest() {
    shipper_.OnConnected();
    Run(absl::Seconds(1));
  }
  static Report Exit(int64_t id) {
    ExitReport exit;
    exit.key = MemberKey{"jobs/demo-1", Generation(1)};
    return {ReportId(id), exit};
  }

  std::vector<int64_t> sent_;
  ExitGate gate_{loop_, shipper_, [this](const Report& exit) { sent_.push_back(exit.id.value()); }};
};

TEST_F(ExitGateTest, TheEndOfASilentMemberIsToldAtOnce) {
  gate_.Send(Exit(1));
  EXPECT_THAT(sent_, ElementsAre(1));
  gate_.Send(Exit(1));
  EXPECT_THAT(sent_, ElementsAre(1, 1)) << "not acknowledged";
  stores_ = false;
  spool_->Append("other-2", Line("of another job"));
  gate_.Send(Exit(2));
  Run(absl::ZeroDuration());
  EXPECT_THAT(sent_, ElementsAre(1, 1, 2));
}

TEST_F(ExitGateTest, LinesAreSentWithoutDelayAndStoredBeforeTheEndIsTold) {
  spool_->Append("demo-1", Line("the cause"));
  gate_.Send(Exit(1));
  gate_.Send(Exit(1));
  EXPECT_TRUE(gate_.Holds(ReportId(1)));
  EXPECT_THAT(sent_, IsEmpty());
  Run(absl::ZeroDuration());
  EXPECT_THAT(stored_, ElementsAre("the cause"));
  EXPECT_FALSE(gate_.Holds(ReportId(1)));
  EXPECT_THAT(sent_, ElementsAre(1)) << "once";
}

TEST_F(ExitGateTest, AnEndIsToldAlsoWhenItsLinesCannotBeStored) {
  stores_ = false;
  spool_->Append("demo-1", Line("the cause"));
  gate_.Send(Exit(1));
  Run(ExitGate::kLongestHold - absl::Milliseconds(1));
  EXPECT_THAT(sent_, IsEmpty());
  Run(absl::Milliseconds(1));
  EXPECT_THAT(sent_, ElementsAre(1));
  stores_ = true;
  Run(absl::Minutes(1));
  EXPECT_THAT(stored_, ElementsAre("the cause"));
  EXPECT_THAT(sent_, ElementsAre(1));
}

// --- devices ------------------------------------------------------------------------------------

TEST(HostDevicesTest, ReadsMemoryModelAndTheLimitsOfCgroups) {
  const TempDir root;
  const auto write = [&root](const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root.path() / path).parent_path());
    std::ofstream(root.path() / path) << text;
  };
  write("proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\n");
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A Fast One\n");
  write("proc/self/cgroup", "0::/pods/pod7\n");
  write("sys/fs/cgroup/pods/cpu.max", "100000 100000\n");
  write("sys/fs/cgroup/pods/pod7/memory.max", "1000000000\n");
  write("sys/fs/cgroup/pods/pod7/cpu.max", "max 100000\n");
  const HostResources host = FindHostResources(root.path().string() + "/");
  EXPECT_EQ(host.cores, 1);
  EXPECT_EQ(host.memory_bytes, 1000000000);
  EXPECT_EQ(host.cpu_model, "A Fast One");
}

TEST(HostDevicesTest, TheRealMachineHasCoresAndMemory) {
  const HostResources host = FindHostResources();
  EXPECT_GE(host.cores, 1);
  EXPECT_GT(host.memory_bytes, int64_t{64} << 20);
}

TEST(HostDevicesTest, CutsThreadsEvenly) {
  const HostResources host{8, 1000, "m"};
  auto devices = CutIntoDevices(host, 3, 0, "cpu-x");
  ASSERT_THAT(devices, IsOk());
  ASSERT_THAT(*devices, SizeIs(3));
  EXPECT_EQ((*devices)[0].threads(), 3);
  EXPECT_EQ((*devices)[1].threads(), 3);
  EXPECT_EQ((*devices)[2].threads(), 2);
  EXPECT_EQ((*devices)[2].index(), 2);
  EXPECT_EQ((*devices)[2].memory_bytes(), 333);
  EXPECT_THAT(CutIntoDevices(host, 3, 2, "cpu-x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CutIntoDevices(host, 0, 2, "cpu-x"), StatusIs(absl::StatusCode::kInvalidArgument));
}

// --- names and options --------------------------------------------------------------------------

TEST(WorkerOptionsTest, MakesANameOfAnyHostName) {
  EXPECT_EQ(WorkerNameOf("Node7.Example.org"), "node7-example-org");
  EXPECT_EQ(WorkerNameOf("7up"), "w-7up");
  EXPECT_EQ(WorkerNameOf(""), "w");
  for (const std::string& host : {std::string("a_b."), std::string(100, 'x'), std::string("---")}) {
    EXPECT_THAT(CheckWorkerName(WorkerNameOf(host)), IsOk()) << host;
  }
  EXPECT_THAT(CheckWorkerName("Upper"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CheckWorkerName(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

ParsedOptions Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "weft-worker");
  return ParseWorkerOptions("0", static_cast<int>(arguments.size()), arguments.data());
}

TEST(WorkerOptionsTest, FlagsBeatTheFile) {
  const TempDir directory;
  const std::string path = (directory.path() / "worker.conf").string();
  std::ofstream(path) << "coordinator = \"host:1\"\nthreads = 3\nname = \"filed\"\n";
  const ParsedOptions parsed = Parse({"--config", path.c_str(), "--name", "flagged"});
  ASSERT_FALSE(parsed.exit_code.has_value());
  EXPECT_EQ(parsed.options.coordinator, "host:1");
  EXPECT_EQ(parsed.options.threads, 3);
  EXPECT_EQ(parsed.options.name, "flagged");
}

TEST(WorkerOptionsTest, TheDeviceIsOneOfThree) {
  EXPECT_EQ(Parse({"--coordinator", "host:1", "--device", "tpu"}).exit_code, kExitUsage);
  const ParsedOptions parsed = Parse({"--coordinator", "host:1", "--device", "gpu"});
  ASSERT_FALSE(parsed.exit_code.has_value());
  EXPECT_EQ(parsed.options.device, "gpu");
}

TEST(WorkerOptionsTest, TlsFilesComeTogether) {
  const std::vector<const char*> flags = {"--coordinator", "c:1", "--tls-ca",  "a",
                                          "--tls-cert",    "c",   "--tls-key", "k"};
  EXPECT_EQ(Parse(flags).options.tls.key, "k");
  EXPECT_FALSE(Parse(flags).exit_code.has_value());
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--coordinator", "c:1", "--tls-ca", "a"}).exit_code, kExitUsage);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("give all of --tls-ca, --tls-cert and --tls-key, or none"));
}

TEST(WorkerOptionsTest, UnknownKeysOfTheFileAreErrors) {
  const TempDir directory;
  const std::string path = (directory.path() / "worker.conf").string();
  std::ofstream(path) << "coordinator = \"host:1\"\ntreads = 3\n";
  EXPECT_EQ(Parse({"--config", path.c_str()}).exit_code, kExitUsage);
}

TEST(WorkerOptionsTest, SeveralCoordinatorsAreCheckedOneByOne) {
  EXPECT_EQ(Parse({"--coordinator", "a:1,b:2"}).options.coordinator, "a:1,b:2");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--coordinator", "a:1,b"}).exit_code, kExitUsage);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("--coordinator: 'b'"));
}

TEST(WorkerOptionsTest, ReportsAllProblemsAtOnce) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--name", "Bad", "--listen", "nowhere", "--grace", "soon", "--devices", "0"})
                .exit_code,
            kExitUsage);
  const std::string text = ::testing::internal::GetCapturedStderr();
  for (const char* flag : {"--coordinator", "--name", "--listen", "--grace", "--devices"}) {
    EXPECT_THAT(text, HasSubstr(flag));
  }
}

TEST(WorkerOptionsTest, ReadsTheCoordinatorsAnnouncement) {
  const TempDir directory;
  const std::string path = (directory.path() / "coordinator.json").string();
  EXPECT_THAT(ReadCoordinatorFile(path), StatusIs(absl::StatusCode::kUnavailable));
  std::ofstream(path) << R"({"address": "127.0.0.1:7, )";
  EXPECT_THAT(ReadCoordinatorFile(path), StatusIs(absl::StatusCode::kUnavailable));
  std::ofstream(path) << R"({"address": "127.0.0.1:7", "pid": 3})";
  EXPECT_THAT(ReadCoordinatorFile(path), IsOkAndHolds("127.0.0.1:7"));
}

// --- the rest -----------------------------------------------------------------------------------

TEST(LeftoversTest, AStateDirectoryHasOneOwner) {
  const TempDir directory;
  const std::string path = (directory.path() / "state").string();
  auto first = LockStateDirectory(path);
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(LockStateDirectory(path),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(path)));
  first->Close();
  EXPECT_THAT(LockStateDirectory(path), IsOk());
}

// A shell that exports an option's variable, or another agent that is told by it, is no leftover.
TEST(LeftoversTest, OnlyWhatAnAgentMarkedIsKilled) {
  const TempDir directory;
  const std::string state = directory.path().string();
  absl::Mutex mutex;
  std::vector<std::string> ended;
  auto supervisor = ProcessSupervisor::Create();
  ASSERT_THAT(supervisor, IsOk());
  const auto start = [&](const std::string& name, std::vector<std::string> environment) {
    ChildOptions options;
    options.program = "/bin/sleep";
    options.arguments = {"sleep", "1000"};
    options.environment = std::move(environment);
    ChildCallbacks callbacks;
    callbacks.on_exit = [&mutex, &ended, name](ExitStatus status) {
      const absl::MutexLock lock(&mutex);
      ended.push_back(absl::StrCat(name, " ", status.ToString()));
    };
    EXPECT_THAT((*supervisor)->Spawn(options, std::move(callbacks)), IsOk());
  };
  start("bystander", {absl::StrCat("WEFT_WORKER_STATE_DIR=", state)});
  start("rank", MarkedEnvironment({"A=b"}, state));
  EXPECT_EQ(KillLeftoverProcesses(state), 1);
  {
    const absl::MutexLock lock(&mutex);
    const auto any = [&ended] { return !ended.empty(); };
    mutex.Await(absl::Condition(&any));
    EXPECT_THAT(ended, ElementsAre("rank was killed by SIGKILL"));
  }
}

TEST(LeftoversTest, ChildrenCarryTheMarkOfTheirOwnAgentAlone) {
  EXPECT_THAT(
      MarkedEnvironment({"A=b", "WEFT_OWNER_STATE=/outer", "WEFT_WORKER_STATE_DIR=/x"}, "/inner"),
      ElementsAre("A=b", "WEFT_WORKER_STATE_DIR=/x", "WEFT_OWNER_STATE=/inner"));
}

TEST(AgentMessagesTest, OrdersMustNameThisWorkerAndItsRanks) {
  v1::StartMember start;
  start.set_job("jobs/demo-1");
  start.set_generation(4);
  start.add_members()->set_worker("a");
  start.mutable_members(0)->add_ranks()->set_rank(0);
  start.add_members()->set_worker("b");
  start.mutable_members(1)->add_ranks()->set_rank(2);
  start.mutable_members(1)->add_ranks()->set_rank(1);
  auto order = ToOrder(start, "b");
  ASSERT_THAT(order, IsOk());
  EXPECT_EQ(order->member_index, 1);
  EXPECT_THAT(order->ranks, ElementsAre(1, 2));
  EXPECT_THAT(ToOrder(start, "c"), StatusIs(absl::StatusCode::kInvalidArgument));
  start.mutable_members(1)->mutable_ranks(0)->set_rank(1);
  EXPECT_THAT(ToOrder(start, "b"), StatusIs(absl::StatusCode::kInvalidArgument));
  start.set_job("jobs/../../etc");
  EXPECT_THAT(ToOrder(start, "a"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(BackoffTest, GrowsToItsLimitAndStartsAnew) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(5));
  absl::Duration bound = absl::Milliseconds(100);
  for (int i = 0; i < 12; ++i) {
    const absl::Duration pause = backoff.Next();
    EXPECT_LE(pause, bound);
    EXPECT_GE(pause, bound / 2);
    bound = std::min(2 * bound, absl::Seconds(5));
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

class StepBufferTest : public ::testing::Test {
 protected:
  void Add(int64_t first, int64_t last, const std::string& job = "jobs/demo-1") {
    for (int64_t step = first; step <= last; ++step) {
      v1::StepReport report;
      report.set_step(step);
      buffer_.Add({job, Generation(1)}, report);
    }
  }
  std::vector<int64_t> Take() {
    std::vector<int64_t> steps;
    for (const v1::StepBatch& batch : buffer_.Take(/*batch_steps=*/200, now_)) {
      EXPECT_LE(batch.steps_size(), 200);
      for (const v1::StepReport& step : batch.steps()) steps.push_back(step.step());
    }
    return steps;
  }
  static std::vector<int64_t> Numbers(int64_t first, int64_t last) {
    std::vector<int64_t> numbers;
    for (int64_t i = first; i <= last; ++i) numbers.push_back(i);
    return numbers;
  }

  const MemberKey key_{"jobs/demo-1", Generation(1)};
  absl::Time now_ = absl::FromUnixSeconds(1000);
  StepBuffer buffer_{/*limit=*/1000};
};

TEST_F(StepBufferTest, NothingThatWasOnItsWayIsLostWithTheLink) {
  Add(1, 500);
  EXPECT_EQ(Take(), Numbers(1, 500));
  Add(501, 502);
  buffer_.TakeBack();
  EXPECT_EQ(Take(), Numbers(1, 502)) << "in order";
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(StepBufferTest, WhatIsStoredIsForgotten) {
  Add(1, 10);
  Take();
  buffer_.OnStored(key_, 1, 3);
  buffer_.OnStored(key_, 7, 10);
  buffer_.OnStored({"jobs/other-2", Generation(1)}, 1, 10);
  buffer_.TakeBack();
  EXPECT_THAT(Take(), ElementsAre(4, 5, 6));
  EXPECT_FALSE(buffer_.empty());
  buffer_.OnStored(key_, 4, 6);
  EXPECT_TRUE(buffer_.empty());
}

TEST_F(StepBufferTest, WhatACoordinatorDoesNotStoreIsSentAgainAfterATime) {
  Add(1, 2);
  Take();
  now_ += absl::Seconds(9);
  Add(3, 3);
  Take();
  now_ += absl::Seconds(1);
  buffer_.TakeBack(now_ - absl::Seconds(10));
  EXPECT_THAT(Take(), ElementsAre(1, 2));
}

TEST_F(StepBufferTest, OfTooManyTheMemberWithMostLosesItsOldest) {
  Add(1, 900);
  Add(1, 150, "jobs/other-2");
  std::vector<int64_t> expected = Numbers(51, 900);
  for (const int64_t number : Numbers(1, 150)) expected.push_back(number);
  EXPECT_EQ(Take(), expected);
}

}  // namespace
}  // namespace weft::worker

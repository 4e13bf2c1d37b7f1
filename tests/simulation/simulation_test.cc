// Thousands of seeded worlds in one run.
//   WEFT_SIM_SEEDS=100000  how many seeds (default 2000)
//   WEFT_SIM_SEED=17       only this one
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/simulation/sim_world.h"

namespace weft::simulation {
namespace {

constexpr int64_t kSeeds = 2000;
constexpr uint64_t kDatabaseEvery = 100;  // these seeds keep their state in a real database
constexpr uint64_t kTwiceEvery = 10;      // these seeds are run twice and must go the same way

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  int64_t value = otherwise;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// In memory when the machine offers it: a simulated power cut needs no real disk.
class DatabaseDirectory {
 public:
  DatabaseDirectory() {
    const std::filesystem::path memory = "/dev/shm";
    const std::filesystem::path base =
        std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    std::string pattern = (base / "weft-sim-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~DatabaseDirectory() { std::filesystem::remove_all(path_); }
  DatabaseDirectory(const DatabaseDirectory&) = delete;
  DatabaseDirectory& operator=(const DatabaseDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

SimResult RunSeed(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  if (seed % kDatabaseEvery != 0) return RunSimulation(options);
  const DatabaseDirectory directory;
  options.sqlite_directory = directory.path();
  return RunSimulation(options);
}

std::string Replay(uint64_t seed) {
  return absl::StrCat("replay: WEFT_SIM_SEED=", seed,
                      " simulation_test --gtest_filter='Simulation.EveryJob*'");
}

TEST(Simulation, EveryJobEndsRightlyInEveryWorld) {
  const int64_t only = FromEnvironment("WEFT_SIM_SEED", 0);
  const int64_t seeds = FromEnvironment("WEFT_SIM_SEEDS", kSeeds);
  const uint64_t first = only > 0 ? static_cast<uint64_t>(only) : 1;
  const uint64_t last = only > 0 ? first : static_cast<uint64_t>(seeds);
  std::map<std::string, int64_t> situations;
  int64_t events = 0;
  absl::Duration simulated;
  int failures = 0;
  for (uint64_t seed = first; seed <= last && failures < 5; ++seed) {
    const SimResult result = RunSeed(seed);
    events += result.events;
    simulated += result.simulated;
    for (const auto& [name, count] : result.situations) situations[name] += count;
    if (!result.violation.empty()) {
      ++failures;
      ADD_FAILURE() << "seed " << seed << ": " << result.violation << "\n" << Replay(seed);
    }
    if (seed % kTwiceEvery == 0 || only > 0) {
      EXPECT_EQ(RunSeed(seed).hash, result.hash)
          << "seed " << seed << " went another way the second time\n"
          << Replay(seed);
    }
  }
  std::cout << last - first + 1 << " worlds, " << events << " events, "
            << absl::FormatDuration(absl::Floor(simulated, absl::Minutes(1))) << " simulated\n";
  if (only > 0 || seeds < kSeeds) return;
  for (const std::string& name : NamedSituations()) {
    std::cout << "  " << situations[name] << "  " << name << "\n";
    EXPECT_GT(situations[name], 0) << "no world ever met this: " << name;
  }
}

TEST(Simulation, ACrashedCoordinatorStopsNoRunningTraining) {
  int64_t adopted = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SimOptions options;
    options.seed = seed;
    options.only_coordinator_crashes = true;
    const SimResult result = RunSimulation(options);
    EXPECT_EQ(result.violation, "") << "seed " << seed;
    const auto found = result.situations.find("a running gang was adopted");
    adopted += found == result.situations.end() ? 0 : found->second;
  }
  EXPECT_GT(adopted, 100);
}

// A simulation that cannot find a mistake proves nothing: each of these must be noticed.
class PlantedMistake : public ::testing::TestWithParam<Plant> {};

TEST_P(PlantedMistake, IsNoticed) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SimOptions options;
    options.seed = seed;
    options.plant = GetParam();
    const SimResult result = RunSimulation(options);
    if (result.violation.empty()) continue;
    std::cout << "noticed at seed " << seed << " " << result.violation << "\n";
    return;
  }
  ADD_FAILURE() << "2000 worlds did not notice";
}

std::string PlantName(const ::testing::TestParamInfo<Plant>& plant) {
  switch (plant.param) {
    case Plant::kNone:
      return "None";
    case Plant::kNoFence:
      return "NoFence";
    case Plant::kEdgeTriggered:
      return "EdgeTriggered";
    case Plant::kKeptGang:
      return "KeptGang";
    case Plant::kLostCommit:
      return "LostCommit";
  }
  return "Unknown";
}

INSTANTIATE_TEST_SUITE_P(All, PlantedMistake,
                         ::testing::Values(Plant::kNoFence, Plant::kEdgeTriggered, Plant::kKeptGang,
                                           Plant::kLostCommit),
                         PlantName);

}  // namespace
}  // namespace weft::simulation

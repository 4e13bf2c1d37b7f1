// An agent in this process, with a fake coordinator and fake ranks (fakes/).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/check.h"
#include "common/metrics/prometheus_metrics.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/agent/fakes/fake_coordinator.h"
#include "worker/agent/agent.h"
#include "worker/agent/host_devices.h"
#include "worker/agent/own_environment.h"

namespace weft::worker {

inline std::string BinDirectory() {
  const char* folder = std::getenv("WEFT_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): set by ctest
  return folder != nullptr ? folder : (std::filesystem::current_path() / "build/dev/bin").string();
}

// A folder of programs in which weft-rank is the fake one.
inline void FillProgramDirectory(const std::filesystem::path& directory) {
  const std::filesystem::path bin = BinDirectory();
  std::filesystem::create_directories(directory);
  std::filesystem::create_symlink(bin / "../tests/fake_rank", directory / "weft-rank");
  for (const char* program : {"weft-relay", "weft-rsh", "weft-worker"}) {
    std::filesystem::create_symlink(bin / program, directory / program);
  }
}

// A policy whose deadlines a busy machine with a sanitizer cannot miss by accident.
inline AgentPolicy PatientPolicy() {
  AgentPolicy policy;
  policy.start_timeout = absl::Seconds(60);
  policy.peer_loss_grace = absl::Seconds(1);
  policy.resend_interval = absl::Milliseconds(50);
  return policy;
}

class AgentHarness : public ::testing::Test {
 protected:
  static constexpr char kWorker[] = "a";

  AgentHarness() { FillProgramDirectory(home_.path() / "bin"); }

  AgentOptions Options(const std::string& worker) {
    AgentOptions options;
    options.name = worker;
    options.version = "test";
    options.incarnation = "1";
    options.coordinator = [this] { return coordinator_.address(); };
    options.state_directory = (home_.path() / worker).string();
    HostResources host;
    host.cores = 2;
    auto devices = CutIntoDevices(host, 2, 2, "cpu-test");
    WEFT_CHECK(devices.ok());
    options.devices = *devices;
    options.data_root = "/data";
    options.program_directory = (home_.path() / "bin").string();
    options.environment = OwnEnvironment();
    options.policy = policy_;
    return options;
  }

  std::unique_ptr<Agent> StartAgent(const std::string& worker = kWorker) {
    auto agent = Agent::Start(Options(worker), metrics_);
    WEFT_CHECK_MSG(agent.ok(), agent.status().message());
    return *std::move(agent);
  }

  // A gang of one worker, with `ranks` ranks.
  static v1::CoordinatorMessage StartOrder(const std::string& name, int64_t generation,
                                           int64_t steps, int ranks = 1) {
    v1::CoordinatorMessage message;
    v1::StartMember& start = *message.mutable_start();
    start.set_job(JobOf(name));
    start.set_generation(generation);
    start.mutable_spec()->set_name(name);
    start.mutable_spec()->mutable_training()->set_steps(steps);
    start.set_world_size(ranks);
    start.set_checkpoint_root("/checkpoints");
    v1::GangMember& member = *start.add_members();
    member.set_worker(kWorker);
    for (int rank = 0; rank < ranks; ++rank) {
      v1::GangRank& placed = *member.add_ranks();
      placed.set_rank(rank);
      placed.set_device_index(rank);
    }
    return message;
  }
  static v1::CoordinatorMessage StopOrder(const std::string& name, int64_t generation,
                                          v1::StopMember::Mode mode) {
    v1::CoordinatorMessage message;
    message.mutable_stop()->set_job(JobOf(name));
    message.mutable_stop()->set_generation(generation);
    message.mutable_stop()->set_mode(mode);
    message.mutable_stop()->set_reason("the test wants it");
    return message;
  }
  static std::string JobOf(const std::string& name) { return absl::StrCat("jobs/", name); }

  [[nodiscard]] bool AwaitConnected(const std::string& worker = kWorker) {
    return coordinator_.Await(worker, [](const auto& messages) {
      return !messages.empty() && messages.back().has_heartbeat();
    });
  }
  [[nodiscard]] bool AwaitPhase(const std::string& name, v1::MemberStatus::Phase phase,
                                const std::string& worker = kWorker) {
    return coordinator_.Await(
        worker, [&](const auto& messages) { return ShowsPhase(messages, JobOf(name), phase); });
  }
  [[nodiscard]] bool AwaitExit(const std::string& name, int64_t generation,
                               v1::MemberExit::Outcome outcome,
                               const std::string& worker = kWorker) {
    return coordinator_.Await(worker, [&](const auto& messages) {
      return HasExit(messages, JobOf(name), generation, outcome);
    });
  }

  testing::TempDir home_;
  AgentPolicy policy_ = PatientPolicy();  // of agents that are started from now on
  PrometheusMetrics metrics_;
  FakeCoordinator coordinator_;
};

}  // namespace weft::worker

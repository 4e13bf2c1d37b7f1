// weft up, weft run: a whole cluster on this machine.

#include <csignal>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/address.h"
#include "client/commands.h"
#include "client/local_cluster.h"
#include "client/signal_queue.h"
#include "client/text.h"
#include "client/within.h"
#include "common/base/status_macros.h"

namespace weft::client {
namespace {

// SIGPIPE: our output goes nowhere any more (client/checked_output.h).
constexpr std::initializer_list<int> kEndSignals = {SIGINT, SIGTERM, SIGPIPE};
constexpr absl::Duration kSaveGrace = absl::Seconds(40);  // above the workers' own 30 s

struct LocalFlags {
  std::string state_directory = DefaultStateDirectory().string();
  int workers = 2;
  int threads = 0;
  std::string listen = "127.0.0.1:7733";
  int metrics_port = 9733;
  bool any_port = false;
  JobSource job;
};

LocalClusterOptions ClusterOptions(const LocalFlags& flags) {
  LocalClusterOptions options;
  options.state_directory = flags.state_directory;
  options.workers = flags.workers;
  options.threads_per_worker = flags.threads;
  if (!flags.any_port) {
    options.listen = flags.listen;
    options.metrics_port = flags.metrics_port;
  }
  return options;
}

void AddClusterFlags(CLI::App& command, LocalFlags& flags) {
  command
      .add_option("--state-dir", flags.state_directory, "Where jobs, logs and checkpoints are kept")
      ->capture_default_str();
  command.add_option("--workers", flags.workers)->check(Within(1, 64))->capture_default_str();
  command.add_option("--threads", flags.threads, "Threads of each worker; 0 shares the cores out")
      ->check(Within(0, 1024))
      ->capture_default_str();
}

absl::Status Up(Session& session, const LocalFlags& flags) {
  const SignalQueue signals(kEndSignals);
  WEFT_ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(ClusterOptions(flags)));
  std::cout << "coordinator at " << cluster->address() << ", " << flags.workers
            << (flags.workers == 1 ? " worker" : " workers") << ", state in "
            << flags.state_directory << '\n';
  if (!flags.any_port) {
    std::cout << "metrics at http://127.0.0.1:" << flags.metrics_port
              << "/metrics and, of worker 1, at http://127.0.0.1:" << flags.metrics_port + 1
              << "/metrics\n";
  }
  // Other commands look in the default folder, and before that at what a person has set up.
  const auto found = ResolveContext({}, "");
  if (!found.ok() || found->address != cluster->address()) {
    std::cout << "other commands find it after: export WEFT_ADDRESS=" << cluster->address() << '\n';
  }
  std::cout << "weft submit job.yaml, weft get jobs, weft watch JOB; Ctrl-C stops the cluster"
            << std::endl;
  std::optional<int> signal;
  while (!(signal = signals.Next(absl::Seconds(1)))) WEFT_RETURN_IF_ERROR(cluster->Revive());
  if (*signal == SIGPIPE) session.exit_code = kExitError;
  std::cout << "\nsaving and stopping" << std::endl;
  cluster->Stop(kSaveGrace);
  return absl::OkStatus();
}

absl::Status RunJob(Session& session, const LocalFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(const v1::JobSpec spec, ReadJob(flags.job));
  const SignalQueue signals(kEndSignals);
  WEFT_ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(ClusterOptions(flags)));
  session.UseLocal(cluster->address());
  WEFT_ASSIGN_OR_RETURN(const v1::Job job, SubmitSpec(session, spec, /*validate_only=*/false));
  // The watcher is a thread of its own, so that Ctrl-C can end the run in an orderly way: the job
  // is saved and goes on with the next `weft run` or `weft up` on the same state.
  std::atomic<bool> done = false;
  ProgressPrinter progress = ProgressOf(session);
  std::thread watcher([&] {
    WatchToEnd(session, job.name(), absl::InfiniteDuration(), progress);
    done = true;
  });
  std::optional<int> signal;
  while (!done && !signal) signal = signals.Next(absl::Seconds(1));
  if (signal) {
    progress.Silence();
    std::cerr << "weft: interrupted; saving. The job " << ShortName(job.name())
              << " goes on when a cluster runs on " << flags.state_directory << " again"
              << std::endl;
    cluster->Stop(kSaveGrace);
    std::_Exit(*signal == SIGPIPE ? kExitError
                                  : kExitInterrupted);  // the watcher still waits for an answer
  }
  watcher.join();
  cluster->Stop(absl::Seconds(5));
  return absl::OkStatus();
}

}  // namespace

void AddLocal(CLI::App& app, Session& session) {
  {
    auto flags = std::make_shared<LocalFlags>();
    CLI::App* command =
        app.add_subcommand("up", "Keep a local cluster running: a coordinator and workers");
    AddClusterFlags(*command, *flags);
    command->add_option("--listen", flags->listen, "Of the coordinator")->capture_default_str();
    command
        ->add_option("--metrics-port", flags->metrics_port,
                     "Of the coordinator; worker i has the i-th after it")
        ->check(Within(1, 65000))
        ->capture_default_str();
    command->add_flag("--any-port", flags->any_port, "Let the system choose all ports");
    command->callback([flags, &session] { session.Fail(Up(session, *flags)); });
  }
  {
    auto flags = std::make_shared<LocalFlags>();
    flags->any_port = true;
    CLI::App* command = app.add_subcommand(
        "run", "Start a local cluster, run one job to its end, stop the cluster");
    AddJobSource(*command, flags->job);
    AddClusterFlags(*command, *flags);
    command->callback([flags, &session] { session.Fail(RunJob(session, *flags)); });
  }
}

}  // namespace weft::client

// weft top.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/list_all.h"
#include "client/terminal.h"
#include "client/top_view.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

struct TopFlags {
  std::string interval = "2s";
  int64_t count = 0;
  bool all = false;
};

absl::StatusOr<ClusterView> Look(Session& session, bool all) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto jobs = v1::JobService::NewStub(channel);
  auto workers = v1::WorkerService::NewStub(channel);
  ClusterView view;
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  if (!all) request.set_filter("active=true");
  WEFT_ASSIGN_OR_RETURN(view.jobs,
                        ListAll<v1::Job>(session, *jobs, &v1::JobService::Stub::ListJobs, request,
                                         [](auto& r) { return r.mutable_jobs(); }));
  WEFT_ASSIGN_OR_RETURN(
      view.workers,
      ListAll<v1::Worker>(session, *workers, &v1::WorkerService::Stub::ListWorkers,
                          v1::ListWorkersRequest(), [](auto& r) { return r.mutable_workers(); }));
  view.address = session.address();
  return view;
}

absl::Status Top(Session& session, const TopFlags& flags) {
  absl::Duration interval;
  if (!absl::ParseDuration(flags.interval, &interval) || interval < absl::Milliseconds(100)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--interval must be a duration of at least 100ms, such as 2s, is '", flags.interval, "'"));
  }
  if (IsForPrograms(session.output) || session.output == OutputFormat::kName) {
    return absl::InvalidArgumentError(
        "top prints tables; for programs: weft get jobs, weft get workers");
  }
  const bool live = StdoutIsTerminal();
  for (int64_t shown = 0; flags.count == 0 || shown < flags.count; ++shown) {
    if (shown > 0) absl::SleepFor(interval);
    const absl::StatusOr<ClusterView> view = Look(session, flags.all);
    // A coordinator that is away for a while ends nothing that was there before.
    if (!view.ok() && (shown == 0 || !absl::IsUnavailable(view.status()))) return view.status();
    if (!view.ok()) session.Disconnect();
    const std::string text =
        view.ok() ? TopText(*view, absl::Now()) : absl::StrCat(view.status().message(), "\n");
    if (live) {
      std::cout << "\x1b[H" << FitScreen(text, TerminalWidth(), TerminalHeight()) << "\x1b[J"
                << std::flush;
    } else {
      std::cout << (shown > 0 ? "\n" : "") << text << std::flush;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddTop(CLI::App& app, Session& session) {
  auto flags = std::make_shared<TopFlags>();
  CLI::App* command = app.add_subcommand("top", "Show jobs and workers, live, until Ctrl-C");
  command->add_option("--interval", flags->interval, "Time between two looks: 500ms, 2s")
      ->capture_default_str();
  command->add_option("-n,--count", flags->count, "Look this many times, then end; 0: for ever")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--all", flags->all, "Show jobs that have ended, too");
  command->callback([flags, &session] {
    if (StdoutIsTerminal()) std::cout << "\x1b[2J";
    session.Fail(Top(session, *flags));
  });
}

}  // namespace weft::client

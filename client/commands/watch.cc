// weft watch.

#include <csignal>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/progress.h"
#include "client/retry_pause.h"
#include "client/terminal.h"
#include "client/text.h"
#include "common/base/status_macros.h"
#include "common/rpc/grpc_channel.h"

namespace weft::client {
namespace {

// One stream's worth of watching. OK when the job has ended; `job` and `after_step` keep what was
// seen, so that a broken stream is taken up where it broke.
absl::Status WatchOnce(Session& session, const std::string& name, absl::Time deadline,
                       ProgressPrinter& printer, v1::Job& job, int64_t& after_step,
                       bool& answered) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  grpc::ClientContext context;
  if (deadline != absl::InfiniteFuture()) SetTimeout(context, deadline - absl::Now());
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_after_step(after_step);
  auto stream = stub->WatchJob(&context, request);
  v1::WatchJobResponse response;
  while (stream->Read(&response)) {
    answered = true;
    job = response.job();
    for (const v1::StepReport& step : response.steps()) {
      after_step = std::max(after_step, step.step());
    }
    printer.Show(job, absl::Now());
  }
  return session.Finished(stream->Finish());
}

absl::Status TimedOut(const std::string& name, const v1::Job& job, absl::Duration limit) {
  return absl::DeadlineExceededError(
      absl::StrCat(ShortName(name), " has not ended after ", absl::FormatDuration(limit),
                   job.name().empty() ? "" : absl::StrCat("; it is ", StateName(job.state()))));
}

}  // namespace

ProgressPrinter ProgressOf(const Session& session) {
  const bool quiet = PrintsResultAlone(session.output);
  return ProgressPrinter(quiet ? std::cerr : std::cout, !quiet && StdoutIsTerminal(),
                         TerminalWidth());
}

void WatchToEnd(Session& session, const std::string& name, absl::Duration limit,
                ProgressPrinter& progress) {
  const absl::Time deadline = absl::Now() + limit;
  v1::Job job;
  int64_t after_step = -1;
  RetryPause pause;
  while (true) {
    bool answered = false;
    const absl::Status status =
        WatchOnce(session, name, deadline, progress, job, after_step, answered);
    if (status.ok() && HasEnded(job)) break;
    if (absl::IsDeadlineExceeded(status)) {
      progress.Finish();
      session.Fail(TimedOut(name, job, limit));
      session.exit_code = kExitWaitTimedOut;
      return;
    }
    if (!status.ok() && !absl::IsUnavailable(status)) {
      progress.Finish();
      return session.Fail(status);
    }
    session.Disconnect();
    // The coordinator is away; the job may well go on. Give up only when it was never reached.
    if (job.name().empty()) return session.Fail(status);
    progress.ShowProblem(session.Away());
    if (answered) pause.Reset();
    pause.Sleep(deadline);
  }
  progress.Finish();
  if (IsForPrograms(session.output)) {
    PrintMessages({&job}, /*as_list=*/false, session.output, std::cout);
  } else if (session.output == OutputFormat::kName) {
    std::cout << job.name() << '\n';
  } else {
    std::cout << Summary(job) << '\n';
  }
  session.exit_code = ExitCodeOf(job);
}

void AddWatch(CLI::App& app, Session& session) {
  struct Flags {
    std::string job;
    std::string limit;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("watch", "Follow a job to its end; the exit code is the job's");
  command->add_option("JOB", flags->job, "Its id, or its spec's name for the newest one")
      ->required();
  command->add_option("--for", flags->limit, "Give up after this time (exit code 12): 30s, 5m");
  command->callback([flags, &session] {
    absl::Duration limit = absl::InfiniteDuration();
    if (!flags->limit.empty() && !absl::ParseDuration(flags->limit, &limit)) {
      return session.Fail(absl::InvalidArgumentError(
          absl::StrCat("--for must be a duration such as 30s or 5m, is '", flags->limit, "'")));
    }
    const absl::StatusOr<std::string> name = session.FindJob(flags->job);
    if (!name.ok()) return session.Fail(name.status());
    ProgressPrinter progress = ProgressOf(session);
    WatchToEnd(session, *name, limit, progress);
  });
}

}  // namespace weft::client

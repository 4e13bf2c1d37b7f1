// weft logs.

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/output.h"
#include "client/retry_pause.h"
#include "client/text.h"
#include "client/within.h"
#include "common/base/status_macros.h"

namespace weft::client {
namespace {

struct LogsFlags {
  std::string job;
  bool follow = false;
  int64_t tail = 0;
  int rank = -2;  // -2: all
  bool bare = false;
};

void PrintLine(const v1::LogLine& line, const LogsFlags& flags, OutputFormat format) {
  if (format == OutputFormat::kJson) {
    std::cout << ToJsonLine(line) << '\n';  // one object a line, so that a followed log can be read
  } else if (format == OutputFormat::kYaml) {
    PrintMessages({&line}, /*as_list=*/true, format, std::cout);
  } else if (flags.bare || format == OutputFormat::kName) {
    std::cout << line.text() << '\n';
  } else {
    const std::string rank = line.rank() < 0 ? "agent" : absl::StrCat("rank ", line.rank());
    std::cout << absl::FormatTime("%H:%M:%S ", FromProto(line.time()), absl::LocalTimeZone())
              << absl::StrFormat("%-8s ", rank) << line.text() << '\n';
  }
  if (flags.follow) std::cout << std::flush;
}

// One stream's worth of lines; the request comes to ask for those behind the last one.
absl::Status ReadOnce(Session& session, const LogsFlags& flags, v1::TailLogsRequest& request,
                      bool& answered) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  grpc::ClientContext context;
  if (!flags.follow) session.Prepare(context);
  auto stream = stub->TailLogs(&context, request);
  v1::LogLine line;
  while (stream->Read(&line)) {
    answered = true;
    request.set_position(line.next_position());
    line.clear_next_position();  // means nothing to who reads the output
    PrintLine(line, flags, session.output);
  }
  return session.Finished(stream->Finish());
}

absl::Status Logs(Session& session, const LogsFlags& flags) {
  v1::TailLogsRequest request;
  WEFT_ASSIGN_OR_RETURN(*request.mutable_name(), session.FindJob(flags.job));
  request.set_follow(flags.follow);
  request.set_tail_lines(flags.tail);
  if (flags.rank >= -1) request.set_rank(flags.rank);
  RetryPause pause;
  bool away = false;
  while (true) {
    bool answered = false;
    const absl::Status status = ReadOnce(session, flags, request, answered);
    // That somebody was there FindJob has shown.
    if (!flags.follow || !absl::IsUnavailable(status)) return status;
    session.Disconnect();
    if (answered) {
      pause.Reset();
      away = false;
    }
    if (!std::exchange(away, true)) std::cerr << "weft: " << session.Away() << std::endl;
    pause.Sleep();
  }
}

}  // namespace

void AddLogs(CLI::App& app, Session& session) {
  auto flags = std::make_shared<LogsFlags>();
  CLI::App* command = app.add_subcommand("logs", "Print the log of a job's ranks");
  command->add_option("JOB", flags->job, "Its id, or its spec's name for the newest one")
      ->required();
  command->add_flag("-f,--follow", flags->follow, "Go on until the job has ended");
  command->add_option("--tail", flags->tail, "Start with the last N lines")
      ->check(Within<int64_t>(0));
  command->add_option("--rank", flags->rank, "Only this rank; -1 for the agents")
      ->check(Within(-1, 1 << 20));
  command->add_flag("--bare", flags->bare, "The lines alone, without time and rank");
  command->callback([flags, &session] { session.Fail(Logs(session, *flags)); });
}

}  // namespace weft::client

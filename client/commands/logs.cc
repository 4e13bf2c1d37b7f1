// weft logs.

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/output.h"
#include "client/text.h"
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

absl::Status Logs(Session& session, const LogsFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(const std::string name, session.FindJob(flags.job));
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  v1::TailLogsRequest request;
  request.set_name(name);
  request.set_follow(flags.follow);
  request.set_tail_lines(flags.tail);
  if (flags.rank >= -1) request.set_rank(flags.rank);
  grpc::ClientContext context;
  if (!flags.follow) session.Prepare(context);
  auto stream = stub->TailLogs(&context, request);
  v1::LogLine line;
  while (stream->Read(&line)) PrintLine(line, flags, session.output);
  return session.Finished(stream->Finish());
}

}  // namespace

void AddLogs(CLI::App& app, Session& session) {
  auto flags = std::make_shared<LogsFlags>();
  CLI::App* command = app.add_subcommand("logs", "Print the log of a job's ranks");
  command->add_option("JOB", flags->job, "Its id, or its spec's name for the newest one")
      ->required();
  command->add_flag("-f,--follow", flags->follow, "Go on until the job has ended");
  command->add_option("--tail", flags->tail, "Start with the last N lines")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--rank", flags->rank, "Only this rank; -1 for the agents")
      ->check(CLI::Range(-1, 1 << 20));
  command->add_flag("--bare", flags->bare, "The lines alone, without time and rank");
  command->callback([flags, &session] { session.Fail(Logs(session, *flags)); });
}

}  // namespace weft::client

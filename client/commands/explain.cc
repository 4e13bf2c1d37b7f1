// weft explain.

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "client/commands.h"
#include "client/progress.h"
#include "client/text.h"
#include "common/base/status_macros.h"

namespace weft::client {
namespace {

void Print(const v1::Explanation& explanation) {
  const std::string state = StateName(explanation.state());
  // The reason of a job that rests names its state already.
  const bool named = absl::StartsWith(explanation.summary(), state);
  std::cout << (named ? "" : state + ": ") << explanation.summary() << '\n';
  for (const v1::Blocker& blocker : explanation.blockers()) {
    std::cout << "  " << blocker.rule() << ": needs " << blocker.needed() << ' '
              << blocker.resource() << ", " << blocker.available() << " available, "
              << blocker.missing() << " missing";
    if (!blocker.holders().empty()) {
      std::cout << "; held by "
                << absl::StrJoin(blocker.holders(), ", ",
                                 [](std::string* out, const std::string& name) {
                                   out->append(ShortName(name));
                                 });
    }
    std::cout << '\n';
  }
  if (explanation.has_retry_time()) {
    std::cout << "  next attempt in "
              << ShortDuration(FromProto(explanation.retry_time()) - absl::Now()) << '\n';
  }
  if (explanation.has_last_failure()) {
    std::cout << "  last failure " << FailureText(explanation.last_failure(), absl::Now()) << '\n';
  }
  if (!explanation.counter_offer().empty()) {
    std::cout << "  " << explanation.counter_offer() << '\n';
  }
}

absl::Status Explain(Session& session, const std::string& job) {
  WEFT_ASSIGN_OR_RETURN(const std::string name, session.FindJob(job));
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  v1::ExplainJobRequest request;
  request.set_name(name);
  WEFT_ASSIGN_OR_RETURN(const v1::Explanation explanation,
                        session.Call(&v1::JobService::Stub::ExplainJob, *stub, request));
  if (IsForPrograms(session.output)) {
    PrintMessages({&explanation}, /*as_list=*/false, session.output, std::cout);
  } else if (session.output == OutputFormat::kName) {
    std::cout << name << '\n';
  } else {
    Print(explanation);
  }
  return absl::OkStatus();
}

}  // namespace

void AddExplain(CLI::App& app, Session& session) {
  auto job = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("explain", "Say why a job waits, and what would start now");
  command->add_option("JOB", *job, "Its id, or its spec's name for the newest one")->required();
  command->callback([job, &session] { session.Fail(Explain(session, *job)); });
}

}  // namespace weft::client

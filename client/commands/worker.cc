// weft drain, weft undrain.

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands.h"
#include "common/base/status_macros.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(200);

struct DrainFlags {
  std::string worker;
  std::string reason;
  bool until_restart = false;
  bool wait = false;
  std::string limit = "5m";
};

// Polls: a worker has no stream of its own. kDeadlineExceeded after `limit`.
absl::Status AwaitDrained(Session& session, v1::WorkerService::Stub& stub, const std::string& name,
                          absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  v1::GetWorkerRequest request;
  request.set_name(name);
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const v1::Worker worker,
                          session.Call(&v1::WorkerService::Stub::GetWorker, stub, request));
    // A lost worker holds nothing any more either.
    if (worker.state() == v1::Worker::STATE_DRAINED || worker.state() == v1::Worker::STATE_LOST) {
      std::cout << name << " drained\n";
      return absl::OkStatus();
    }
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(name, " is not drained after ", absl::FormatDuration(limit),
                       "; it still holds ", absl::StrJoin(worker.jobs(), ", ")));
    }
    absl::SleepFor(kPoll);
  }
}

absl::Status Drain(Session& session, const DrainFlags& flags, bool drain) {
  absl::Duration limit;
  if (!absl::ParseDuration(flags.limit, &limit) || limit < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--limit: \"", flags.limit, "\" is no duration like 30s or 5m"));
  }
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::WorkerService::NewStub(channel);
  const std::string name = absl::StrCat("workers/", absl::StripPrefix(flags.worker, "workers/"));
  v1::Worker worker;
  if (drain) {
    v1::DrainWorkerRequest request;
    request.set_name(name);
    request.set_reason(flags.reason);
    request.set_until_restart(flags.until_restart);
    WEFT_ASSIGN_OR_RETURN(worker,
                          session.Call(&v1::WorkerService::Stub::DrainWorker, *stub, request));
  } else {
    v1::UndrainWorkerRequest request;
    request.set_name(name);
    WEFT_ASSIGN_OR_RETURN(worker,
                          session.Call(&v1::WorkerService::Stub::UndrainWorker, *stub, request));
  }
  PrintVerb(worker, name, drain ? "draining" : "undrained", session.output, std::cout);
  return flags.wait ? AwaitDrained(session, *stub, name, limit) : absl::OkStatus();
}

}  // namespace

void AddWorkers(CLI::App& app, Session& session) {
  for (const bool drain : {true, false}) {
    auto flags = std::make_shared<DrainFlags>();
    CLI::App* command = app.add_subcommand(
        drain ? "drain" : "undrain",
        drain ? "Let a worker's jobs save and move away, and place nothing new on it"
              : "Place jobs on a drained worker again");
    command->add_option("WORKER", flags->worker)->required();
    if (drain) {
      command->add_option("--reason", flags->reason, "Shown to people");
      command->add_flag("--until-restart", flags->until_restart,
                        "The drain ends when the worker's agent has been started again");
      command->add_flag("--wait", flags->wait, "Return when nothing runs on the worker any more");
      command->add_option("--limit", flags->limit, "How long --wait waits")->capture_default_str();
    }
    command->callback([flags, drain, &session] { session.Fail(Drain(session, *flags, drain)); });
  }
}

}  // namespace weft::client

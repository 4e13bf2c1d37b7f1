// weft drain, weft undrain.

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/commands.h"
#include "common/base/status_macros.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

struct DrainFlags {
  std::string worker;
  std::string reason;
};

absl::Status Drain(Session& session, const DrainFlags& flags, bool drain) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::WorkerService::NewStub(channel);
  const std::string name = absl::StrCat("workers/", absl::StripPrefix(flags.worker, "workers/"));
  if (drain) {
    v1::DrainWorkerRequest request;
    request.set_name(name);
    request.set_reason(flags.reason);
    WEFT_RETURN_IF_ERROR(session.Call(&v1::WorkerService::Stub::DrainWorker, *stub, request));
  } else {
    v1::UndrainWorkerRequest request;
    request.set_name(name);
    WEFT_RETURN_IF_ERROR(session.Call(&v1::WorkerService::Stub::UndrainWorker, *stub, request));
  }
  std::cout << name << (drain ? " draining\n" : " undrained\n");
  return absl::OkStatus();
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
    if (drain) command->add_option("--reason", flags->reason, "Shown to people");
    command->callback([flags, drain, &session] { session.Fail(Drain(session, *flags, drain)); });
  }
}

}  // namespace weft::client

// weft cancel, pause, resume, delete: the verbs that change a job.

#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/commands.h"
#include "common/base/status_macros.h"

namespace weft::client {
namespace {

// Does the verb and prints what it did.
using Verb = std::function<absl::Status(Session&, v1::JobService::Stub&, const std::string& name)>;

// Applies the verb to every job; one that fails does not keep the others from being tried.
void ApplyToAll(Session& session, const std::vector<std::string>& jobs, const Verb& verb) {
  const auto channel = session.Connect();
  if (!channel.ok()) return session.Fail(channel.status());
  auto stub = v1::JobService::NewStub(*channel);
  for (const std::string& text : jobs) {
    absl::StatusOr<std::string> name = session.FindJob(text);
    session.Fail(name.ok() ? verb(session, *stub, *name) : name.status());
  }
}

void AddVerb(CLI::App& app, Session& session, const char* name, const char* description,
             Verb verb) {
  auto jobs = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("JOB", *jobs, "Ids, or specs' names for the newest ones")->required();
  command->callback([jobs, verb = std::move(verb), &session] { ApplyToAll(session, *jobs, verb); });
}

template <typename Request, typename Response>
Verb Calling(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
             const char* done) {
  return [method, done](Session& session, v1::JobService::Stub& stub, const std::string& name) {
    Request request;
    request.set_name(name);
    WEFT_ASSIGN_OR_RETURN(const Response response, session.Call(method, stub, request));
    PrintVerb(response, name, done, session.output, std::cout);
    return absl::OkStatus();
  };
}

}  // namespace

void AddCancel(CLI::App& app, Session& session) {
  using Stub = v1::JobService::Stub;
  AddVerb(app, session, "cancel", "Stop jobs for good", Calling(&Stub::CancelJob, "cancelled"));
  AddVerb(app, session, "pause", "Save a checkpoint, free the workers, keep the jobs",
          Calling(&Stub::PauseJob, "pausing"));
  AddVerb(app, session, "resume", "Queue paused jobs again", Calling(&Stub::ResumeJob, "resumed"));
  AddVerb(app, session, "delete", "Forget ended jobs and their logs; checkpoints stay",
          Calling(&Stub::DeleteJob, "deleted"));
}

}  // namespace weft::client

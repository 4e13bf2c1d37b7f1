// weft get jobs|workers|queues|checkpoints.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/commands.h"
#include "client/list_all.h"
#include "client/resource_tables.h"
#include "client/table.h"
#include "client/terminal.h"
#include "client/text.h"
#include "common/base/status_macros.h"
#include "weft/v1/checkpoint.grpc.pb.h"
#include "weft/v1/queue.grpc.pb.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

// Prints resources in the session's format; `table` turns them into rows.
template <typename Resource, typename MakeTable>
void PrintResources(const Session& session, const std::vector<Resource>& resources, bool as_list,
                    const MakeTable& make_table) {
  if (session.output == OutputFormat::kTable || session.output == OutputFormat::kWide) {
    if (resources.empty()) {
      std::cerr << "none found\n";
      return;
    }
    const bool wide = session.output == OutputFormat::kWide;
    Table table = make_table(resources, wide);
    // What a sentence has more than a line holds is in -o wide.
    if (!wide && StdoutIsTerminal()) table.Cut(static_cast<size_t>(TerminalWidth()));
    table.Print(std::cout);
  } else if (session.output == OutputFormat::kName) {
    for (const Resource& resource : resources) std::cout << resource.name() << '\n';
  } else {
    std::vector<const google::protobuf::Message*> messages;
    messages.reserve(resources.size());
    for (const Resource& resource : resources) messages.push_back(&resource);
    PrintMessages(messages, as_list, session.output, std::cout);
  }
}

struct GetFlags {
  std::string name;
  std::string filter;
};

absl::Status GetJobs(Session& session, const GetFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  std::vector<v1::Job> jobs;
  if (!flags.name.empty()) {
    v1::GetJobRequest request;
    WEFT_ASSIGN_OR_RETURN(*request.mutable_name(), session.FindJob(flags.name));
    WEFT_ASSIGN_OR_RETURN(v1::Job job, session.Call(&v1::JobService::Stub::GetJob, *stub, request));
    jobs.push_back(std::move(job));
  } else {
    v1::ListJobsRequest request;
    request.set_page_size(1000);
    request.set_filter(flags.filter);
    WEFT_ASSIGN_OR_RETURN(jobs,
                          ListAll<v1::Job>(session, *stub, &v1::JobService::Stub::ListJobs, request,
                                           [](auto& r) { return r.mutable_jobs(); }));
  }
  PrintResources(session, jobs, flags.name.empty(), JobTable);
  return absl::OkStatus();
}

absl::Status GetWorkers(Session& session, const GetFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::WorkerService::NewStub(channel);
  std::vector<v1::Worker> workers;
  if (!flags.name.empty()) {
    v1::GetWorkerRequest request;
    request.set_name(absl::StrCat("workers/", absl::StripPrefix(flags.name, "workers/")));
    WEFT_ASSIGN_OR_RETURN(v1::Worker worker,
                          session.Call(&v1::WorkerService::Stub::GetWorker, *stub, request));
    workers.push_back(std::move(worker));
  } else {
    WEFT_ASSIGN_OR_RETURN(
        workers,
        ListAll<v1::Worker>(session, *stub, &v1::WorkerService::Stub::ListWorkers,
                            v1::ListWorkersRequest(), [](auto& r) { return r.mutable_workers(); }));
  }
  PrintResources(session, workers, flags.name.empty(), WorkerTable);
  return absl::OkStatus();
}

absl::Status GetQueues(Session& session, const GetFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::QueueService::NewStub(channel);
  std::vector<v1::Queue> queues;
  if (!flags.name.empty()) {
    v1::GetQueueRequest request;
    request.set_name(absl::StrCat("queues/", absl::StripPrefix(flags.name, "queues/")));
    WEFT_ASSIGN_OR_RETURN(v1::Queue queue,
                          session.Call(&v1::QueueService::Stub::GetQueue, *stub, request));
    queues.push_back(std::move(queue));
  } else {
    WEFT_ASSIGN_OR_RETURN(
        queues,
        ListAll<v1::Queue>(session, *stub, &v1::QueueService::Stub::ListQueues,
                           v1::ListQueuesRequest(), [](auto& r) { return r.mutable_queues(); }));
  }
  PrintResources(session, queues, flags.name.empty(), QueueTable);
  return absl::OkStatus();
}

absl::Status GetCheckpoints(Session& session, const GetFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::CheckpointService::NewStub(channel);
  v1::ListCheckpointsRequest request;
  request.set_parent("jobs/-");
  if (!flags.name.empty()) {
    WEFT_ASSIGN_OR_RETURN(*request.mutable_parent(), session.FindJob(flags.name));
  }
  WEFT_ASSIGN_OR_RETURN(
      const std::vector<v1::Checkpoint> checkpoints,
      ListAll<v1::Checkpoint>(session, *stub, &v1::CheckpointService::Stub::ListCheckpoints,
                              request, [](auto& r) { return r.mutable_checkpoints(); }));
  PrintResources(session, checkpoints, /*as_list=*/true, CheckpointTable);
  return absl::OkStatus();
}

using Getter = absl::Status (*)(Session&, const GetFlags&);

void AddKind(CLI::App& get, Session& session, const char* plural, const char* singular,
             const char* description, const char* argument, Getter getter) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* command = get.add_subcommand(plural, description);
  command->alias(singular);
  command->add_option(argument, flags->name, "Only this one");
  if (getter == &GetJobs) {
    command->add_option(
        "--filter", flags->filter,
        "Terms joined by AND: state=RUNNING, queue=default, spec_name=demo, active=true");
  }
  command->callback([flags, getter, &session] { session.Fail(getter(session, *flags)); });
}

}  // namespace

void AddGet(CLI::App& app, Session& session) {
  CLI::App* get = app.add_subcommand("get", "List resources, or show one of them");
  get->require_subcommand(1);
  AddKind(*get, session, "jobs", "job", "Jobs, newest first", "JOB", &GetJobs);
  AddKind(*get, session, "workers", "worker", "Workers", "WORKER", &GetWorkers);
  AddKind(*get, session, "queues", "queue", "Queues", "QUEUE", &GetQueues);
  AddKind(*get, session, "checkpoints", "checkpoint", "Checkpoints of a job, or of all", "JOB",
          &GetCheckpoints);
}

}  // namespace weft::client

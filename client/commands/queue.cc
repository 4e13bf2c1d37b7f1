// weft create-queue, update-queue, delete-queue.

#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/commands.h"
#include "client/within.h"
#include "common/base/status_macros.h"
#include "weft/v1/queue.grpc.pb.h"

namespace weft::client {
namespace {

struct QueueFlags {
  std::string queue;
  std::optional<int> max_workers = {};
};

std::string QueueName(const std::string& text) {
  return absl::StrCat("queues/", absl::StripPrefix(text, "queues/"));
}

absl::Status Create(Session& session, v1::QueueService::Stub& stub, const QueueFlags& flags,
                    const char* done) {
  v1::CreateQueueRequest request;
  request.mutable_queue()->set_name(QueueName(flags.queue));
  request.mutable_queue()->set_max_workers(flags.max_workers.value_or(0));
  WEFT_ASSIGN_OR_RETURN(const auto queue,
                        session.Call(&v1::QueueService::Stub::CreateQueue, stub, request));
  PrintVerb(queue, QueueName(flags.queue), done, session.output, std::cout);
  return absl::OkStatus();
}

absl::Status Update(Session& session, v1::QueueService::Stub& stub, const QueueFlags& flags,
                    const char* done) {
  // The call sets the whole queue: what is left out would take the limit away.
  if (!flags.max_workers.has_value()) {
    return absl::InvalidArgumentError(
        "--max-workers is required; allowed: a number of workers, or 0 for no limit");
  }
  v1::UpdateQueueRequest request;
  request.mutable_queue()->set_name(QueueName(flags.queue));
  request.mutable_queue()->set_max_workers(*flags.max_workers);
  WEFT_ASSIGN_OR_RETURN(const auto queue,
                        session.Call(&v1::QueueService::Stub::UpdateQueue, stub, request));
  PrintVerb(queue, QueueName(flags.queue), done, session.output, std::cout);
  return absl::OkStatus();
}

absl::Status Delete(Session& session, v1::QueueService::Stub& stub, const QueueFlags& flags,
                    const char* done) {
  v1::DeleteQueueRequest request;
  request.set_name(QueueName(flags.queue));
  WEFT_ASSIGN_OR_RETURN(const auto queue,
                        session.Call(&v1::QueueService::Stub::DeleteQueue, stub, request));
  PrintVerb(queue, QueueName(flags.queue), done, session.output, std::cout);
  return absl::OkStatus();
}

using Verb = absl::Status (*)(Session&, v1::QueueService::Stub&, const QueueFlags&,
                              const char* done);

absl::Status Apply(Session& session, const QueueFlags& flags, Verb verb, const char* done) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::QueueService::NewStub(channel);
  return verb(session, *stub, flags, done);
}

void AddVerb(CLI::App& app, Session& session, const char* name, const char* description,
             const char* done, Verb verb, bool with_limit) {
  auto flags = std::make_shared<QueueFlags>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("QUEUE", flags->queue)->required();
  if (with_limit) {
    command
        ->add_option("--max-workers", flags->max_workers,
                     "How many workers the queue's jobs may use together; 0 for no limit")
        ->check(Within<int>(0));
  }
  command->callback([=, &session] { session.Fail(Apply(session, *flags, verb, done)); });
}

}  // namespace

void AddQueues(CLI::App& app, Session& session) {
  AddVerb(app, session, "create-queue", "Create a queue", "created", &Create, true);
  AddVerb(app, session, "update-queue", "Change a queue's limit", "updated", &Update, true);
  AddVerb(app, session, "delete-queue", "Delete a queue that has no jobs left", "deleted", &Delete,
          false);
}

}  // namespace weft::client

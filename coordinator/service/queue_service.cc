#include "coordinator/service/queue_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/field_violations.h"
#include "coordinator/service/page.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

constexpr char kArguments[] = "queues";

absl::StatusOr<QueueSettings> SettingsOf(const v1::Queue& queue) {
  QueueSettings settings;
  WEFT_ASSIGN_OR_RETURN(settings.name, ParseQueueResource("queue.name", queue.name()));
  if (queue.max_workers() < 0) {
    return InvalidField(
        "queue.max_workers",
        absl::StrCat(queue.max_workers(),
                     " is negative; allowed: 0 for no limit, or a number of workers"));
  }
  settings.max_workers = queue.max_workers();
  return settings;
}

}  // namespace

absl::Status QueueService::Show(const QueueName& name, v1::Queue* response) const {
  const ClusterState& state = context_.driver.state();
  const Queue* const queue = state.FindQueue(name);
  if (queue == nullptr) return NoSuchQueue(state, name);
  *response = ToWire(*queue);
  return absl::OkStatus();
}

void QueueService::Change(const Event& event, const QueueName& name, Reply reply,
                          v1::Queue* response) {
  context_.Handle(event, [this, name, response,
                          reply = std::move(reply)](const absl::StatusOr<JobId>& done) mutable {
    reply.Finish(done.ok() ? Show(name, response) : done.status());
  });
}

grpc::ServerUnaryReactor* QueueService::CreateQueue(grpc::CallbackServerContext* call,
                                                    const v1::CreateQueueRequest* request,
                                                    v1::Queue* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    const absl::StatusOr<QueueSettings> settings = SettingsOf(request->queue());
    if (!settings.ok()) return reply.Finish(settings.status());
    Change(QueueCreateRequested{*settings}, settings->name, std::move(reply), response);
  });
}

grpc::ServerUnaryReactor* QueueService::GetQueue(grpc::CallbackServerContext* call,
                                                 const v1::GetQueueRequest* request,
                                                 v1::Queue* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const QueueName name, ParseQueueResource("name", request->name()));
    return Show(name, response);
  });
}

grpc::ServerUnaryReactor* QueueService::ListQueues(grpc::CallbackServerContext* call,
                                                   const v1::ListQueuesRequest* request,
                                                   v1::ListQueuesResponse* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const Page page,
                          ParsePage(request->page_size(), request->page_token(), kArguments));
    const std::map<QueueName, Queue>& queues = context_.driver.state().queues;
    for (auto it = queues.upper_bound(page.after); it != queues.end(); ++it) {
      if (response->queues_size() == page.size) {
        response->set_next_page_token(MakePageToken(std::prev(it)->first, kArguments));
        break;
      }
      *response->add_queues() = ToWire(it->second);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* QueueService::UpdateQueue(grpc::CallbackServerContext* call,
                                                    const v1::UpdateQueueRequest* request,
                                                    v1::Queue* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    const absl::StatusOr<QueueSettings> settings = SettingsOf(request->queue());
    if (!settings.ok()) return reply.Finish(settings.status());
    Change(QueueUpdateRequested{*settings}, settings->name, std::move(reply), response);
  });
}

grpc::ServerUnaryReactor* QueueService::DeleteQueue(grpc::CallbackServerContext* call,
                                                    const v1::DeleteQueueRequest* request,
                                                    google::protobuf::Empty* /*response*/) {
  return HandleOnLoop(context_.loop, call, [this, request](Reply reply) {
    const absl::StatusOr<QueueName> name = ParseQueueResource("name", request->name());
    if (!name.ok()) return reply.Finish(name.status());
    context_.Handle(QueueDeleteRequested{*name},
                    [reply = std::move(reply)](const absl::StatusOr<JobId>& done) mutable {
                      reply.Finish(done.status());
                    });
  });
}

}  // namespace weft::coordinator

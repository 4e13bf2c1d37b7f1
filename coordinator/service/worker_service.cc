#include "coordinator/service/worker_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/field_violations.h"
#include "coordinator/service/page.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

constexpr char kArguments[] = "workers";
constexpr size_t kMaxReasonBytes = 1000;

}  // namespace

absl::Status WorkerService::Show(const WorkerName& name, v1::Worker* response) const {
  const ClusterState& state = context_.driver.state();
  const Worker* const worker = state.FindWorker(name);
  if (worker == nullptr) {
    return absl::NotFoundError(absl::StrCat("there is no worker ", WorkerResource(name)));
  }
  *response = ToWire(*worker, state);
  return absl::OkStatus();
}

void WorkerService::Change(const Event& event, const WorkerName& name, Reply reply,
                           v1::Worker* response) {
  context_.Handle(event, [this, name, response,
                          reply = std::move(reply)](const absl::StatusOr<JobId>& done) mutable {
    reply.Finish(done.ok() ? Show(name, response) : done.status());
  });
}

grpc::ServerUnaryReactor* WorkerService::ListWorkers(grpc::CallbackServerContext* call,
                                                     const v1::ListWorkersRequest* request,
                                                     v1::ListWorkersResponse* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const Page page,
                          ParsePage(request->page_size(), request->page_token(), kArguments));
    const ClusterState& state = context_.driver.state();
    for (auto it = state.workers.upper_bound(page.after); it != state.workers.end(); ++it) {
      if (response->workers_size() == page.size) {
        response->set_next_page_token(MakePageToken(std::prev(it)->first, kArguments));
        break;
      }
      *response->add_workers() = ToWire(it->second, state);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorkerService::GetWorker(grpc::CallbackServerContext* call,
                                                   const v1::GetWorkerRequest* request,
                                                   v1::Worker* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const WorkerName name, ParseWorkerResource("name", request->name()));
    return Show(name, response);
  });
}

grpc::ServerUnaryReactor* WorkerService::DrainWorker(grpc::CallbackServerContext* call,
                                                     const v1::DrainWorkerRequest* request,
                                                     v1::Worker* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    const absl::StatusOr<WorkerName> name = ParseWorkerResource("name", request->name());
    if (!name.ok()) return reply.Finish(name.status());
    if (request->reason().size() > kMaxReasonBytes) {
      return reply.Finish(InvalidField(
          "reason", absl::StrCat("at most ", kMaxReasonBytes, " characters are allowed")));
    }
    Change(DrainRequested{*name, request->reason(), request->until_restart()}, *name,
           std::move(reply), response);
  });
}

grpc::ServerUnaryReactor* WorkerService::UndrainWorker(grpc::CallbackServerContext* call,
                                                       const v1::UndrainWorkerRequest* request,
                                                       v1::Worker* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    const absl::StatusOr<WorkerName> name = ParseWorkerResource("name", request->name());
    if (!name.ok()) return reply.Finish(name.status());
    Change(UndrainRequested{*name}, *name, std::move(reply), response);
  });
}

}  // namespace weft::coordinator

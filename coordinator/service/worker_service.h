// weft.v1.WorkerService.
#pragma once

#include "coordinator/service/reply.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::coordinator {

class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  // `context` must outlive the server that this service is registered with.
  explicit WorkerService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* call,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* GetWorker(grpc::CallbackServerContext* call,
                                      const v1::GetWorkerRequest* request,
                                      v1::Worker* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* call,
                                        const v1::DrainWorkerRequest* request,
                                        v1::Worker* response) override;
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* call,
                                          const v1::UndrainWorkerRequest* request,
                                          v1::Worker* response) override;

 private:
  [[nodiscard]] absl::Status Show(const WorkerName& name, v1::Worker* response) const;
  // Asks the core for `event` and answers with the worker as it is then.
  void Change(const Event& event, const WorkerName& name, Reply reply, v1::Worker* response);

  const ServiceContext& context_;
};

}  // namespace weft::coordinator

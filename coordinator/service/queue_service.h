// weft.v1.QueueService.
#pragma once

#include "coordinator/service/reply.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/queue.grpc.pb.h"

namespace weft::coordinator {

class QueueService final : public v1::QueueService::CallbackService {
 public:
  // `context` must outlive the server that this service is registered with.
  explicit QueueService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateQueue(grpc::CallbackServerContext* call,
                                        const v1::CreateQueueRequest* request,
                                        v1::Queue* response) override;
  grpc::ServerUnaryReactor* GetQueue(grpc::CallbackServerContext* call,
                                     const v1::GetQueueRequest* request,
                                     v1::Queue* response) override;
  grpc::ServerUnaryReactor* ListQueues(grpc::CallbackServerContext* call,
                                       const v1::ListQueuesRequest* request,
                                       v1::ListQueuesResponse* response) override;
  grpc::ServerUnaryReactor* UpdateQueue(grpc::CallbackServerContext* call,
                                        const v1::UpdateQueueRequest* request,
                                        v1::Queue* response) override;
  grpc::ServerUnaryReactor* DeleteQueue(grpc::CallbackServerContext* call,
                                        const v1::DeleteQueueRequest* request,
                                        google::protobuf::Empty* response) override;

 private:
  // Asks the core for `event` and answers with the queue as it is then.
  void Change(const Event& event, const QueueName& name, Reply reply, v1::Queue* response);
  [[nodiscard]] absl::Status Show(const QueueName& name, v1::Queue* response) const;

  const ServiceContext& context_;
};

}  // namespace weft::coordinator

// weft.v1.CheckpointService.
#pragma once

#include "coordinator/service/service_context.h"
#include "coordinator/service/worker_links.h"
#include "weft/v1/checkpoint.grpc.pb.h"

namespace weft::coordinator {

class CheckpointService final : public v1::CheckpointService::CallbackService {
 public:
  // Both must outlive the server that this service is registered with.
  CheckpointService(const ServiceContext& context, WorkerLinks& links)
      : context_(context), links_(links) {}

  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext* call,
                                            const v1::ListCheckpointsRequest* request,
                                            v1::ListCheckpointsResponse* response) override;
  grpc::ServerWriteReactor<v1::SampleTextResponse>* SampleText(
      grpc::CallbackServerContext* call, const v1::SampleTextRequest* request) override;

 private:
  absl::Status ListPage(const v1::ListCheckpointsRequest& request,
                        v1::ListCheckpointsResponse* response);

  const ServiceContext& context_;
  WorkerLinks& links_;
};

}  // namespace weft::coordinator

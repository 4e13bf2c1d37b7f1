// weft.v1.WorkerLinkService: each call is a LinkStream.
#pragma once

#include "coordinator/service/link_stream.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/worker_link.grpc.pb.h"

namespace weft::coordinator {

class WorkerLinkService final : public v1::WorkerLinkService::CallbackService {
 public:
  // Both must outlive the server that this service is registered with.
  WorkerLinkService(const ServiceContext& context, WorkerLinks& links)
      : context_(context), links_(links) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Connect(
      grpc::CallbackServerContext* /*call*/) override {
    return new LinkStream(context_, links_);
  }

 private:
  const ServiceContext& context_;
  WorkerLinks& links_;
};

}  // namespace weft::coordinator

// weft.v1.JobService.
#pragma once

#include "coordinator/service/reply.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/job.grpc.pb.h"

namespace weft::coordinator {

class JobService final : public v1::JobService::CallbackService {
 public:
  // `context` must outlive the server that this service is registered with.
  explicit JobService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* call,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* call,
                                   const v1::GetJobRequest* request, v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* call,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* call, const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* call,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* call,
                                     const v1::PauseJobRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* call,
                                      const v1::ResumeJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* call,
                                      const v1::DeleteJobRequest* request,
                                      google::protobuf::Empty* response) override;
  grpc::ServerWriteReactor<v1::LogLine>* TailLogs(grpc::CallbackServerContext* call,
                                                  const v1::TailLogsRequest* request) override;
  grpc::ServerUnaryReactor* ListSteps(grpc::CallbackServerContext* call,
                                      const v1::ListStepsRequest* request,
                                      v1::ListStepsResponse* response) override;
  grpc::ServerUnaryReactor* ExplainJob(grpc::CallbackServerContext* call,
                                       const v1::ExplainJobRequest* request,
                                       v1::Explanation* response) override;

 private:
  // The calls that ask the core for one change of one job and answer with the job.
  template <class RequestEvent, class Request>
  grpc::ServerUnaryReactor* ChangeJob(grpc::CallbackServerContext* call, const Request* request,
                                      v1::Job* response);
  void SubmitJob(Reply reply, const v1::CreateJobRequest& request, const v1::JobSpec& spec,
                 v1::Job* response);
  absl::Status ListPage(const v1::ListJobsRequest& request, v1::ListJobsResponse* response);
  absl::Status ReadStepPage(const v1::ListStepsRequest& request, Reply& reply,
                            v1::ListStepsResponse* response);

  const ServiceContext& context_;
};

}  // namespace weft::coordinator

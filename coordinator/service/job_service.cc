#include "coordinator/service/job_service.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/field_violations.h"
#include "coordinator/core/explain.h"
#include "coordinator/service/job_filter.h"
#include "coordinator/service/log_stream.h"
#include "coordinator/service/metric_names.h"
#include "coordinator/service/page.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/watch_stream.h"
#include "coordinator/service/wire.h"
#include "proto/spec/resolve.h"

namespace weft::coordinator {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
// An answer stays below gRPC's default limit of 4 MiB for clients.
constexpr size_t kMaxListBytes = 3 << 20;
// Waiting jobs of a page that say what they wait for; each looks at the whole cluster.
constexpr int kExplainedOfPage = 20;

// The spec with all defaults, or all that is wrong with the request.
absl::StatusOr<v1::JobSpec> CheckRequest(const v1::CreateJobRequest& request) {
  v1::JobSpec spec = request.spec();
  std::vector<FieldViolation> violations;
  if (!request.has_spec()) {
    violations.push_back({"spec", "is required"});
  } else {
    for (spec::Violation& violation : spec::ResolveSpec(spec)) {
      violations.push_back(
          {violation.field.empty() ? "spec" : absl::StrCat("spec.", violation.field),
           std::move(violation.description)});
    }
  }
  if (request.request_id().size() > kMaxRequestIdBytes) {
    violations.push_back(
        {"request_id", absl::StrCat("has ", request.request_id().size(), " characters; at most ",
                                    kMaxRequestIdBytes, " are allowed")});
  }
  if (!violations.empty()) return InvalidFields(violations);
  return spec;
}

}  // namespace

grpc::ServerUnaryReactor* JobService::CreateJob(grpc::CallbackServerContext* call,
                                                const v1::CreateJobRequest* request,
                                                v1::Job* response) {
  // Checked here, not on the loop: it needs nothing of the cluster's state.
  absl::StatusOr<v1::JobSpec> spec = CheckRequest(*request);
  return HandleOnLoop(
      context_.loop, call, [this, request, response, spec = std::move(spec)](Reply reply) {
        if (!spec.ok()) {
          context_.metrics.Add(kSubmissions, {absl::StatusCodeToString(spec.status().code())}, 1);
          return reply.Finish(spec.status());
        }
        SubmitJob(std::move(reply), *request, *spec, response);
      });
}

void JobService::SubmitJob(Reply reply, const v1::CreateJobRequest& request,
                           const v1::JobSpec& spec, v1::Job* response) {
  if (request.validate_only()) {
    const ClusterState& state = context_.driver.state();
    if (state.FindQueue(spec.queue()) == nullptr) {
      return reply.Finish(NoSuchQueue(state, spec.queue()));
    }
    *response->mutable_spec() = spec;
    response->set_state(v1::Job::STATE_QUEUED);
    return reply.Finish(absl::OkStatus());
  }
  context_.Handle(JobSubmitted{RequestOf(spec, request.request_id())},
                  [this, response, reply = std::move(reply)](absl::StatusOr<JobId> id) mutable {
                    context_.metrics.Add(kSubmissions,
                                         {id.ok() ? absl::string_view("accepted")
                                                  : absl::StatusCodeToString(id.status().code())},
                                         1);
                    if (id.ok()) {
                      // A job that was made and deleted within one commit: hardly, but possibly.
                      const Job* const job = context_.driver.state().FindJob(*id);
                      if (job != nullptr) *response = context_.board.View(*job, /*explain=*/true);
                    }
                    reply.Finish(id.status());
                  });
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* call,
                                             const v1::GetJobRequest* request, v1::Job* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const Job* const job, context_.FindJob("name", request->name()));
    *response = context_.board.View(*job, /*explain=*/true);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* call,
                                               const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return AnswerOnLoop(context_.loop, call,
                      [this, request, response] { return ListPage(*request, response); });
}

absl::Status JobService::ListPage(const v1::ListJobsRequest& request,
                                  v1::ListJobsResponse* response) {
  const std::string arguments = absl::StrCat("jobs ", request.filter());
  WEFT_ASSIGN_OR_RETURN(const Page page,
                        ParsePage(request.page_size(), request.page_token(), arguments));
  WEFT_ASSIGN_OR_RETURN(const JobFilter filter, ParseJobFilter(request.filter()));
  const std::map<JobId, Job>& jobs = context_.driver.state().jobs;
  // Newest first: backwards from the job before the last one sent.
  auto it = jobs.end();
  if (int64_t after = 0; absl::SimpleAtoi(page.after, &after)) it = jobs.lower_bound(JobId(after));
  size_t bytes = 0;
  int explained = 0;
  JobId last;
  while (it != jobs.begin()) {
    const Job& job = std::prev(it)->second;
    if (filter.Matches(job)) {
      if (response->jobs_size() == page.size || bytes > kMaxListBytes) {
        response->set_next_page_token(MakePageToken(absl::StrCat(last.value()), arguments));
        break;
      }
      const bool explain = job.state == JobState::kQueued && explained++ < kExplainedOfPage;
      *response->add_jobs() = context_.board.View(job, explain);
      bytes += response->jobs().rbegin()->ByteSizeLong();
      last = job.id;
    }
    --it;
  }
  return absl::OkStatus();
}

template <class RequestEvent, class Request>
grpc::ServerUnaryReactor* JobService::ChangeJob(grpc::CallbackServerContext* call,
                                                const Request* request, v1::Job* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    const absl::StatusOr<const Job*> job = context_.FindJob("name", request->name());
    if (!job.ok()) return reply.Finish(job.status());
    context_.Handle(RequestEvent{(*job)->id},
                    [this, response, reply = std::move(reply)](absl::StatusOr<JobId> id) mutable {
                      if (id.ok()) {
                        const Job* const changed = context_.driver.state().FindJob(*id);
                        if (changed != nullptr) *response = context_.board.View(*changed, true);
                      }
                      reply.Finish(id.status());
                    });
  });
}

grpc::ServerUnaryReactor* JobService::CancelJob(grpc::CallbackServerContext* call,
                                                const v1::CancelJobRequest* request,
                                                v1::Job* response) {
  return ChangeJob<JobCancelRequested>(call, request, response);
}

grpc::ServerUnaryReactor* JobService::PauseJob(grpc::CallbackServerContext* call,
                                               const v1::PauseJobRequest* request,
                                               v1::Job* response) {
  return ChangeJob<JobPauseRequested>(call, request, response);
}

grpc::ServerUnaryReactor* JobService::ResumeJob(grpc::CallbackServerContext* call,
                                                const v1::ResumeJobRequest* request,
                                                v1::Job* response) {
  return ChangeJob<JobResumeRequested>(call, request, response);
}

grpc::ServerUnaryReactor* JobService::DeleteJob(grpc::CallbackServerContext* call,
                                                const v1::DeleteJobRequest* request,
                                                google::protobuf::Empty* /*response*/) {
  return HandleOnLoop(context_.loop, call, [this, request](Reply reply) {
    const absl::StatusOr<const Job*> job = context_.FindJob("name", request->name());
    if (!job.ok()) return reply.Finish(job.status());
    const JobId id = (*job)->id;
    context_.Handle(JobDeleteRequested{id},
                    [this, id, name = (*job)->name,
                     reply = std::move(reply)](const absl::StatusOr<JobId>& done) mutable {
                      if (done.ok()) context_.archive.Delete(id, name);
                      reply.Finish(done.status());
                    });
  });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobService::WatchJob(
    grpc::CallbackServerContext* /*call*/, const v1::WatchJobRequest* request) {
  return new WatchStream(context_, *request);
}

grpc::ServerWriteReactor<v1::LogLine>* JobService::TailLogs(grpc::CallbackServerContext* /*call*/,
                                                            const v1::TailLogsRequest* request) {
  return new LogStream(context_, *request);
}

grpc::ServerUnaryReactor* JobService::ListSteps(grpc::CallbackServerContext* call,
                                                const v1::ListStepsRequest* request,
                                                v1::ListStepsResponse* response) {
  return HandleOnLoop(context_.loop, call, [this, request, response](Reply reply) {
    // When it is OK the archive answers, and owns the reply.
    const absl::Status status = ReadStepPage(*request, reply, response);
    if (!status.ok()) reply.Finish(status);
  });
}

absl::Status JobService::ReadStepPage(const v1::ListStepsRequest& request, Reply& reply,
                                      v1::ListStepsResponse* response) {
  WEFT_ASSIGN_OR_RETURN(const Job* const job, context_.FindJob("name", request.name()));
  if (request.max_points() < 0) {
    return InvalidField("max_points", "is negative; allowed: 0 for all, or a number of points");
  }
  std::string arguments = absl::StrCat("steps ", request.name(), " ", request.max_points());
  WEFT_ASSIGN_OR_RETURN(const Page page,
                        ParsePage(request.page_size(), request.page_token(), arguments,
                                  {.default_size = 1000, .max_size = 10000}));
  int64_t after = 0;
  if (!absl::SimpleAtoi(page.after, &after)) after = 0;
  context_.archive.ReadSteps(
      job->id, after, int64_t{page.size} + 1, request.max_points(),
      [page, arguments = std::move(arguments), response,
       reply = std::move(reply)](absl::StatusOr<std::vector<v1::StepReport>> steps) mutable {
        if (!steps.ok()) return reply.Finish(steps.status());
        if (steps->size() > static_cast<size_t>(page.size)) {
          steps->pop_back();
          response->set_next_page_token(
              MakePageToken(absl::StrCat(steps->back().step()), arguments));
        }
        for (v1::StepReport& step : *steps) *response->add_steps() = std::move(step);
        reply.Finish(absl::OkStatus());
      });
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* JobService::ExplainJob(grpc::CallbackServerContext* call,
                                                 const v1::ExplainJobRequest* request,
                                                 v1::Explanation* response) {
  return AnswerOnLoop(context_.loop, call, [this, request, response]() -> absl::Status {
    WEFT_ASSIGN_OR_RETURN(const Job* const job, context_.FindJob("name", request->name()));
    WEFT_ASSIGN_OR_RETURN(const Explanation explanation,
                          Explain(context_.driver.state(), job->id, context_.loop.clock().Now()));
    *response = ToWire(explanation, *job);
    return absl::OkStatus();
  });
}

}  // namespace weft::coordinator

#include "client/session.h"

#include <iostream>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/address.h"
#include "common/base/status_macros.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/tls_credentials.h"
#include "common/tls/tls_probe.h"

namespace weft::client {
namespace {

// How long one of several coordinators is waited for before the next one is looked at.
constexpr absl::Duration kLook = absl::Milliseconds(10);

bool EndsWithNumber(absl::string_view id) {
  const size_t dash = id.rfind('-');
  if (dash == absl::string_view::npos || dash + 1 == id.size()) return false;
  for (const char c : id.substr(dash + 1)) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return true;
}

}  // namespace

void Session::Fail(const absl::Status& status) {
  if (status.ok()) return;
  std::vector<std::string> lines = absl::StrSplit(std::string(status.message()), '\n');
  if (lines.size() == 1) {
    std::cerr << "weft: " << lines.front() << '\n';
  } else {
    std::string subject;  // of all that follows: "job.yaml: "
    if (absl::EndsWith(lines.front(), ":")) {
      subject = absl::StrCat(lines.front(), " ");
      lines.erase(lines.begin());
    }
    std::cerr << "weft: " << subject << lines.size()
              << (lines.size() == 1 ? " problem:\n" : " problems:\n");
    for (const std::string& line : lines) std::cerr << "  " << line << '\n';
  }
  exit_code = weft::ExitCodeOf(status.code());
}

std::shared_ptr<grpc::Channel> Session::ChannelTo(const std::string& address) const {
  ChannelOptions options;
  options.retried_methods = {
      "weft.v1.JobService/GetJob",       "weft.v1.JobService/ListJobs",
      "weft.v1.JobService/CreateJob",    "weft.v1.JobService/ListSteps",
      "weft.v1.JobService/ExplainJob",   "weft.v1.WorkerService/ListWorkers",
      "weft.v1.QueueService/ListQueues", "weft.v1.CheckpointService/ListCheckpoints"};
  options.credentials = credentials_;
  options.tls_name = cluster_.tls_name;
  return NewChannel(address, options);
}

absl::StatusOr<Context> Session::Cluster() const {
  if (local_address_.empty()) return ResolveContext(flags, context_flag);
  Context local;
  local.address = local_address_;
  return local;
}

absl::Status Session::RefusalOf(const std::string& address) const {
  TlsProbe probe;
  probe.address = address;
  probe.files = cluster_.tls;
  probe.name = cluster_.tls_name;
  const std::string why = ExplainTls(probe);
  if (why.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("no connection to the coordinator at ", address, ": ", why));
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Session::Connect() {
  if (channel_ != nullptr) return channel_;
  WEFT_ASSIGN_OR_RETURN(cluster_, Cluster());
  if (credentials_ == nullptr) {
    WEFT_ASSIGN_OR_RETURN(credentials_, NewChannelCredentials(cluster_.tls));
  }
  address_ = cluster_.address;
  const std::vector<std::string> addresses = absl::StrSplit(cluster_.address, ',');
  if (addresses.size() == 1) {
    channel_ = ChannelTo(addresses.front());
    return channel_;
  }
  // Of several replicas one leads, and only that one takes connections. All are asked at the same
  // time: one that hangs keeps nobody from the one that leads.
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  channels.reserve(addresses.size());
  for (const std::string& address : addresses) channels.push_back(ChannelTo(address));
  std::vector<grpc_connectivity_state> seen(channels.size(), GRPC_CHANNEL_IDLE);
  const absl::Time deadline = absl::Now() + timeout;
  while (absl::Now() < deadline) {
    for (size_t i = 0; i < channels.size(); ++i) {
      const auto state = channels[i]->GetState(/*try_to_connect=*/true);
      if (state == GRPC_CHANNEL_READY) {
        address_ = addresses[i];
        channel_ = channels[i];
        return channel_;
      }
      // A certificate that does not do is no better when somebody leads.
      if (std::exchange(seen[i], state) != state && state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
        WEFT_RETURN_IF_ERROR(RefusalOf(addresses[i]));
      }
      // Not a sleep: a channel makes progress only while somebody waits for one.
      channels[i]->WaitForStateChange(state, absl::ToChronoTime(absl::Now() + kLook));
    }
  }
  return absl::UnavailableError(absl::StrCat("no answer from the coordinators at ", address_));
}

void Session::Prepare(grpc::ClientContext& context) const { SetTimeout(context, timeout); }

absl::Status Session::Finished(const grpc::Status& status) const {
  absl::Status result = FromGrpc(status);
  // We cancel nothing: the coordinator stops, and another one, or the same, will answer.
  if (absl::IsCancelled(result)) result = absl::UnavailableError("it stops");
  if (!absl::IsUnavailable(result)) return result;
  WEFT_RETURN_IF_ERROR(RefusalOf(address_));
  return Annotate(result, absl::StrCat("no answer from the coordinator at ", address_));
}

std::string Session::Away() const {
  return absl::StrCat("no answer from the coordinator at ", address_, "; trying again");
}

absl::StatusOr<std::string> Session::FindJob(const std::string& text) {
  const std::string id(absl::StripPrefix(text, "jobs/"));
  WEFT_ASSIGN_OR_RETURN(auto channel, Connect());
  auto stub = v1::JobService::NewStub(channel);
  if (EndsWithNumber(id)) {
    v1::GetJobRequest request;
    request.set_name(absl::StrCat("jobs/", id));
    const auto job = Call(&v1::JobService::Stub::GetJob, *stub, request);
    if (job.ok()) return request.name();
    // "exp-2" may be a spec's name as well, whose jobs are exp-2-1 and so on.
    if (!absl::IsNotFound(job.status()) || id != text) return job.status();
  }
  v1::ListJobsRequest request;
  request.set_page_size(1);
  request.set_filter(absl::StrCat("spec_name=", id));
  WEFT_ASSIGN_OR_RETURN(const v1::ListJobsResponse found,
                        Call(&v1::JobService::Stub::ListJobs, *stub, request));
  if (found.jobs().empty()) return absl::NotFoundError(absl::StrCat("no job is called '", id, "'"));
  return found.jobs(0).name();
}

ExitCode ExitCodeOf(const v1::Job& job) {
  switch (job.state()) {
    case v1::Job::STATE_FAILED:
      return kExitJobFailed;
    case v1::Job::STATE_CANCELLED:
      return kExitJobCancelled;
    default:
      return kExitOk;
  }
}

bool HasEnded(const v1::Job& job) {
  return job.state() == v1::Job::STATE_SUCCEEDED || job.state() == v1::Job::STATE_FAILED ||
         job.state() == v1::Job::STATE_CANCELLED;
}

std::string StateName(v1::Job::State state) {
  return std::string(absl::StripPrefix(v1::Job::State_Name(state), "STATE_"));
}

}  // namespace weft::client

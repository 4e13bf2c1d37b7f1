// What every command needs: the global options, the connection, and one way to fail.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/contexts.h"
#include "client/output.h"
#include "common/base/exit_codes.h"
#include "weft/v1/job.grpc.pb.h"

namespace weft::client {

// Lives for one command, on the main thread.
class Session {
 public:
  // Bound to the global flags.
  Context flags;  // --address, --tls-ca, --tls-cert, --tls-key, --tls-name
  std::string context_flag;
  OutputFormat output = OutputFormat::kTable;
  absl::Duration timeout = absl::Seconds(10);  // of a unary call

  // How the command ended; main returns it.
  ExitCode exit_code = kExitOk;

  // Prints "weft: …" on standard error and sets the exit code. Does nothing for OK.
  void Fail(const absl::Status& status);

  // The channel, made at the first call.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect();
  // Forgets the channel: the next Connect looks for a replica that serves.
  void Disconnect() { channel_ = nullptr; }
  // Of a cluster that this process started itself, on this machine: not encrypted.
  void UseLocal(const std::string& address) { local_address_ = address; }
  // The addresses in use, as they were given. Empty before Connect.
  [[nodiscard]] const std::string& address() const { return address_; }

  // One unary call with the session's deadline:
  //   Call(&v1::JobService::Stub::GetJob, *stub, request) -> StatusOr<v1::Job>.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                Stub& stub, const Request& request) {
    grpc::ClientContext context;
    Prepare(context);
    Response response;
    const absl::Status status = Finished((stub.*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // Gives a unary call its deadline.
  void Prepare(grpc::ClientContext& context) const;
  // The call's status; when nobody answered, with the address and, if TLS is why, the reason.
  [[nodiscard]] absl::Status Finished(const grpc::Status& status) const;
  // What a command says that goes on when the coordinator is back.
  [[nodiscard]] std::string Away() const;

  // jobs/{id} from what a person types: an id ("demo-3"), a full name, or a spec's name ("demo"),
  // which stands for the newest job with it. What is both is the id. kNotFound when there is none.
  absl::StatusOr<std::string> FindJob(const std::string& text);

 private:
  [[nodiscard]] absl::StatusOr<Context> Cluster() const;
  [[nodiscard]] std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) const;
  // The error of a coordinator that TLS keeps us from; OK when TLS does not, or nobody is there.
  [[nodiscard]] absl::Status RefusalOf(const std::string& address) const;

  std::string local_address_;
  Context cluster_;                                        // that Connect has found
  std::shared_ptr<grpc::ChannelCredentials> credentials_;  // null: not encrypted
  std::string address_;  // for error texts: the one in use, or all of them
  std::shared_ptr<grpc::Channel> channel_;
};

// The exit code of a job's final state: 0, 10 or 11.
ExitCode ExitCodeOf(const v1::Job& job);
bool HasEnded(const v1::Job& job);
// "RUNNING".
std::string StateName(v1::Job::State state);

}  // namespace weft::client

// Client channels as every process of ours wants them: keep-alive that notices a dead peer, bounded
// reconnection pauses, and retries only where they are safe.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace weft {

struct ChannelOptions {
  // Methods that may be sent again when the answer was UNAVAILABLE: "weft.v1.JobService/GetJob".
  // Only such whose repetition does no harm.
  std::vector<std::string> retried_methods;
  int max_attempts = 4;  // 1 to 5, the first one included
  // A silent peer is asked for a sign of life after this time, and given up after another.
  absl::Duration keepalive = absl::Seconds(10);
  absl::Duration max_reconnect_pause = absl::Seconds(2);
  // How long making a connection may take before it is tried anew: some four round trips with TLS,
  // and those of a busy host or another continent are long.
  absl::Duration connect_limit = absl::Seconds(2);
  int max_receive_bytes = 64 << 20;
  // Null: not encrypted. Else NewChannelCredentials (tls_credentials.h).
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // The name that the server's certificate must have; empty: the host of the address.
  std::string tls_name;
};

// Does not wait for a connection. `address` is host:port, or unix:path.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          const ChannelOptions& options = {});

// Every call has a deadline: the call fails with DEADLINE_EXCEEDED after `timeout`.
void SetTimeout(grpc::ClientContext& context, absl::Duration timeout);

}  // namespace weft

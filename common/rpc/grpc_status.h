// The only conversion between absl::Status and grpc::Status. Payloads of a status travel as the
// details of a google.rpc.Status, the standard of rich errors.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace weft {

grpc::Status ToGrpc(const absl::Status& status);
// Details that cannot be read are dropped; code and message stay.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace weft

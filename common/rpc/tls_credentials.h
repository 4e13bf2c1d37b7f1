// TLS of servers and channels, from PEM files that are read again when they change: a renewed
// certificate or authority is used for every connection from then on, and no connection ends.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tls/tls_files.h"

namespace weft {

// How often the files are looked at.
inline constexpr absl::Duration kTlsRefresh = absl::Seconds(2);

// For a server: `cert` and `key` are needed; with `ca`, clients must show a certificate that one of
// its authorities has signed. Null, which means plain, for no files. Errors: CheckTlsFiles.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> NewServerCredentials(
    const TlsFiles& files);

// For channels: `ca` is needed; `cert` and `key` are shown to servers that ask. Null for no files.
// One object serves all channels of a process: each has a thread that watches the files.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> NewChannelCredentials(
    const TlsFiles& files);

}  // namespace weft

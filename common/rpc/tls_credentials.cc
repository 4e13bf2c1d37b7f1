#include "common/rpc/tls_credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"

namespace weft {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

std::shared_ptr<FileWatcherCertificateProvider> Watch(const TlsFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(
      files.key, files.cert, files.ca,
      static_cast<unsigned int>(absl::ToInt64Seconds(kTlsRefresh)));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> NewServerCredentials(
    const TlsFiles& files) {
  if (files.empty()) return nullptr;
  if (files.cert.empty() && files.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.ca_name, ": needs tls_cert and tls_key beside it"));
  }
  WEFT_RETURN_IF_ERROR(CheckTlsFiles(files, absl::Now()));
  grpc::experimental::TlsServerCredentialsOptions options(Watch(files));
  options.watch_identity_key_cert_pairs();
  if (!files.ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> NewChannelCredentials(
    const TlsFiles& files) {
  if (files.empty()) return nullptr;
  if (files.ca.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        files.ca_name, ": is needed beside tls_cert and tls_key, to know the server by"));
  }
  WEFT_RETURN_IF_ERROR(CheckTlsFiles(files, absl::Now()));
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(files));
  options.watch_root_certs();
  if (!files.cert.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace weft

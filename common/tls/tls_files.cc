#include "common/tls/tls_files.h"

#include <openssl/x509.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/tls/openssl_objects.h"

namespace weft {
namespace {

constexpr int64_t kLargestFile = 4 << 20;  // every authority of the world fits into less

absl::Status Invalid(absl::string_view name, absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", path, ": ", what));
}

absl::StatusOr<std::string> Read(absl::string_view name, const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(RealFileSystem(), path, kLargestFile);
  if (!text.ok()) return Annotate(text.status(), name);
  return text;
}

absl::StatusOr<std::vector<OpensslPtr<X509>>> ReadCertificates(absl::string_view name,
                                                               const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, Read(name, path));
  std::vector<OpensslPtr<X509>> certificates = CertificatesOf(text);
  if (certificates.empty()) return Invalid(name, path, "holds no certificate in PEM form");
  return certificates;
}

absl::Status CheckOwn(const TlsFiles& files, absl::Time now) {
  if (files.key.empty()) {
    return absl::InvalidArgumentError(
        "tls_key: the certificate of tls_cert needs its key; give both or none");
  }
  if (files.cert.empty()) {
    return absl::InvalidArgumentError(
        "tls_cert: the key of tls_key needs its certificate; give both or none");
  }
  WEFT_ASSIGN_OR_RETURN(const auto certificates, ReadCertificates("tls_cert", files.cert));
  WEFT_ASSIGN_OR_RETURN(const std::string text, Read("tls_key", files.key));
  const OpensslPtr<EVP_PKEY> key = KeyOf(text);
  if (key == nullptr) {
    return Invalid("tls_key", files.key, "holds no private key in PEM form without a password");
  }
  X509& own = *certificates.front();
  if (X509_check_private_key(&own, key.get()) != 1) {
    TakeOpensslError();
    return Invalid("tls_key", files.key,
                   absl::StrCat("is not the key of the certificate in ", files.cert));
  }
  if (ValidUntil(own) <= now) {
    return Invalid("tls_cert", files.cert,
                   absl::StrCat("the certificate has expired at ",
                                absl::FormatTime(ValidUntil(own), absl::UTCTimeZone())));
  }
  if (ValidFrom(own) > now) {
    return Invalid("tls_cert", files.cert,
                   absl::StrCat("the certificate is not valid before ",
                                absl::FormatTime(ValidFrom(own), absl::UTCTimeZone())));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files, absl::Time now) {
  if (!files.ca.empty()) {
    WEFT_RETURN_IF_ERROR(ReadCertificates(files.ca_name, files.ca).status());
  }
  if (!files.cert.empty() || !files.key.empty()) return CheckOwn(files, now);
  return absl::OkStatus();
}

absl::StatusOr<absl::Time> CertificateExpiry(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const auto certificates, ReadCertificates("tls_cert", path));
  return ValidUntil(*certificates.front());
}

}  // namespace weft

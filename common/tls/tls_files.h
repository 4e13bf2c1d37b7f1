// The PEM files by which a process shows who it is and knows whom to trust, and what can be wrong
// with them, in a sentence each.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weft {

struct TlsFiles {
  std::string ca;    // certificates of the authorities that the other side's certificate is from
  std::string cert;  // our own certificate, then those between it and the authority
  std::string key;   // of our certificate, without a password
  // What the user calls the first of them; the others are tls_cert and tls_key.
  std::string ca_name = "tls_ca";

  // Whether there is any: without, connections are not encrypted.
  [[nodiscard]] bool empty() const { return ca.empty() && cert.empty() && key.empty(); }

  friend bool operator==(const TlsFiles&, const TlsFiles&) = default;
};

// Whether these files can be used at `now`. Each error is one sentence with the name of the setting
// and the path: a file that is missing or cannot be read (kNotFound, kPermissionDenied, ...), that
// holds no certificate or no key, a certificate without its key, a key of another certificate,
// a certificate that has expired or is not valid yet (kInvalidArgument).
absl::Status CheckTlsFiles(const TlsFiles& files, absl::Time now);

// When the certificate of a PEM file ends to be valid. Errors as above.
absl::StatusOr<absl::Time> CertificateExpiry(const std::string& path);

}  // namespace weft

// TestAuthority: a certificate authority of a test's own, and the certificates that it signs.
#pragma once

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/tls/openssl_objects.h"
#include "common/tls/tls_files.h"

namespace weft::testing {

// PEM texts.
struct TestCertificate {
  std::string cert;
  std::string key;
};

struct TestSubject {
  std::vector<std::string> names = {"IP:127.0.0.1", "DNS:localhost"};  // as OpenSSL writes them
  absl::Time from = absl::Now() - absl::Hours(1);
  absl::Time until = absl::Now() + absl::Hours(1);
};

class TestAuthority {
 public:
  TestAuthority();

  [[nodiscard]] const std::string& cert() const { return cert_; }  // PEM
  TestCertificate Issue(const TestSubject& subject = {});
  // Writes ca.crt, tls.crt and tls.key of a new certificate into `directory`, each whole or not at
  // all, over those that are there.
  TlsFiles IssueTo(const std::string& directory, const TestSubject& subject = {});

 private:
  OpensslPtr<EVP_PKEY> key_;
  OpensslPtr<X509> certificate_;
  std::string cert_;
  int64_t serial_ = 1;
};

// Flags of our programs: a coordinator that serves everybody; one that asks for certificates of the
// same authority; a worker or a client.
std::vector<std::string> ServerTlsFlags(const TlsFiles& files);
std::vector<std::string> MutualTlsFlags(const TlsFiles& files);
std::vector<std::string> CallerTlsFlags(const TlsFiles& files);

// Replaces a file in one step, as Kubernetes does with those of a Secret.
void ReplaceFile(const std::string& path, const std::string& text);

}  // namespace weft::testing

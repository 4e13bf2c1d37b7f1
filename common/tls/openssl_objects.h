// OpenSSL's objects with owners, and its errors as words. Only for the files of this folder.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weft {

struct OpensslDelete {
  void operator()(BIO* object) const { BIO_free_all(object); }
  void operator()(EVP_PKEY* object) const { EVP_PKEY_free(object); }
  void operator()(SSL* object) const { SSL_free(object); }
  void operator()(SSL_CTX* object) const { SSL_CTX_free(object); }
  void operator()(X509* object) const { X509_free(object); }
};
template <typename T>
using OpensslPtr = std::unique_ptr<T, OpensslDelete>;

// Every certificate of a PEM text, in its order; empty when there is none that can be read.
std::vector<OpensslPtr<X509>> CertificatesOf(absl::string_view pem);
// The private key of a PEM text; null when there is none that can be read without a password.
OpensslPtr<EVP_PKEY> KeyOf(absl::string_view pem);

// From when and until when a certificate holds.
absl::Time ValidFrom(const X509& certificate);
absl::Time ValidUntil(const X509& certificate);
// The DNS names and IP addresses that a certificate is for, comma separated; without any, its
// common name.
std::string NamesOf(const X509& certificate);

// The reason of the oldest error that this thread's OpenSSL has kept; all of them are forgotten.
std::string TakeOpensslError();

}  // namespace weft

#include "common/tls/openssl_objects.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weft {
namespace {

OpensslPtr<BIO> Reader(absl::string_view text) {
  return OpensslPtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Asked for the password of a key: there is nobody to type one.
int NoPassword(char* /*buffer*/, int /*size*/, int /*writes*/, void* /*data*/) { return -1; }

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string TextOf(const ASN1_STRING& text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(&text)),
                     static_cast<size_t>(ASN1_STRING_length(&text)));
}

std::string AddressOf(const ASN1_OCTET_STRING& bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = ASN1_STRING_length(&bytes) == 4 ? AF_INET : AF_INET6;
  return inet_ntop(family, ASN1_STRING_get0_data(&bytes), text.data(), text.size()) == nullptr
             ? ""
             : text.data();
}

}  // namespace

std::vector<OpensslPtr<X509>> CertificatesOf(absl::string_view pem) {
  const OpensslPtr<BIO> reader = Reader(pem);
  std::vector<OpensslPtr<X509>> found;
  while (true) {
    OpensslPtr<X509> one(PEM_read_bio_X509(reader.get(), nullptr, NoPassword, nullptr));
    if (one == nullptr) break;
    found.push_back(std::move(one));
  }
  ERR_clear_error();  // the end of the text is one
  return found;
}

OpensslPtr<EVP_PKEY> KeyOf(absl::string_view pem) {
  const OpensslPtr<BIO> reader = Reader(pem);
  OpensslPtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  return key;
}

absl::Time ValidFrom(const X509& certificate) { return TimeOf(X509_get0_notBefore(&certificate)); }

absl::Time ValidUntil(const X509& certificate) { return TimeOf(X509_get0_notAfter(&certificate)); }

std::string NamesOf(const X509& certificate) {
  std::vector<std::string> names;
  auto* alternatives = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives, i);
    if (name->type == GEN_DNS) names.push_back(TextOf(*name->d.dNSName));
    if (name->type == GEN_IPADD) names.push_back(AddressOf(*name->d.iPAddress));
  }
  GENERAL_NAMES_free(alternatives);
  if (names.empty()) {
    const X509_NAME* subject = X509_get_subject_name(&certificate);
    const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index >= 0) {
      names.push_back(TextOf(*X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index))));
    }
  }
  return absl::StrJoin(names, ", ");
}

std::string TakeOpensslError() {
  const unsigned long error = ERR_get_error();  // NOLINT(google-runtime-int): OpenSSL's type
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  return reason == nullptr ? "" : reason;
}

}  // namespace weft

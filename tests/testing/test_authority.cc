#include "tests/testing/test_authority.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/check.h"
#include "common/file/durable_file.h"

namespace weft::testing {
namespace {

OpensslPtr<EVP_PKEY> NewKey() {
  OpensslPtr<EVP_PKEY> key(EVP_EC_gen("P-256"));
  WEFT_CHECK(key != nullptr);
  return key;
}

std::string TextOf(BIO* memory) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(memory, &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string PemOf(X509* certificate) {
  const OpensslPtr<BIO> memory(BIO_new(BIO_s_mem()));
  WEFT_CHECK(PEM_write_bio_X509(memory.get(), certificate) == 1);
  return TextOf(memory.get());
}

std::string PemOf(EVP_PKEY* key) {
  const OpensslPtr<BIO> memory(BIO_new(BIO_s_mem()));
  WEFT_CHECK(PEM_write_bio_PrivateKey(memory.get(), key, nullptr, nullptr, 0, nullptr, nullptr) ==
             1);
  return TextOf(memory.get());
}

void AddExtension(X509* certificate, int kind, const std::string& value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
  WEFT_CHECK_MSG(extension != nullptr, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

OpensslPtr<X509> NewCertificate(const std::string& common_name, int64_t serial, EVP_PKEY* key,
                                absl::Time from, absl::Time until) {
  OpensslPtr<X509> made(X509_new());
  X509_set_version(made.get(), X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(made.get()), serial);
  ASN1_TIME_set(X509_getm_notBefore(made.get()), absl::ToTimeT(from));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), absl::ToTimeT(until));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  X509_set_pubkey(made.get(), key);
  return made;
}

// Two authorities of the same name would be taken for one that has changed its key.
std::string NewAuthorityName() {
  uint32_t number = 0;
  WEFT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&number), sizeof(number)) == 1);
  return absl::StrCat("test authority ", number);
}

}  // namespace

TestAuthority::TestAuthority()
    : key_(NewKey()),
      certificate_(NewCertificate(NewAuthorityName(), 1, key_.get(), absl::Now() - absl::Hours(2),
                                  absl::Now() + absl::Hours(2))) {
  X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
  AddExtension(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate_.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  WEFT_CHECK(X509_sign(certificate_.get(), key_.get(), EVP_sha256()) > 0);
  cert_ = PemOf(certificate_.get());
}

TestCertificate TestAuthority::Issue(const TestSubject& subject) {
  const OpensslPtr<EVP_PKEY> key = NewKey();
  const OpensslPtr<X509> made =
      NewCertificate("weft test", ++serial_, key.get(), subject.from, subject.until);
  X509_set_issuer_name(made.get(), X509_get_subject_name(certificate_.get()));
  AddExtension(made.get(), NID_basic_constraints, "critical,CA:FALSE");
  AddExtension(made.get(), NID_ext_key_usage, "serverAuth,clientAuth");
  if (!subject.names.empty()) {
    AddExtension(made.get(), NID_subject_alt_name, absl::StrJoin(subject.names, ","));
  }
  WEFT_CHECK(X509_sign(made.get(), key_.get(), EVP_sha256()) > 0);
  return {PemOf(made.get()), PemOf(key.get())};
}

TlsFiles TestAuthority::IssueTo(const std::string& directory, const TestSubject& subject) {
  std::filesystem::create_directories(directory);
  const TestCertificate issued = Issue(subject);
  TlsFiles files;
  files.ca = JoinPath(directory, "ca.crt");
  files.cert = JoinPath(directory, "tls.crt");
  files.key = JoinPath(directory, "tls.key");
  ReplaceFile(files.ca, cert_);
  ReplaceFile(files.cert, issued.cert);
  ReplaceFile(files.key, issued.key);
  return files;
}

std::vector<std::string> ServerTlsFlags(const TlsFiles& files) {
  return {"--tls-cert", files.cert, "--tls-key", files.key};
}

std::vector<std::string> MutualTlsFlags(const TlsFiles& files) {
  std::vector<std::string> flags = ServerTlsFlags(files);
  flags.insert(flags.end(), {"--tls-client-ca", files.ca});
  return flags;
}

std::vector<std::string> CallerTlsFlags(const TlsFiles& files) {
  return {"--tls-ca", files.ca, "--tls-cert", files.cert, "--tls-key", files.key};
}

void ReplaceFile(const std::string& path, const std::string& text) {
  WEFT_CHECK_MSG(WriteFileDurably(RealFileSystem(), path, text).ok(), path);
}

}  // namespace weft::testing

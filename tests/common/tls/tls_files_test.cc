#include "common/tls/tls_files.h"

#include <openssl/pem.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_authority.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::IsOk;
using weft::testing::ReplaceFile;
using weft::testing::StatusIs;
using weft::testing::TestAuthority;

class TlsFilesTest : public ::testing::Test {
 protected:
  // The one sentence for these files.
  std::string Wrong(absl::Time now = absl::Now()) const {
    const absl::Status status = CheckTlsFiles(files_, now);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
    return std::string(status.message());
  }

  const weft::testing::TempDir directory_;
  TestAuthority authority_;
  TlsFiles files_ = authority_.IssueTo(directory_.path().string());
};

TEST_F(TlsFilesTest, FilesThatFitAreAccepted) {
  EXPECT_THAT(CheckTlsFiles(files_, absl::Now()), IsOk());
  EXPECT_FALSE(files_.empty());
  TlsFiles only_authority;
  only_authority.ca = files_.ca;
  EXPECT_THAT(CheckTlsFiles(only_authority, absl::Now()), IsOk());
  EXPECT_TRUE(TlsFiles().empty());
  EXPECT_THAT(CheckTlsFiles(TlsFiles(), absl::Now()), IsOk());
}

TEST_F(TlsFilesTest, AMissingFileIsNamedWithItsSetting) {
  std::filesystem::remove(files_.key);
  EXPECT_THAT(
      CheckTlsFiles(files_, absl::Now()),
      StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("tls_key: "), HasSubstr(files_.key))));
  std::filesystem::remove(files_.cert);
  EXPECT_THAT(Wrong(), AllOf(HasSubstr("tls_cert: "), HasSubstr(files_.cert)));
  std::filesystem::remove(files_.ca);
  files_.ca_name = "tls_client_ca";
  EXPECT_THAT(Wrong(), AllOf(HasSubstr("tls_client_ca: "), HasSubstr(files_.ca)));
}

TEST_F(TlsFilesTest, AFileThatCannotBeReadIsNamed) {
  files_.key = directory_.path().string();  // a folder: nobody can read it, root neither
  EXPECT_THAT(Wrong(), AllOf(HasSubstr("tls_key: "), HasSubstr("cannot read")));
}

TEST_F(TlsFilesTest, AFileOfAnotherFormIsNamed) {
  ReplaceFile(files_.key, "no key\n");
  EXPECT_EQ(Wrong(), absl::StrCat("tls_key: ", files_.key,
                                  ": holds no private key in PEM form without a password"));
  ReplaceFile(files_.cert, "no certificate\n");
  EXPECT_EQ(Wrong(), absl::StrCat("tls_cert: ", files_.cert, ": holds no certificate in PEM form"));
  ReplaceFile(files_.ca, "");
  EXPECT_EQ(Wrong(), absl::StrCat("tls_ca: ", files_.ca, ": holds no certificate in PEM form"));
}

TEST_F(TlsFilesTest, AKeyWithAPasswordIsRefusedWithoutAskingForIt) {
  const OpensslPtr<EVP_PKEY> key(EVP_EC_gen("P-256"));
  const OpensslPtr<BIO> memory(BIO_new(BIO_s_mem()));
  const std::string password = "secret";
  PEM_write_bio_PrivateKey(memory.get(), key.get(), EVP_aes_128_cbc(),
                           reinterpret_cast<const unsigned char*>(password.data()),
                           static_cast<int>(password.size()), nullptr, nullptr);
  char* text = nullptr;
  const auto size = BIO_get_mem_data(memory.get(), &text);
  ReplaceFile(files_.key, std::string(text, static_cast<size_t>(size)));
  EXPECT_THAT(Wrong(), HasSubstr("without a password"));
}

TEST_F(TlsFilesTest, AKeyOfAnotherCertificateIsRefused) {
  ReplaceFile(files_.key, authority_.Issue().key);
  EXPECT_EQ(Wrong(), absl::StrCat("tls_key: ", files_.key,
                                  ": is not the key of the certificate in ", files_.cert));
}

TEST_F(TlsFilesTest, ACertificateHoldsFromItsFirstToItsLastMoment) {
  const absl::Time from = absl::FromUnixSeconds(1700000000);
  files_ = authority_.IssueTo(directory_.path().string(),
                              {.from = from, .until = from + absl::Hours(1)});
  EXPECT_THAT(CheckTlsFiles(files_, from), IsOk());
  EXPECT_THAT(CheckTlsFiles(files_, from + absl::Minutes(59)), IsOk());
  EXPECT_EQ(Wrong(from + absl::Hours(1)),
            absl::StrCat("tls_cert: ", files_.cert,
                         ": the certificate has expired at 2023-11-14T23:13:20+00:00"));
  EXPECT_THAT(Wrong(from - absl::Seconds(1)),
              HasSubstr("the certificate is not valid before 2023-11-14T22:13:20+00:00"));
  EXPECT_EQ(CertificateExpiry(files_.cert).value(), from + absl::Hours(1));
}

TEST_F(TlsFilesTest, ACertificateAndItsKeyComeTogether) {
  TlsFiles half = files_;
  half.key.clear();
  EXPECT_THAT(CheckTlsFiles(half, absl::Now()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls_key: ")));
  half = files_;
  half.cert.clear();
  EXPECT_THAT(CheckTlsFiles(half, absl::Now()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls_cert: ")));
}

}  // namespace
}  // namespace weft

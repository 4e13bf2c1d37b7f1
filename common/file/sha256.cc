#include "common/file/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "absl/strings/escaping.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft {
namespace {

// Of a file, read at a time.
constexpr int64_t kBlockBytes = int64_t{4} << 20;

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* digest = EVP_MD_CTX_new();

  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { EVP_MD_CTX_free(digest); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  WEFT_CHECK(context_->digest != nullptr);
  WEFT_CHECK(EVP_DigestInit_ex(context_->digest, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::Update(absl::string_view bytes) {
  WEFT_CHECK(EVP_DigestUpdate(context_->digest, bytes.data(), bytes.size()) == 1);
}

void Sha256::UpdateInteger(uint64_t value) {
  std::array<char, 8> bytes;
  for (char& byte : bytes) {
    byte = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  Update({bytes.data(), bytes.size()});
}

std::string Sha256::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  WEFT_CHECK(EVP_DigestFinal_ex(context_->digest, digest.data(), &length) == 1);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), length});
}

std::string Sha256Of(absl::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Finish();
}

absl::StatusOr<std::string> Sha256OfFile(FileSystem& files, absl::string_view path) {
  Sha256 hash;
  int64_t offset = 0;
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const std::string block, files.Read(path, offset, kBlockBytes));
    if (block.empty()) return hash.Finish();
    hash.Update(block);
    offset += static_cast<int64_t>(block.size());
  }
}

}  // namespace weft

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/mapped_file.h"
#include "worker/data/content_hash.h"
#include "worker/data/token_stream.h"

namespace weft::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are read in place");

constexpr int64_t kHeaderBytes = int64_t{256} * 4;
// Up to here opening checks every token: 2^26 of them take a few tens of milliseconds.
constexpr int64_t kCheckedAtOpen = int64_t{1} << 26;

struct Format {
  int32_t magic;
  int32_t version;
  int64_t token_bytes;
};
constexpr Format kFormats[] = {{20240520, 1, 2}, {20240801, 7, 4}};

struct TokenFile {
  std::string path;
  MappedFile mapped;
  int64_t token_bytes = 0;
  int64_t first = 0;  // position of its first token in the stream
  int64_t count = 0;

  [[nodiscard]] uint32_t Token(int64_t index) const {
    const char* at = mapped.bytes().data() + kHeaderBytes + index * token_bytes;
    uint32_t token = 0;
    std::memcpy(&token, at, static_cast<size_t>(token_bytes));
    return token;
  }
};

absl::Status OutsideVocabulary(const TokenFile& file, int64_t index, int32_t vocabulary) {
  return absl::DataLossError(absl::StrCat(file.path, ": token ", index, " is ", file.Token(index),
                                          ", but the vocabulary has ", vocabulary, " tokens (0 to ",
                                          vocabulary - 1, ")"));
}

absl::StatusOr<TokenFile> OpenTokenFile(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  const auto bytes = static_cast<int64_t>(mapped.bytes().size());
  if (bytes < kHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no token file: it has ", bytes,
                                                   " bytes, its header alone needs ",
                                                   kHeaderBytes));
  }
  int32_t header[3];
  std::memcpy(header, mapped.bytes().data(), sizeof header);
  const auto* format = std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Format& f) {
    return f.magic == header[0] && f.version == header[1];
  });
  if (format == std::end(kFormats)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is no token file: magic ", header[0], " version ", header[1],
        "; known are 20240520 version 1 (uint16 tokens) and 20240801 version 7 (uint32 tokens)"));
  }
  const int64_t count = header[2];
  const int64_t expected = kHeaderBytes + count * format->token_bytes;
  if (count <= 0 || bytes != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is cut or damaged: its header promises ", count, " tokens",
                     count > 0 ? absl::StrCat(", which is ", expected, " bytes") : "",
                     "; the file has ", bytes, " bytes"));
  }
  return TokenFile{path, std::move(mapped), format->token_bytes, 0, count};
}

class TokenFiles : public TokenStream {
 public:
  TokenFiles(std::vector<TokenFile> files, int32_t vocabulary, std::string fingerprint)
      : files_(std::move(files)), vocabulary_(vocabulary), fingerprint_(std::move(fingerprint)) {}

  [[nodiscard]] int64_t size() const override { return files_.back().first + files_.back().count; }
  [[nodiscard]] int32_t vocabulary() const override { return vocabulary_; }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }

  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    const auto count = static_cast<int64_t>(into.size());
    WEFT_CHECK(first >= 0 && first + count <= size());
    auto file = std::upper_bound(files_.begin(), files_.end(), first,
                                 [](int64_t at, const TokenFile& f) { return at < f.first; });
    --file;
    for (int64_t done = 0; done < count; ++file) {
      const int64_t from = first + done - file->first;
      const int64_t here = std::min(file->count - from, count - done);
      for (int64_t i = 0; i < here; ++i) {
        const uint32_t token = file->Token(from + i);
        if (token >= static_cast<uint32_t>(vocabulary_)) {
          return OutsideVocabulary(*file, from + i, vocabulary_);
        }
        into[done + i] = static_cast<int32_t>(token);
      }
      done += here;
    }
    return absl::OkStatus();
  }

  // The first token outside the vocabulary, as an error.
  [[nodiscard]] absl::Status CheckAll() const {
    for (const TokenFile& file : files_) {
      for (int64_t i = 0; i < file.count; ++i) {
        if (file.Token(i) >= static_cast<uint32_t>(vocabulary_)) {
          return OutsideVocabulary(file, i, vocabulary_);
        }
      }
    }
    return absl::OkStatus();
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("token ", files_.size() == 1 ? "file " : "files ",
                        absl::StrJoin(files_, ", ",
                                      [](std::string* out, const TokenFile& file) {
                                        absl::StrAppend(out, file.path);
                                      }),
                        " (", size(), " tokens)");
  }

 private:
  std::vector<TokenFile> files_;  // never empty
  int32_t vocabulary_;
  std::string fingerprint_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TokenStream>> OpenTokenFiles(const std::vector<std::string>& paths,
                                                            int32_t vocabulary) {
  if (paths.empty()) return absl::InvalidArgumentError("no token file: name at least one");
  if (vocabulary < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary is ", vocabulary, "; it must be at least 1"));
  }
  std::vector<TokenFile> files;
  Sha256 hash;
  hash.Update("tokens");
  int64_t size = 0;
  for (const std::string& path : paths) {
    WEFT_ASSIGN_OR_RETURN(TokenFile file, OpenTokenFile(path));
    HashContents(file.mapped.bytes(), hash);
    file.first = size;
    size += file.count;
    files.push_back(std::move(file));
  }
  auto stream = std::make_unique<TokenFiles>(std::move(files), vocabulary, hash.Finish());
  if (size <= kCheckedAtOpen) {
    if (const absl::Status checked = stream->CheckAll(); !checked.ok()) {
      return absl::InvalidArgumentError(checked.message());
    }
  }
  return stream;
}

}  // namespace weft::worker

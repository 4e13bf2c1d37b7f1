#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/mapped_file.h"
#include "worker/data/content_hash.h"
#include "worker/data/text_files.h"
#include "worker/data/token_stream.h"

namespace weft::worker {
namespace {

// Smaller files are read into memory: a kernel allows some 65,000 mappings in a process, and a
// folder may hold more files than that.
constexpr int64_t kSmallestMapped = int64_t{1} << 20;

// One file of the stream; the bytes belong to one of the two owners.
struct Piece {
  int64_t first = 0;  // position of its first byte in the stream
  std::string copied;
  std::unique_ptr<MappedFile> mapped;

  [[nodiscard]] absl::string_view bytes() const {
    return mapped != nullptr ? mapped->bytes() : absl::string_view(copied);
  }
};

class ByteText : public TokenStream {
 public:
  ByteText(std::vector<Piece> pieces, int64_t size, std::string fingerprint, std::string source)
      : pieces_(std::move(pieces)),
        size_(size),
        fingerprint_(std::move(fingerprint)),
        source_(std::move(source)) {}

  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] int32_t vocabulary() const override { return 256; }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }

  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    const auto count = static_cast<int64_t>(into.size());
    WEFT_CHECK(first >= 0 && first + count <= size_);
    auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), first,
                                  [](int64_t at, const Piece& p) { return at < p.first; });
    --piece;  // the one that holds `first`, or the separator after it
    for (int64_t done = 0; done < count;) {
      const absl::string_view bytes = piece->bytes();
      const int64_t from = first + done - piece->first;
      const int64_t here = std::min(static_cast<int64_t>(bytes.size()) - from, count - done);
      for (int64_t i = 0; i < here; ++i) {
        into[done + i] = static_cast<unsigned char>(bytes[from + i]);
      }
      done += here;
      if (done < count) into[done++] = 0;  // the separator
      ++piece;
    }
    return absl::OkStatus();
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("text of ", pieces_.size(), pieces_.size() == 1 ? " file" : " files",
                        " from ", source_, " (", size_, " bytes)");
  }

 private:
  std::vector<Piece> pieces_;
  int64_t size_;
  std::string fingerprint_;
  std::string source_;  // the paths as given
};

absl::StatusOr<Piece> OpenPiece(const TextFile& file) {
  Piece piece;
  if (file.bytes < kSmallestMapped) {
    WEFT_ASSIGN_OR_RETURN(piece.copied, ReadFile(RealFileSystem(), file.path));
  } else {
    WEFT_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(file.path));
    piece.mapped = std::make_unique<MappedFile>(std::move(mapped));
  }
  if (static_cast<int64_t>(piece.bytes().size()) != file.bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(file.path, " changed its size while it was opened: a text must not change"));
  }
  return piece;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenStream>> OpenByteText(const std::vector<std::string>& paths) {
  WEFT_ASSIGN_OR_RETURN(const std::vector<TextFile> files, FindTextFiles(paths));
  std::vector<Piece> pieces;
  pieces.reserve(files.size());
  Sha256 hash;
  hash.Update("bytes");
  int64_t size = 0;
  for (const TextFile& file : files) {
    WEFT_ASSIGN_OR_RETURN(Piece piece, OpenPiece(file));
    HashContents(piece.bytes(), hash);
    piece.first = pieces.empty() ? 0 : size + 1;
    size = piece.first + file.bytes;
    pieces.push_back(std::move(piece));
  }
  return std::make_unique<ByteText>(std::move(pieces), size, hash.Finish(),
                                    absl::StrJoin(paths, ", "));
}

}  // namespace weft::worker

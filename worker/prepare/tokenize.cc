#include "worker/prepare/tokenize.h"

#include <atomic>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "worker/prepare/token_writer.h"

namespace weft::worker {
namespace {

// Pieces are tokenised in batches of about this size: large enough for all threads to have work,
// small enough for memory.
constexpr size_t kBatchBytes = size_t{16} << 20;

struct Encoded {
  std::vector<int32_t> tokens;
  absl::Status status;
};

// The tokens of each piece, whoever computes them.
std::vector<Encoded> EncodeAll(const Tokenizer& tokenizer, const std::vector<TextPiece>& pieces,
                               int threads) {
  std::vector<Encoded> encoded(pieces.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
      encoded[i].status = tokenizer.Encode(pieces[i].text, encoded[i].tokens);
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return encoded;
}

class Tokenization {
 public:
  Tokenization(const Tokenizer& tokenizer, const TokenizeOptions& options, FileSystem& files)
      : tokenizer_(tokenizer),
        options_(options),
        writer_(files, {.prefix = options.prefix,
                        .vocabulary = tokenizer.vocabulary(),
                        .shard_tokens = options.shard_tokens}) {}

  absl::StatusOr<TokenizeResult> Run() {
    WEFT_RETURN_IF_ERROR(ForEachPiece(options_.paths, options_.documents,
                                      [this](TextPiece piece) { return Take(std::move(piece)); }));
    WEFT_RETURN_IF_ERROR(Flush());
    if (writer_.tokens() == 0) {
      return absl::InvalidArgumentError("the texts have no token");
    }
    WEFT_RETURN_IF_ERROR(writer_.Finish());
    result_.tokens = writer_.tokens();
    result_.paths = writer_.paths();
    return std::move(result_);
  }

 private:
  absl::Status Take(TextPiece piece) {
    batch_bytes_ += piece.text.size();
    result_.bytes += static_cast<int64_t>(piece.text.size());
    result_.documents += piece.ends_document ? 1 : 0;
    batch_.push_back(std::move(piece));
    return batch_bytes_ < kBatchBytes ? absl::OkStatus() : Flush();
  }

  absl::Status Flush() {
    const std::vector<Encoded> encoded = EncodeAll(tokenizer_, batch_, options_.threads);
    const int32_t end = options_.mark_ends ? tokenizer_.end_token() : -1;
    for (size_t i = 0; i < batch_.size(); ++i) {
      WEFT_RETURN_IF_ERROR(encoded[i].status);
      WEFT_RETURN_IF_ERROR(writer_.Append(encoded[i].tokens));
      if (batch_[i].ends_document && end >= 0) WEFT_RETURN_IF_ERROR(writer_.Append({end}));
    }
    batch_.clear();
    batch_bytes_ = 0;
    return absl::OkStatus();
  }

  const Tokenizer& tokenizer_;
  const TokenizeOptions& options_;
  TokenWriter writer_;
  std::vector<TextPiece> batch_;
  size_t batch_bytes_ = 0;
  TokenizeResult result_;
};

// kAlreadyExists if an earlier run wrote files of this name: they may lie among the texts, and the
// last of them would stay beside fewer new ones.
absl::Status CheckUnused(const std::string& folder, const std::string& prefix, FileSystem& files) {
  const std::string start = absl::StrCat(std::filesystem::path(prefix).filename().string(), "_");
  WEFT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files.List(folder));
  for (const DirectoryEntry& entry : entries) {
    absl::string_view number = entry.name;
    if (absl::ConsumePrefix(&number, start) && absl::ConsumeSuffix(&number, ".bin") &&
        number.size() >= 6 && number.find_first_not_of("0123456789") == absl::string_view::npos) {
      return absl::AlreadyExistsError(
          absl::StrCat(JoinPath(folder, entry.name),
                       " is there already: name another output, or remove the files of this one"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizeResult> Tokenize(const Tokenizer& tokenizer, const TokenizeOptions& options,
                                        FileSystem& files) {
  WEFT_CHECK(options.threads >= 1);
  const std::string folder(DirectoryOf(options.prefix));
  WEFT_RETURN_IF_ERROR(files.CreateDirectories(folder));
  WEFT_RETURN_IF_ERROR(CheckUnused(folder, options.prefix, files));
  return Tokenization(tokenizer, options, files).Run();
}

}  // namespace weft::worker

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/data/content_hash.h"
#include "worker/data/readers/line_file.h"
#include "worker/data/readers/readers.h"
#include "worker/data/readers/words.h"

namespace weft::worker {
namespace {

constexpr absl::string_view kEndOfLine = "<eos>";
constexpr absl::string_view kUnknown = "<unk>";

using Vocabulary = absl::flat_hash_map<absl::string_view, int32_t>;

// The words stay in the file's memory.
Vocabulary CountWords(const LineFile& file) {
  struct Count {
    int64_t count = 0;
    int32_t order = 0;  // of the first place
  };
  absl::flat_hash_map<absl::string_view, Count> counts;
  for (int64_t line = 0; line < file.lines(); ++line) {
    absl::string_view rest = file.Line(line);
    for (absl::string_view word; ConsumeWord(rest, word);) {
      const auto order = static_cast<int32_t>(counts.size());
      ++counts.try_emplace(word, Count{0, order}).first->second.count;
    }
  }
  counts.erase(kEndOfLine);
  std::vector<std::pair<absl::string_view, Count>> words(counts.begin(), counts.end());
  std::sort(words.begin(), words.end(), [](const auto& a, const auto& b) {
    return a.second.count != b.second.count ? a.second.count > b.second.count
                                            : a.second.order < b.second.order;
  });
  Vocabulary vocabulary = {{kEndOfLine, 0}};
  for (const auto& [word, count] : words) {
    vocabulary.emplace(word, static_cast<int32_t>(vocabulary.size()));
  }
  return vocabulary;
}

class WordStream : public TokenStream {
 public:
  WordStream(std::vector<int32_t> tokens, int32_t vocabulary, std::string fingerprint,
             std::string path)
      : tokens_(std::move(tokens)),
        vocabulary_(vocabulary),
        fingerprint_(std::move(fingerprint)),
        path_(std::move(path)) {}

  [[nodiscard]] int64_t size() const override { return static_cast<int64_t>(tokens_.size()); }
  [[nodiscard]] int32_t vocabulary() const override { return vocabulary_; }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }
  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("words of ", path_, " (", size(), " tokens, ", vocabulary_, " words)");
  }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    WEFT_CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= size());
    std::copy_n(tokens_.begin() + first, into.size(), into.begin());
    return absl::OkStatus();
  }

 private:
  std::vector<int32_t> tokens_;
  int32_t vocabulary_;
  std::string fingerprint_;
  std::string path_;
};

// `training` is what the vocabulary was made of: it decides the tokens, too.
absl::StatusOr<std::shared_ptr<const TokenStream>> Encode(const LineFile& file,
                                                          const LineFile& training,
                                                          const Vocabulary& vocabulary) {
  const auto unknown = vocabulary.find(kUnknown);
  std::vector<int32_t> tokens;
  for (int64_t line = 0; line < file.lines(); ++line) {
    absl::string_view rest = file.Line(line);
    for (absl::string_view word; ConsumeWord(rest, word);) {
      auto found = vocabulary.find(word);
      if (found == vocabulary.end()) found = unknown;
      if (found == vocabulary.end()) {
        return file.Error(line,
                          absl::StrCat("the word '", word.substr(0, 40), "' does not occur in ",
                                       training.path(), ", which has no <unk> either"));
      }
      tokens.push_back(found->second);
    }
    tokens.push_back(0);
  }
  tokens.shrink_to_fit();
  Sha256 hash;
  hash.Update("words");
  HashContents(training.bytes(), hash);
  HashContents(file.bytes(), hash);
  return std::make_shared<WordStream>(std::move(tokens), static_cast<int32_t>(vocabulary.size()),
                                      hash.Finish(), file.path());
}

absl::StatusOr<LineFile> OpenPart(const std::string& folder, absl::string_view part) {
  absl::StatusOr<LineFile> file =
      LineFile::Open(JoinPath(folder, absl::StrCat("wiki.", part, ".tokens")));
  if (!absl::IsNotFound(file.status())) return file;
  auto other = LineFile::Open(JoinPath(folder, absl::StrCat(part, ".txt")));
  return absl::IsNotFound(other.status()) ? std::move(file) : std::move(other);
}

}  // namespace

absl::StatusOr<TokenSplits> OpenWikiText103(const std::string& folder, HeldOut held_out) {
  WEFT_ASSIGN_OR_RETURN(const LineFile train, OpenPart(folder, "train"));
  WEFT_ASSIGN_OR_RETURN(const LineFile other,
                        OpenPart(folder, held_out == HeldOut::kTest ? "test" : "valid"));
  const Vocabulary vocabulary = CountWords(train);
  TokenSplits splits;
  WEFT_ASSIGN_OR_RETURN(splits.train, Encode(train, train, vocabulary));
  WEFT_ASSIGN_OR_RETURN(splits.validation, Encode(other, train, vocabulary));
  return splits;
}

}  // namespace weft::worker

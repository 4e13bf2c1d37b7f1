#include "worker/prepare/documents.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "worker/data/readers/line_file.h"
#include "worker/data/text_files.h"

namespace weft::worker {
namespace {

// Bytes of the first piece of a text that is longer than a piece.
size_t PieceLength(absl::string_view text, size_t most) {
  const size_t line_end = text.rfind('\n', most - 1);
  if (line_end != absl::string_view::npos) return line_end + 1;
  const size_t length = Utf8Prefix(text, most).size();
  return length > 0 ? length : most;  // 0: not UTF-8 at all
}

absl::Status GiveDocument(absl::string_view text, const DocumentOptions& options,
                          absl::FunctionRef<absl::Status(TextPiece)> take) {
  const auto most = static_cast<size_t>(options.piece_bytes);
  while (text.size() > most) {
    const size_t length = PieceLength(text, most);
    WEFT_RETURN_IF_ERROR(take({std::string(text.substr(0, length)), false}));
    text.remove_prefix(length);
  }
  return take({std::string(text), true});
}

absl::Status GiveLines(const LineFile& file, const DocumentOptions& options,
                       absl::FunctionRef<absl::Status(TextPiece)> take) {
  for (int64_t line = 0; line < file.lines(); ++line) {
    const absl::string_view text = file.Line(line);
    if (text.empty()) continue;
    if (options.kind == DocumentKind::kLine) {
      WEFT_RETURN_IF_ERROR(GiveDocument(text, options, take));
      continue;
    }
    const auto object =
        nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
    const auto field = object.is_object() ? object.find(options.json_field) : object.end();
    if (!object.is_object() || field == object.end() || !field->is_string()) {
      return file.Error(line, absl::StrCat("expected a JSON object with the text field '",
                                           options.json_field, "'"));
    }
    const auto& content = field->get_ref<const std::string&>();
    if (!content.empty()) WEFT_RETURN_IF_ERROR(GiveDocument(content, options, take));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ForEachPiece(const std::vector<std::string>& paths, const DocumentOptions& options,
                          absl::FunctionRef<absl::Status(TextPiece)> take) {
  WEFT_CHECK(options.piece_bytes >= 4);
  WEFT_ASSIGN_OR_RETURN(const std::vector<TextFile> files, FindTextFiles(paths));
  for (const TextFile& each : files) {
    WEFT_ASSIGN_OR_RETURN(const LineFile file, LineFile::Open(each.path));
    WEFT_RETURN_IF_ERROR(options.kind == DocumentKind::kFile
                             ? GiveDocument(file.bytes(), options, take)
                             : GiveLines(file, options, take));
  }
  return absl::OkStatus();
}

}  // namespace weft::worker

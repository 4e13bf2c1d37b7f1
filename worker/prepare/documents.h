// Texts out of files, one after the other, in pieces that fit into memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weft::worker {

enum class DocumentKind : uint8_t {
  kFile,  // a file is a text
  kLine,  // each line that is not empty is a text
  kJson,  // each line is a JSON object; a field of it is a text
};

struct DocumentOptions {
  DocumentKind kind = DocumentKind::kFile;
  std::string json_field = "text";
  // A longer text is given in pieces, each cut after a line end if it has one, otherwise between
  // two characters of UTF-8.
  int64_t piece_bytes = int64_t{1} << 20;
};

struct TextPiece {
  std::string text;
  bool ends_document = false;
};

// Gives the pieces of all texts in `paths` (files and folders, as OpenByteText expands them) in
// order, until `take` fails. Errors name the file and line.
absl::Status ForEachPiece(const std::vector<std::string>& paths, const DocumentOptions& options,
                          absl::FunctionRef<absl::Status(TextPiece)> take);

}  // namespace weft::worker

#include "worker/prepare/token_writer.h"

#include <array>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"

namespace weft::worker {
namespace {

constexpr int32_t kMostInTwoBytes = 1 << 16;

}  // namespace

TokenWriter::TokenWriter(FileSystem& files, TokenWriterOptions options)
    : files_(files), options_(std::move(options)) {
  WEFT_CHECK(options_.vocabulary > 0);
  WEFT_CHECK(options_.shard_tokens > 0 &&
             options_.shard_tokens <= std::numeric_limits<int32_t>::max());
}

absl::Status TokenWriter::Append(absl::Span<const int32_t> tokens) {
  const int bytes = options_.vocabulary <= kMostInTwoBytes ? 2 : 4;
  for (const int32_t token : tokens) {
    WEFT_CHECK(token >= 0 && token < options_.vocabulary);
    for (int byte = 0; byte < bytes; ++byte) {
      shard_.push_back(static_cast<char>(token >> (8 * byte)));  // lowest first
    }
    ++tokens_;
    if (++shard_count_ == options_.shard_tokens) WEFT_RETURN_IF_ERROR(WriteShard());
  }
  return absl::OkStatus();
}

absl::Status TokenWriter::Finish() { return shard_count_ > 0 ? WriteShard() : absl::OkStatus(); }

absl::Status TokenWriter::WriteShard() {
  std::array<int32_t, 256> header = {};
  const bool two_bytes = options_.vocabulary <= kMostInTwoBytes;
  header[0] = two_bytes ? 20240520 : 20240801;
  header[1] = two_bytes ? 1 : 7;
  header[2] = static_cast<int32_t>(shard_count_);
  std::string path = absl::StrFormat("%s_%06d.bin", options_.prefix, paths_.size());
  const absl::string_view pieces[] = {{reinterpret_cast<const char*>(header.data()), sizeof header},
                                      shard_};
  WEFT_RETURN_IF_ERROR(WriteFileDurably(files_, path, pieces));
  paths_.push_back(std::move(path));
  shard_.clear();
  shard_count_ = 0;
  return absl::OkStatus();
}

}  // namespace weft::worker

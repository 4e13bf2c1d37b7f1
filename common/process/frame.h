// Frames: how messages are cut out of a byte stream. Each is preceded by its length in bytes, a
// little-endian uint32 of at most kMaxFrameBytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

inline constexpr int64_t kMaxFrameBytes = int64_t{16} << 20;

// The bytes to send for one message. kInvalidArgument when it is longer than kMaxFrameBytes.
absl::StatusOr<std::string> EncodeFrame(absl::string_view message);

// Collects received bytes and gives back whole messages. Not thread-safe.
class FrameDecoder {
 public:
  void Append(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }
  // The next whole message; nothing when more bytes are needed. kDataLoss when a length is beyond
  // kMaxFrameBytes: the stream cannot be read on.
  absl::StatusOr<std::optional<std::string>> Next();
  // Whether the stream may end here: no part of a message is left over.
  [[nodiscard]] bool AtBoundary() const { return buffer_.size() == position_; }

 private:
  std::string buffer_;
  size_t position_ = 0;  // of the first byte that was not given back
};

}  // namespace weft

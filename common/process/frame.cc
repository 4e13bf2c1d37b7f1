#include "common/process/frame.h"

#include "absl/strings/str_cat.h"

namespace weft {
namespace {

constexpr size_t kHeaderBytes = 4;
// The decoder moves the rest to the front once this much was given back.
constexpr size_t kCompactBytes = size_t{64} << 10;

uint32_t LoadLength(const char* bytes) {
  uint32_t length = 0;
  for (size_t i = 0; i < kHeaderBytes; ++i) {
    length |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return length;
}

}  // namespace

absl::StatusOr<std::string> EncodeFrame(absl::string_view message) {
  if (message.size() > static_cast<size_t>(kMaxFrameBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a message of ", message.size(), " bytes; the limit is ", kMaxFrameBytes));
  }
  std::string frame;
  frame.reserve(kHeaderBytes + message.size());
  for (size_t i = 0; i < kHeaderBytes; ++i) {
    frame.push_back(static_cast<char>((message.size() >> (8 * i)) & 0xff));
  }
  frame.append(message.data(), message.size());
  return frame;
}

absl::StatusOr<std::optional<std::string>> FrameDecoder::Next() {
  if (buffer_.size() - position_ < kHeaderBytes) return std::optional<std::string>();
  const uint32_t length = LoadLength(buffer_.data() + position_);
  if (length > kMaxFrameBytes) {
    return absl::DataLossError(
        absl::StrCat("a message of ", length, " bytes announced; the limit is ", kMaxFrameBytes));
  }
  if (buffer_.size() - position_ - kHeaderBytes < length) return std::optional<std::string>();
  std::optional<std::string> message(buffer_.substr(position_ + kHeaderBytes, length));
  position_ += kHeaderBytes + length;
  if (position_ == buffer_.size()) {
    buffer_.clear();
    position_ = 0;
  } else if (position_ > kCompactBytes) {
    buffer_.erase(0, position_);
    position_ = 0;
  }
  return message;
}

}  // namespace weft

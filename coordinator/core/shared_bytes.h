// Bytes that are written once and then shared: the serialized spec of a job travels through events,
// facts, two copies of the state and commands without being copied.
#pragma once

#include <memory>
#include <string>
#include <utility>

namespace weft::coordinator {

class SharedBytes {
 public:
  SharedBytes() = default;
  explicit SharedBytes(std::string bytes)
      : bytes_(std::make_shared<const std::string>(std::move(bytes))) {}

  // Lives as long as any copy of this object.
  [[nodiscard]] const std::string& str() const {
    static const std::string empty;
    return bytes_ == nullptr ? empty : *bytes_;
  }

  friend bool operator==(const SharedBytes& a, const SharedBytes& b) {
    return a.bytes_ == b.bytes_ || a.str() == b.str();
  }

 private:
  std::shared_ptr<const std::string> bytes_;
};

}  // namespace weft::coordinator

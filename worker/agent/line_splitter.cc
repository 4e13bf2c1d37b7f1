#include "worker/agent/line_splitter.h"

#include <algorithm>

#include "common/base/utf8.h"

namespace weft::worker {

std::vector<std::string> LineSplitter::Append(absl::string_view bytes) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const size_t room = kMaxLineBytes - partial_.size();
    const size_t taken = std::min({end, bytes.size(), room});
    partial_.append(bytes.data(), taken);
    bytes.remove_prefix(taken);
    const bool ended = !bytes.empty() && bytes.front() == '\n';
    if (ended) bytes.remove_prefix(1);
    if (!ended && partial_.size() < kMaxLineBytes) break;
    if (ended && !partial_.empty() && partial_.back() == '\r') partial_.pop_back();
    lines.push_back(ToValidUtf8(partial_));
    partial_.clear();
  }
  return lines;
}

std::vector<std::string> LineSplitter::Finish() {
  std::vector<std::string> lines;
  if (!partial_.empty()) lines.push_back(ToValidUtf8(partial_));
  partial_.clear();
  return lines;
}

}  // namespace weft::worker

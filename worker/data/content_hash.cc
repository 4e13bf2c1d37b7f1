#include "worker/data/content_hash.h"

#include <cstddef>

namespace weft::worker {
namespace {

constexpr size_t kWholeBytes = size_t{16} << 20;
constexpr size_t kBlockBytes = size_t{64} << 10;
constexpr size_t kBlocks = kWholeBytes / kBlockBytes;

}  // namespace

void HashContents(absl::string_view bytes, Sha256& hash) {
  hash.UpdateInteger(bytes.size());
  if (bytes.size() <= kWholeBytes) {
    hash.Update(bytes);
    return;
  }
  // The last block ends with the last byte, where growing files change.
  const size_t last_start = bytes.size() - kBlockBytes;
  for (size_t block = 0; block < kBlocks; ++block) {
    const size_t start = last_start / (kBlocks - 1) * block;
    hash.Update(bytes.substr(block + 1 == kBlocks ? last_start : start, kBlockBytes));
  }
}

}  // namespace weft::worker

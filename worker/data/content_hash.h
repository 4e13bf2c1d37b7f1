// The part of a data fingerprint that one file contributes.
#pragma once

#include "absl/strings/string_view.h"
#include "common/file/sha256.h"

namespace weft::worker {

// Adds the size and the contents: all bytes up to 16 MiB, beyond that 256 blocks of 64 KiB spread
// evenly from the first byte to the last. Starting a job must not read terabytes.
void HashContents(absl::string_view bytes, Sha256& hash);

}  // namespace weft::worker

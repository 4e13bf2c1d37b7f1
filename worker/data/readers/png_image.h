// Grey PNG images.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft::worker {

struct GreyImage {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> pixels;  // [height, width], the values as stored
};

// kInvalidArgument, saying what is wrong, for bytes that are no PNG, are damaged, or hold an image
// that is coloured, transparent, or of more than eight bits a pixel.
absl::StatusOr<GreyImage> DecodeGreyPng(absl::string_view bytes);

}  // namespace weft::worker

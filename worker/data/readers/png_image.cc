#include "worker/data/readers/png_image.h"

#include <png.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

// Larger than any image of a data set; a damaged header must not exhaust memory.
constexpr uint32_t kLargestSide = 4096;

}  // namespace

absl::StatusOr<GreyImage> DecodeGreyPng(absl::string_view bytes) {
  png_image header = {};
  header.version = PNG_IMAGE_VERSION;
  const absl::Cleanup free = [&header] { png_image_free(&header); };
  const auto failed = [&header] {
    return absl::InvalidArgumentError(absl::StrCat("not a readable PNG image: ", header.message));
  };
  if (png_image_begin_read_from_memory(&header, bytes.data(), bytes.size()) == 0) return failed();
  constexpr uint32_t kNotGrey = PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA |
                                PNG_FORMAT_FLAG_LINEAR | PNG_FORMAT_FLAG_COLORMAP;
  if ((header.format & kNotGrey) != 0) {
    return absl::InvalidArgumentError(
        "expected a grey PNG image of at most 8 bits a pixel without transparency");
  }
  if (header.width > kLargestSide || header.height > kLargestSide) {
    return absl::InvalidArgumentError(absl::StrCat("the image has ", header.width, " x ",
                                                   header.height, " pixels; at most ", kLargestSide,
                                                   " x ", kLargestSide, " are read"));
  }
  header.format = PNG_FORMAT_GRAY;
  GreyImage image = {.width = header.width,
                     .height = header.height,
                     .pixels = std::vector<uint8_t>(PNG_IMAGE_SIZE(header))};
  if (png_image_finish_read(&header, nullptr, image.pixels.data(), 0, nullptr) == 0) {
    return failed();
  }
  return image;
}

}  // namespace weft::worker

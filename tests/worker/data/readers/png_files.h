// PNG images for tests, written by libpng.
#pragma once

#include <png.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/check.h"

namespace weft::worker {

// `format` as libpng names it; `pixels` in rows without gaps.
inline std::string EncodePng(uint32_t width, uint32_t height, uint32_t format, const void* pixels) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = format;
  png_alloc_size_t bytes = 0;
  WEFT_CHECK(png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels, 0, nullptr) != 0);
  std::string png(bytes, '\0');
  WEFT_CHECK(png_image_write_to_memory(&image, png.data(), &bytes, 0, pixels, 0, nullptr) != 0);
  png.resize(bytes);
  return png;
}

inline std::string GreyPng(uint32_t width, uint32_t height, const std::vector<uint8_t>& pixels) {
  WEFT_CHECK(pixels.size() == width * height);
  return EncodePng(width, height, PNG_FORMAT_GRAY, pixels.data());
}

}  // namespace weft::worker

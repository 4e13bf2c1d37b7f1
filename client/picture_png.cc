// Anti-Grain Geometry computes the pixels, with the font of strokes that it carries, so that
// nothing needs fonts and a picture has the same pixels everywhere; libpng writes them.

#include <agg_conv_stroke.h>
#include <agg_ellipse.h>
#include <agg_gsv_text.h>
#include <agg_path_storage.h>
#include <agg_pixfmt_rgb.h>
#include <agg_rasterizer_scanline_aa.h>
#include <agg_renderer_scanline.h>
#include <agg_rendering_buffer.h>
#include <agg_scanline_u.h>
#include <png.h>

#include "absl/strings/str_cat.h"
#include "client/picture.h"

namespace weft::client {
namespace {

constexpr int kScale = 2;               // pixels a unit
constexpr double kLetterHeight = 0.72;  // of capital letters, as a share of a font's size
constexpr double kStrokeWidth = 0.095;  // of letters, likewise

class Raster {
 public:
  Raster(int width, int height)
      : width_(width * kScale),
        height_(height * kScale),
        pixels_(static_cast<size_t>(width_) * static_cast<size_t>(height_) * kBytes),
        buffer_(pixels_.data(), static_cast<unsigned>(width_), static_cast<unsigned>(height_),
                width_ * kBytes),
        format_(buffer_),
        renderer_(format_) {
    renderer_.clear(agg::rgba8(255, 255, 255));
  }

  void operator()(const Line& line) {
    agg::path_storage path;
    for (size_t i = 0; i < line.points.size(); ++i) {
      const Point& point = line.points[i];
      if (i == 0) path.move_to(point.x * kScale, point.y * kScale);
      path.line_to(point.x * kScale, point.y * kScale);
    }
    Stroke(path, line.width * kScale, line.color);
  }
  void operator()(const Disc& disc) {
    agg::ellipse circle(disc.center.x * kScale, disc.center.y * kScale, disc.radius * kScale,
                        disc.radius * kScale);
    Fill(circle, disc.color);
  }
  void operator()(const Words& words) {
    agg::gsv_text text;
    text.flip(true);  // its y counts from the bottom
    text.size(words.size * kScale * kLetterHeight);
    text.text(words.text.c_str());
    const double share = words.anchor == Anchor::kBegin    ? 0
                         : words.anchor == Anchor::kMiddle ? 0.5
                                                           : 1;
    text.start_point(words.place.x * kScale - share * text.text_width(), words.place.y * kScale);
    Stroke(text, words.size * kScale * kStrokeWidth, words.color);
  }

  [[nodiscard]] absl::StatusOr<std::string> Png() const {
    png_image image = {};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(width_);
    image.height = static_cast<png_uint_32>(height_);
    image.format = PNG_FORMAT_RGB;
    // The first call tells how long it may become.
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    std::string png(bytes, '\0');
    if (png_image_write_to_memory(&image, png.data(), &bytes, 0, pixels_.data(), 0, nullptr) == 0) {
      return absl::InternalError(absl::StrCat("libpng: ", image.message));
    }
    png.resize(bytes);
    return png;
  }

 private:
  static constexpr int kBytes = 3;  // a pixel
  using Format = agg::pixfmt_rgb24;

  template <typename Source>
  void Stroke(Source& source, double width, const Color& color) {
    agg::conv_stroke<Source> stroke(source);
    stroke.width(width);
    stroke.line_join(agg::round_join);
    stroke.line_cap(agg::round_cap);
    Fill(stroke, color);
  }

  template <typename Source>
  void Fill(Source& source, const Color& color) {
    agg::rasterizer_scanline_aa<> rasterizer;
    agg::scanline_u8 scanline;
    // As rasterizer.add_path does, whose x and y the compiler takes for not initialised.
    double x = 0;
    double y = 0;
    source.rewind(0);
    for (unsigned command = source.vertex(&x, &y); !agg::is_stop(command);
         command = source.vertex(&x, &y)) {
      rasterizer.add_vertex(x, y, command);
    }
    agg::render_scanlines_aa_solid(rasterizer, scanline, renderer_,
                                   agg::rgba8(color.red, color.green, color.blue));
  }

  const int width_;
  const int height_;
  std::vector<uint8_t> pixels_;  // rows from the top, red, green, blue
  agg::rendering_buffer buffer_;
  Format format_;
  agg::renderer_base<Format> renderer_;
};

}  // namespace

absl::StatusOr<std::string> ToPng(const Picture& picture) {
  Raster raster(picture.width, picture.height);
  for (const Shape& shape : picture.shapes) std::visit(raster, shape);
  return raster.Png();
}

}  // namespace weft::client

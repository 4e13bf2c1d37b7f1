#include "kernels/device/host_values.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::kernels {
namespace {

template <typename T, typename Narrow>
absl::Status Write(Tensor& tensor, absl::Span<const double> values, Stream& stream, Narrow narrow) {
  std::vector<T> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), narrow);
  return stream.device().CopyFromHost(tensor, bits.data(), stream);
}

template <typename T, typename Widen>
absl::StatusOr<std::vector<double>> Read(const Tensor& tensor, Stream& stream, Widen widen) {
  std::vector<T> bits(static_cast<size_t>(tensor.count()));
  WEFT_RETURN_IF_ERROR(stream.device().CopyToHost(bits.data(), tensor, stream));
  std::vector<double> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(), widen);
  return values;
}

}  // namespace

uint16_t Bf16From(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);  // quiet
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float FloatFromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

absl::Status WriteValues(Tensor& tensor, absl::Span<const double> values, Stream& stream) {
  WEFT_CHECK(static_cast<int64_t>(values.size()) == tensor.count());
  switch (tensor.dtype()) {
    case DType::kF64:
      return stream.device().CopyFromHost(tensor, values.data(), stream);
    case DType::kF32:
      return Write<float>(tensor, values, stream, [](double v) { return static_cast<float>(v); });
    case DType::kBf16:
      return Write<uint16_t>(tensor, values, stream,
                             [](double v) { return Bf16From(static_cast<float>(v)); });
    case DType::kI32:
      return Write<int32_t>(tensor, values, stream,
                            [](double v) { return static_cast<int32_t>(v); });
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> ReadValues(const Tensor& tensor, Stream& stream) {
  switch (tensor.dtype()) {
    case DType::kF64:
      return Read<double>(tensor, stream, [](double v) { return v; });
    case DType::kF32:
      return Read<float>(tensor, stream, [](float v) { return static_cast<double>(v); });
    case DType::kBf16:
      return Read<uint16_t>(tensor, stream,
                            [](uint16_t v) { return static_cast<double>(FloatFromBf16(v)); });
    case DType::kI32:
      return Read<int32_t>(tensor, stream, [](int32_t v) { return static_cast<double>(v); });
  }
  return std::vector<double>();
}

}  // namespace weft::kernels

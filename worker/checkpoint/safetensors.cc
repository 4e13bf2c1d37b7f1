#include "worker/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

using kernels::DType;
using kernels::Shape;

static_assert(std::endian::native == std::endian::little, "lengths and elements are little-endian");

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignment = 8;
// The format's own limit.
constexpr uint64_t kLongestHeader = 100'000'000;
// Elements of eight bytes that a count of bytes can hold.
constexpr uint64_t kMostElements = std::numeric_limits<int64_t>::max() / 8;

absl::string_view FormatNameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF64:
      return "F64";
    case DType::kBf16:
      return "BF16";
    case DType::kI32:
      return "I32";
  }
  return "?";
}

std::optional<DType> DTypeOf(absl::string_view name) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBf16, DType::kI32}) {
    if (FormatNameOf(dtype) == name) return dtype;
  }
  return std::nullopt;
}

absl::Status CheckTensor(const NamedTensor& tensor) {
  if (tensor.name.empty() || tensor.name == kMetadataKey) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor cannot be called \"", tensor.name, "\""));
  }
  const int64_t expected = tensor.shape.count() * SizeOf(tensor.dtype);
  if (static_cast<int64_t>(tensor.bytes.size()) != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", tensor.name, " ", NameOf(tensor.dtype), tensor.shape.ToString(),
                     " needs ", expected, " bytes, not ", tensor.bytes.size()));
  }
  return absl::OkStatus();
}

// The JSON text. The library throws on names that are not UTF-8.
absl::StatusOr<std::string> HeaderText(const nlohmann::ordered_json& header) {
  try {
    return header.dump();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor's name is not UTF-8: ", error.what()));
  }
}

absl::Status Damaged(absl::string_view reason) {
  return absl::DataLossError(absl::StrCat("not a safetensors file: ", reason));
}

struct Extent {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// An array of whole numbers >= 0; nullopt for anything else.
std::optional<std::vector<uint64_t>> Numbers(const nlohmann::json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (const nlohmann::json& item : value) {
    if (!item.is_number_unsigned()) return std::nullopt;
    numbers.push_back(item.get<uint64_t>());
  }
  return numbers;
}

// nullopt for more extents than a Shape holds, or a count that overflows.
std::optional<Shape> ShapeOf(const std::vector<uint64_t>& extents) {
  if (extents.size() > Shape::kMaxRank) return std::nullopt;
  std::vector<int64_t> dims;
  uint64_t product = 1;
  for (uint64_t extent : extents) {
    if (extent > kMostElements || (extent != 0 && product > kMostElements / extent))
      return std::nullopt;
    product *= extent;
    dims.push_back(static_cast<int64_t>(extent));
  }
  return Shape(dims);
}

// Everything of one header entry but the bytes.
absl::StatusOr<std::pair<NamedTensor, Extent>> ParseEntry(const std::string& name,
                                                          const nlohmann::json& entry) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets") || !entry["dtype"].is_string()) {
    return Damaged(absl::StrCat("tensor ", name, " needs dtype, shape and data_offsets"));
  }
  const std::string dtype_name = entry["dtype"].get<std::string>();
  const std::optional<DType> dtype = DTypeOf(dtype_name);
  if (!dtype.has_value()) {
    return Damaged(absl::StrCat("tensor ", name, " has dtype ", dtype_name,
                                "; known are F32, F64, BF16, I32"));
  }
  const auto extents = Numbers(entry["shape"]);
  const std::optional<Shape> shape = extents.has_value() ? ShapeOf(*extents) : std::nullopt;
  if (!shape.has_value()) {
    return Damaged(absl::StrCat("tensor ", name, " has shape ", entry["shape"].dump(),
                                "; allowed are up to ", Shape::kMaxRank, " extents"));
  }
  const auto offsets = Numbers(entry["data_offsets"]);
  const auto bytes = static_cast<uint64_t>(shape->count() * SizeOf(*dtype));
  if (!offsets.has_value() || offsets->size() != 2 || (*offsets)[1] < (*offsets)[0] ||
      (*offsets)[1] - (*offsets)[0] != bytes) {
    return Damaged(absl::StrCat("tensor ", name, " has data_offsets ", entry["data_offsets"].dump(),
                                " for ", bytes, " bytes"));
  }
  return std::make_pair(NamedTensor{name, *dtype, *shape, {}},
                        Extent{(*offsets)[0], (*offsets)[1]});
}

}  // namespace

absl::Status MakeSafetensors(absl::Span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata,
                             SafetensorsImage& image) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  std::set<absl::string_view> names;
  uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    WEFT_RETURN_IF_ERROR(CheckTensor(tensor));
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("two tensors are called ", tensor.name));
    }
    const uint64_t end = offset + tensor.bytes.size();
    nlohmann::ordered_json entry;
    entry["dtype"] = std::string(FormatNameOf(tensor.dtype));
    const absl::Span<const int64_t> dims = tensor.shape.dims();
    entry["shape"] = std::vector<int64_t>(dims.begin(), dims.end());
    entry["data_offsets"] = {offset, end};
    header[tensor.name] = std::move(entry);
    offset = end;
  }
  WEFT_ASSIGN_OR_RETURN(std::string text, HeaderText(header));
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  const uint64_t length = text.size();
  image.header.assign(reinterpret_cast<const char*>(&length), kLengthBytes);
  image.header += text;
  image.pieces.assign(1, image.header);
  for (const NamedTensor& tensor : tensors) image.pieces.push_back(tensor.bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedTensor>> ParseSafetensors(absl::string_view file) {
  if (file.size() < kLengthBytes) return Damaged(absl::StrCat("it has ", file.size(), " bytes"));
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kLongestHeader || length > file.size() - kLengthBytes) {
    return Damaged(absl::StrCat("its header claims ", length, " bytes of ", file.size()));
  }
  const absl::string_view text = file.substr(kLengthBytes, length);
  const nlohmann::json header =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return Damaged("its header is not a JSON object");

  std::vector<std::pair<NamedTensor, Extent>> entries;
  for (const auto& [name, entry] : header.items()) {
    if (name == std::string(kMetadataKey)) continue;
    WEFT_ASSIGN_OR_RETURN(auto parsed, ParseEntry(name, entry));
    entries.push_back(std::move(parsed));
  }
  // By both ends: an empty tensor stands before the one that begins where it does.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.end) < std::pair(b.second.begin, b.second.end);
  });
  const absl::string_view contents = file.substr(kLengthBytes + length);
  std::vector<NamedTensor> tensors;
  uint64_t expected = 0;
  for (auto& [tensor, extent] : entries) {
    if (extent.begin != expected || extent.end > contents.size()) {
      return Damaged(absl::StrCat("tensor ", tensor.name, " lies at bytes ", extent.begin, " to ",
                                  extent.end, " of ", contents.size(), ", expected from ",
                                  expected));
    }
    tensor.bytes = contents.substr(extent.begin, extent.end - extent.begin);
    expected = extent.end;
    tensors.push_back(std::move(tensor));
  }
  if (expected != contents.size()) {
    return Damaged(absl::StrCat(contents.size() - expected, " bytes belong to no tensor"));
  }
  return tensors;
}

}  // namespace weft::worker

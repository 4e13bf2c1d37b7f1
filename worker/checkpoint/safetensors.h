// The safetensors format: eight bytes with the length of the header (little-endian), the header (a
// JSON object: name -> dtype, shape, byte range), the tensors' bytes without gaps. Other tools read
// what is written here. The same tensors always give the same bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/tensor/dtype.h"
#include "kernels/tensor/shape.h"

namespace weft::worker {

// One tensor in host memory, not owned. Elements are little-endian and row-major.
struct NamedTensor {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  kernels::Shape shape;
  absl::string_view bytes;  // shape.count() * SizeOf(dtype)
};

// A file to be: the header, and views of the tensors' bytes, which must outlive it. Tensors keep
// their order. kInvalidArgument for two tensors of one name, an empty name, the reserved name
// "__metadata__", or bytes that do not fit the shape.
struct SafetensorsImage {
  std::string header;  // with the eight bytes of its length; padded so that tensors begin at 8 n
  std::vector<absl::string_view> pieces;  // all of the file: views of header and tensors
};
// Fills `image`, whose header must not move afterwards (pieces point into it).
absl::Status MakeSafetensors(absl::Span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata,
                             SafetensorsImage& image);

// The tensors of a file in memory, in file order, viewing `file`. Every byte of the file is
// accounted for: kDataLoss, with the reason, for anything else (lengths, overlaps, gaps, JSON,
// unknown dtypes, more than Shape::kMaxRank extents).
absl::StatusOr<std::vector<NamedTensor>> ParseSafetensors(absl::string_view file);

}  // namespace weft::worker

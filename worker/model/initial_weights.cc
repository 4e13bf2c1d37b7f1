#include "worker/model/initial_weights.h"

#include <algorithm>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/random/philox.h"

namespace weft::worker {
namespace {

constexpr double kStandardDeviation = 0.02;

// The flat block on the host, in fp32.
std::vector<float> DrawBlock(uint64_t seed, const ParameterLayout& layout) {
  std::vector<float> block(static_cast<size_t>(layout.block_count()), 0.0F);
  std::vector<double> normals;
  uint32_t ordinal = 0;
  for (const Parameter& parameter : layout.parameters()) {
    const auto count = static_cast<size_t>(parameter.shape.count());
    const auto into = block.begin() + parameter.offset;
    if (parameter.initialisation == Initialisation::kOne) {
      std::fill_n(into, count, 1.0F);
    } else {
      normals.resize(count);
      const kernels::DrawSite site{.tag = kernels::RandomTag::kInitialisation};
      kernels::FillNormal(seed, site, ordinal, /*first=*/0, absl::MakeSpan(normals));
      std::transform(normals.begin(), normals.end(), into,
                     [](double normal) { return static_cast<float>(kStandardDeviation * normal); });
    }
    ++ordinal;
  }
  return block;
}

}  // namespace

absl::Status InitialiseWeights(uint64_t seed, kernels::Stream& stream, ParameterBlock& weights) {
  const std::vector<float> block = DrawBlock(seed, weights.layout());
  kernels::Tensor target = weights.block();
  if (target.dtype() == kernels::DType::kF64) {
    const std::vector<double> widened(block.begin(), block.end());
    return stream.device().CopyFromHost(target, widened.data(), stream);
  }
  return stream.device().CopyFromHost(target, block.data(), stream);
}

}  // namespace weft::worker

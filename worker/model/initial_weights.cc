#include "worker/model/initial_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"
#include "kernels/random/philox.h"

namespace weft::worker {
namespace {

using Kind = Initialisation::Kind;

// Element i comes from the draw at (i / 4, ordinal), word i % 4.
void FillUniform(uint64_t seed, uint32_t ordinal, double bound, absl::Span<double> into) {
  kernels::PhiloxWords words = {};
  for (size_t i = 0; i < into.size(); ++i) {
    if (i % 4 == 0) words = kernels::Draw(seed, {}, static_cast<uint32_t>(i / 4), ordinal);
    into[i] = bound * (2.0 * kernels::U32(words[i % 4]) - 1.0);
  }
}

// Normals; those beyond two deviations are drawn again, under the next step of the site.
void FillTruncatedNormal(uint64_t seed, uint32_t ordinal, double deviation,
                         absl::Span<double> into) {
  kernels::FillNormal(seed, {}, ordinal, /*first=*/0, into);
  for (size_t i = 0; i < into.size(); ++i) {
    for (uint32_t attempt = 1; std::abs(into[i]) > 2.0; ++attempt) {
      std::array<double, 4> again = {};
      kernels::FillNormal(seed, {.step = attempt}, ordinal, static_cast<int64_t>(i / 4 * 4),
                          absl::MakeSpan(again));
      into[i] = again[i % 4];
    }
    into[i] *= deviation;
  }
}

void FillParameter(uint64_t seed, uint32_t ordinal, const Initialisation& initialisation,
                   absl::Span<double> into) {
  switch (initialisation.kind) {
    case Kind::kFill:
      std::fill(into.begin(), into.end(), initialisation.scale);
      return;
    case Kind::kNormal:
      kernels::FillNormal(seed, {}, ordinal, /*first=*/0, into);
      for (double& value : into) value *= initialisation.scale;
      return;
    case Kind::kTruncatedNormal:
      return FillTruncatedNormal(seed, ordinal, initialisation.scale, into);
    case Kind::kUniform:
      return FillUniform(seed, ordinal, initialisation.scale, into);
    case Kind::kGiven:
      return initialisation.given(seed, into);
  }
}

// The flat block on the host, in fp32 on every device.
std::vector<float> DrawBlock(uint64_t seed, const ParameterLayout& layout) {
  std::vector<float> block(static_cast<size_t>(layout.block_count()), 0.0F);
  std::vector<double> values;
  uint32_t ordinal = 0;
  for (const Parameter& parameter : layout.parameters()) {
    values.resize(static_cast<size_t>(parameter.shape.count()));
    FillParameter(seed, ordinal++, parameter.initialisation, absl::MakeSpan(values));
    std::transform(values.begin(), values.end(), block.begin() + parameter.offset,
                   [](double value) { return static_cast<float>(value); });
  }
  return block;
}

}  // namespace

absl::Status InitialiseWeights(uint64_t seed, kernels::Stream& stream, ParameterBlock& weights) {
  const std::vector<float> block = DrawBlock(seed, weights.layout());
  kernels::Tensor target = weights.block();
  if (target.dtype() == kernels::DType::kF32) {
    return stream.device().CopyFromHost(target, block.data(), stream);
  }
  const std::vector<double> widened(block.begin(), block.end());
  return kernels::WriteValues(target, widened, stream);
}

}  // namespace weft::worker

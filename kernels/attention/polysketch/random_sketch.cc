#include "kernels/attention/polysketch/random_sketch.h"

#include <bit>
#include <cmath>

#include "absl/types/span.h"
#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"
#include "kernels/random/philox.h"

namespace weft::kernels {
namespace {

constinit OpTable<RandomSketchForwardKernel> forward_kernels("random sketch forward");
constinit OpTable<RandomSketchBackwardKernel> backward_kernels("random sketch backward");

constexpr int64_t kLargestDegree = 64;

bool IsPowerOfTwo(int64_t n) { return n > 0 && std::has_single_bit(static_cast<uint64_t>(n)); }

absl::Status CheckProblem(const RandomSketchProblem& p) {
  if (p.input_dim < 1 || p.sketch_dim < 1) {
    return absl::InvalidArgumentError(absl::StrCat("random sketch: input_dim ", p.input_dim,
                                                   ", sketch_dim ", p.sketch_dim,
                                                   ": both must be positive"));
  }
  if (p.degree < 4 || p.degree > kLargestDegree || !IsPowerOfTwo(p.degree)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "random sketch: degree is ", p.degree, ", expected a power of two, 4 to ", kLargestDegree));
  }
  return absl::OkStatus();
}

// x and phi have the same rows.
void CheckOperands(OperandCheck& check, const RandomSketchProblem& p, const Tensor& x,
                   const Tensor& leaves, const Tensor& inner, const char* phi_name,
                   const Tensor& phi) {
  check.Compute("x", x, 1);
  if (!check.ok()) return;
  check.Require(x.dim(-1) == p.input_dim,
                absl::StrCat("x is ", x.ToString(), ", expected rows of ", p.input_dim));
  check.Compute(phi_name, phi, 1).Counted(phi_name, phi, RowsOf(x) * p.sketch_dim);
  if (!check.ok()) return;
  check.Require(phi.dim(-1) == p.sketch_dim, absl::StrCat(phi_name, " is ", phi.ToString(),
                                                          ", expected rows of ", p.sketch_dim));
  check.Shaped("leaves", leaves, {p.leaves(), p.sketch_dim, p.input_dim});
  if (p.inner() > 0) {
    check.Shaped("inner", inner, {p.inner(), p.sketch_dim, p.sketch_dim});
  } else {
    check.Require(!inner.present(), "inner has no part in a sketch of degree 4");
  }
}

// One matrix [r, n], the number `matrix` of its layer.
void DrawMatrix(uint64_t seed, const DrawSite& site, int64_t matrix, SketchMatrices kind,
                int64_t inputs, absl::Span<double> out) {
  const auto ordinal = static_cast<uint32_t>(matrix);
  if (kind == SketchMatrices::kGaussian) return FillNormal(seed, site, ordinal, 0, out);
  WEFT_CHECK(IsPowerOfTwo(inputs));
  const int64_t outputs = static_cast<int64_t>(out.size()) / inputs;
  // Signs are words 0, columns words 2 and 3 of the same draws.
  for (int64_t row = 0; row < outputs; ++row) {
    const PhiloxWords words = Draw(seed, site, static_cast<uint32_t>(row), ordinal);
    const uint64_t column = ChooseBelow(words[2], words[3], static_cast<uint64_t>(inputs));
    for (int64_t i = 0; i < inputs; ++i) {
      const uint32_t sign = Draw(seed, site, static_cast<uint32_t>(i), ordinal)[0] >> 31;
      const int ones = std::popcount(static_cast<uint64_t>(i) & column) + static_cast<int>(sign);
      out[static_cast<size_t>(row * inputs + i)] = ones % 2 == 0 ? 1.0 : -1.0;
    }
  }
}

}  // namespace

double SketchFactor(const RandomSketchProblem& problem) {
  const auto r = static_cast<double>(problem.sketch_dim);
  return problem.scale == SketchScale::kUnbiased ? 1.0 / std::sqrt(r) : 1.0 / r;
}

RandomSketchDraw DrawRandomSketch(uint64_t seed, uint32_t layer, const RandomSketchProblem& problem,
                                  SketchMatrices kind) {
  WEFT_CHECK(CheckProblem(problem).ok());
  const DrawSite site{.tag = RandomTag::kFeatureMatrix, .layer = layer};
  const int64_t leaf = problem.sketch_dim * problem.input_dim;
  const int64_t inner = problem.sketch_dim * problem.sketch_dim;
  RandomSketchDraw draw{std::vector<double>(static_cast<size_t>(problem.leaves() * leaf)),
                        std::vector<double>(static_cast<size_t>(problem.inner() * inner))};
  for (int64_t i = 0; i < problem.leaves(); ++i) {
    DrawMatrix(seed, site, i, kind, problem.input_dim,
               absl::MakeSpan(draw.leaves.data() + i * leaf, static_cast<size_t>(leaf)));
  }
  for (int64_t i = 0; i < problem.inner(); ++i) {
    DrawMatrix(seed, site, problem.leaves() + i, kind, problem.sketch_dim,
               absl::MakeSpan(draw.inner.data() + i * inner, static_cast<size_t>(inner)));
  }
  return draw;
}

void RegisterRandomSketch(DeviceKind kind, RandomSketchForwardKernel* forward,
                          RandomSketchBackwardKernel* backward) {
  forward_kernels.Set(kind, forward);
  backward_kernels.Set(kind, backward);
}

absl::Status Supports(const Device& device, const RandomSketchProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  return absl::OkStatus();
}

absl::Status RandomSketchForward(Stream& stream, const RandomSketchProblem& problem,
                                 const Tensor& x, const Tensor& leaves, const Tensor& inner,
                                 Tensor& phi) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  OperandCheck check("RandomSketchForward", stream);
  CheckOperands(check, problem, x, leaves, inner, "phi", phi);
  WEFT_RETURN_IF_ERROR(check.status());
  return forward_kernels.Call(stream, problem, x, leaves, inner, phi);
}

absl::Status RandomSketchBackward(Stream& stream, const RandomSketchProblem& problem,
                                  const Tensor& x, const Tensor& leaves, const Tensor& inner,
                                  const Tensor& d_phi, Tensor& d_x, Accumulate accumulate) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  OperandCheck check("RandomSketchBackward", stream);
  CheckOperands(check, problem, x, leaves, inner, "d_phi", d_phi);
  if (check.ok()) check.Shaped("d_x", d_x, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return backward_kernels.Call(stream, problem, x, leaves, inner, d_phi, d_x, accumulate);
}

}  // namespace weft::kernels

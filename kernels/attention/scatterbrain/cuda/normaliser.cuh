// What the masses of a query's weights give: in units of exp(reference). Private to
// kernels/attention/scatterbrain/cuda.
#pragma once

namespace weft::kernels::scatterbrain_cuda {

struct Normaliser {
  static constexpr float kLeast = 1e-30F;

  // What is left of the low-rank mass when the exact pairs are taken out is positive but for
  // rounding. A query whose reference is -infinity sees no key.
  __device__ Normaliser(float of_reference, float exact, float left)
      : reference(of_reference),
        low_rank(fmaxf(left, 0.0F)),
        sum(fmaxf(exact + low_rank, kLeast)) {}

  [[nodiscard]] __device__ bool blind() const { return reference == -INFINITY; }
  [[nodiscard]] __device__ float factor() const { return blind() ? 0.0F : 1.0F / sum; }
  [[nodiscard]] __device__ float share() const { return low_rank * factor(); }
  [[nodiscard]] __device__ float logarithm() const {
    return blind() ? -INFINITY : reference + logf(sum);
  }

  float reference, low_rank, sum;
};

}  // namespace weft::kernels::scatterbrain_cuda

// Random sketches: features phi(x) of width r with E[phi(x) . phi(y)] = (x . y)^(p/2), so that
// squares of their dot products stand for (x . y)^p. Kacham, Mirrokni and Zhong 2024,
// "PolySketchFormer", algorithm 1; Ahle et al. 2020, "Oblivious sketching of high-degree polynomial
// kernels". A tree over p/2 copies of x, with random matrices G at its edges:
//
//   sketch of one copy     x
//   sketch of t copies     scale * (left G) o (right G'), left and right sketches of t/2 copies
//
// o multiplies elements. The matrices are constants: drawn once for a layer, the same for queries,
// keys, all heads and all steps.
//
// The square is biased upwards: for p = 4 it is (x . y)^4 plus ((|x|^2 |y|^2 + 2 (x . y)^2)^2 -
// (x . y)^4) / r on average.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// The factor of every product in the tree.
enum class SketchScale : uint8_t {
  kUnbiased,  // 1 / sqrt(r): phi(x) . phi(y) has the right mean
  kOfficial,  // 1 / r, as the authors' program computes: phi(x) . phi(y) is too small by sqrt(r)
              // for each product in the tree, weights by its square
};

struct RandomSketchProblem {
  int64_t input_dim = 0;   // h
  int64_t sketch_dim = 0;  // r
  int64_t degree = 4;      // p: a power of two, 4 to 64
  SketchScale scale = SketchScale::kUnbiased;

  // Matrices at the edges below the p/2 copies of x, and at those further up.
  [[nodiscard]] int64_t leaves() const { return degree / 2; }
  [[nodiscard]] int64_t inner() const { return degree / 2 - 2; }
};

enum class SketchMatrices : uint8_t {
  kGaussian,  // independent standard normals
  // Random signs times random columns of the Sylvester Hadamard matrix, drawn with replacement:
  // its size, the number of inputs, must be a power of two.
  kHadamard,
};

// The matrices of a layer in the order in which the ops below take them, made on the host in
// double: `leaves` [p/2, r, h] and `inner` [p/2 - 2, r, r], level by level from the leaves up.
struct RandomSketchDraw {
  std::vector<double> leaves;
  std::vector<double> inner;
};
RandomSketchDraw DrawRandomSketch(uint64_t seed, uint32_t layer, const RandomSketchProblem& problem,
                                  SketchMatrices kind);

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const RandomSketchProblem& problem);

// x [..., h], leaves [p/2, r, h], inner [p/2 - 2, r, r] (absent for p = 4) -> phi [..., r].
absl::Status RandomSketchForward(Stream& stream, const RandomSketchProblem& problem,
                                 const Tensor& x, const Tensor& leaves, const Tensor& inner,
                                 Tensor& phi);

// d_phi [..., r] -> d_x [..., h], overwritten or added to. Computes the products again.
absl::Status RandomSketchBackward(Stream& stream, const RandomSketchProblem& problem,
                                  const Tensor& x, const Tensor& leaves, const Tensor& inner,
                                  const Tensor& d_phi, Tensor& d_x, Accumulate accumulate);

}  // namespace weft::kernels

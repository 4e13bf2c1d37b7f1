// The elementwise kernels of random and learned sketches on CUDA: launchers. Addresses are of the
// compute type.
#pragma once

#include <cstdint>

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// product[n] = factor * a * b
cudaError_t LaunchScaledProduct(const CudaLaunch& on, int64_t n, float factor, const void* a,
                                const void* b, void* product);
// d_a = factor * d_product * b, d_b = factor * d_product * a
cudaError_t LaunchScaledProductBackward(const CudaLaunch& on, int64_t n, float factor,
                                        const void* d_product, const void* a, const void* b,
                                        void* d_a, void* d_b);
// phi[n] = bound * tanh(a * b / bound)
cudaError_t LaunchBoundedProduct(const CudaLaunch& on, int64_t n, float bound, const void* a,
                                 const void* b, void* phi);
// With d_u = d_phi * (1 - (phi / bound)^2): d_a = d_u * b, d_b = d_u * a. Where d_a and d_b are a
// and b themselves, these are replaced.
cudaError_t LaunchBoundedProductBackward(const CudaLaunch& on, int64_t n, float bound,
                                         const void* phi, const void* d_phi, const void* a,
                                         const void* b, void* d_a, void* d_b);

}  // namespace weft::kernels::internal

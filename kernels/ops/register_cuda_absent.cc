#include "kernels/ops/register.h"

namespace weft::kernels {

// There is no CUDA device in this build that could call them.
void RegisterCudaKernels() {}

}  // namespace weft::kernels

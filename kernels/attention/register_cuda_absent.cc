#include "kernels/attention/register.h"

namespace weft::kernels {

// There is no CUDA device in this build that could call them.
void RegisterCudaAttention() {}

}  // namespace weft::kernels

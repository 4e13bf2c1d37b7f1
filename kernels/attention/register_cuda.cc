#include "kernels/attention/register.h"

namespace weft::kernels {

void RegisterCudaAttention() {}

}  // namespace weft::kernels

#include "kernels/attention/register.h"

namespace weft::kernels {

void RegisterReferenceAttention() {}

void RegisterCpuAttention() {}

}  // namespace weft::kernels

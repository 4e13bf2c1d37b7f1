// Who implements short_conv where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/short_conv/short_conv.h"

namespace weft::kernels::internal {

inline OpTable<decltype(ShortConvForward)> short_conv_forward{"ShortConvForward"};
inline OpTable<decltype(ShortConvBackward)> short_conv_backward{"ShortConvBackward"};

void RegisterCpuShortConv();
void RegisterReferenceShortConv();
void RegisterCudaShortConv();

}  // namespace weft::kernels::internal

// Who implements mean_pool where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/mean_pool/mean_pool.h"

namespace weft::kernels::internal {

inline OpTable<decltype(MeanPoolForward)> mean_pool_forward{"MeanPoolForward"};
inline OpTable<decltype(MeanPoolBackward)> mean_pool_backward{"MeanPoolBackward"};

void RegisterCpuMeanPool();
void RegisterReferenceMeanPool();
void RegisterCudaMeanPool();

}  // namespace weft::kernels::internal

// Who implements columns where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/columns/columns.h"

namespace weft::kernels::internal {

inline OpTable<decltype(PutColumns)> put_columns{"PutColumns"};
inline OpTable<decltype(TakeColumns)> take_columns{"TakeColumns"};

void RegisterCpuColumns();
void RegisterReferenceColumns();
void RegisterCudaColumns();

}  // namespace weft::kernels::internal

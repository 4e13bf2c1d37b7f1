// Who implements pair_features where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/pair_features/pair_features.h"

namespace weft::kernels::internal {

inline OpTable<decltype(PairFeaturesForward)> pair_features_forward{"PairFeaturesForward"};
inline OpTable<decltype(PairFeaturesBackward)> pair_features_backward{"PairFeaturesBackward"};

void RegisterCpuPairFeatures();
void RegisterReferencePairFeatures();
void RegisterCudaPairFeatures();

}  // namespace weft::kernels::internal

#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/attention/register.h"

namespace weft::kernels {

void RegisterCudaAttention() {
  RegisterDelta(DeviceKind::kCuda, DeltaForwardCuda, DeltaBackwardCuda);
  SetDeltaCudaRecord(DeltaCudaRecordBytes);
}

}  // namespace weft::kernels

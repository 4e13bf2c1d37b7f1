// Ordinary zeroed memory as a Buffer, for the devices whose memory is the host's.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// kResourceExhausted when the system gives no more.
absl::StatusOr<std::shared_ptr<Buffer>> NewHostBuffer(Device& device, int64_t bytes);

// Device::CopyToHost and CopyFromHost where the device's memory is the host's.
absl::Status CopyOutOfHostBuffer(void* to, const Tensor& from, const Device& device);
absl::Status CopyIntoHostBuffer(Tensor& to, const void* from, const Device& device);

}  // namespace weft::kernels

// The reference device: fp64, plain loops, one thread. It judges every other device and runs whole
// models in double precision; nobody optimises it.
#pragma once

#include <memory>

#include "kernels/device/device.h"

namespace weft::kernels {

std::unique_ptr<Device> NewReferenceDevice();

}  // namespace weft::kernels

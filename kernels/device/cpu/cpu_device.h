// The CPU device: fp32, a pool of threads, vector units chosen at run time.
//
// Bits of results depend on device_class() alone: not on the number of threads, nor on which
// thread does what. Several devices may share a process (one per rank in tests).
#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/device/cpu/instruction_set.h"
#include "kernels/device/device.h"

namespace weft::kernels {

struct CpuOptions {
  int threads = 1;  // that work on an op, the calling thread included; at least 1
  // Less than the machine offers, to match an older machine or to test. The choice of the first
  // device holds for the whole process, because the matrix library keeps one for each process.
  std::optional<InstructionSet> isa = std::nullopt;
};

// kInvalidArgument: no threads, or an instruction set that this machine lacks.
// kFailedPrecondition: another device of this process uses another instruction set.
absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const CpuOptions& options);

}  // namespace weft::kernels

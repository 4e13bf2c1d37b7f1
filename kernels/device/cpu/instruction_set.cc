#include "kernels/device/cpu/instruction_set.h"

namespace weft::kernels {

InstructionSet BestInstructionSet() {
  __builtin_cpu_init();
  // These builtins look at the registers that the operating system saves as well as at the CPU.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return InstructionSet::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return InstructionSet::kAvx2;
  }
  return InstructionSet::kSse2;
}

}  // namespace weft::kernels

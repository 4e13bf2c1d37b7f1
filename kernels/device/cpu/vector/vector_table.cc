#include "kernels/device/cpu/vector/vector_table.h"

#include "kernels/device/cpu/instruction_set.h"

namespace weft::kernels {

// Each from its own compilation of row_loops.cc.
namespace sse2 {
extern const VectorTable kTable;
}
namespace avx2 {
extern const VectorTable kTable;
}
namespace avx512 {
extern const VectorTable kTable;
}

const VectorTable& VectorTableFor(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512:
      return avx512::kTable;
    case InstructionSet::kAvx2:
      return avx2::kTable;
    case InstructionSet::kSse2:
      break;
  }
  return sse2::kTable;
}

}  // namespace weft::kernels

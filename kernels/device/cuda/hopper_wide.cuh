// Products of 256 columns (hopper.cuh): 128 accumulators a thread.
#pragma once

#include "kernels/device/cuda/hopper.cuh"

namespace weft::kernels::hopper {

#define WEFT_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WEFT_D16(i) WEFT_D4(i), WEFT_D4(i + 4), WEFT_D4(i + 8), WEFT_D4(i + 12)
#define WEFT_D64(i) WEFT_D16(i), WEFT_D16(i + 16), WEFT_D16(i + 32), WEFT_D16(i + 48)
#define WEFT_R128                                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,"    \
  "%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,"    \
  "%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,"    \
  "%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106," \
  "%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,"   \
  "%124,%125,%126,%127}"

// d = d * keep + A B over 16 of K; d [64, 256], both operands in shared memory. keep: 0 or 1.
template <Rows kA, Rows kB>
__device__ inline void Multiply(float (&d)[128], uint64_t a, uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " WEFT_R128
      ", %128, %129, p, 1, 1, %131, %132;\n}\n"
      : WEFT_D64(0), WEFT_D64(64)
      : "l"(a), "l"(b), "r"(keep), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
}

#undef WEFT_D4
#undef WEFT_D16
#undef WEFT_D64
#undef WEFT_R128

}  // namespace weft::kernels::hopper

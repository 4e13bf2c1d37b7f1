// The generator of philox.h on a GPU: the same words at the same places.
#pragma once

#include <cstdint>

namespace weft::kernels {

// Ten rounds of Philox4x32 over `counter` under `key`.
__device__ inline uint4 Philox4x32(uint4 counter, uint64_t key) {
  auto key0 = static_cast<uint32_t>(key);
  auto key1 = static_cast<uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53U, counter.x);
    const uint32_t low0 = 0xD2511F53U * counter.x;
    const uint32_t high1 = __umulhi(0xCD9E8D57U, counter.z);
    const uint32_t low1 = 0xCD9E8D57U * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

}  // namespace weft::kernels

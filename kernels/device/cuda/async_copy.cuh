// Copies from global to shared memory that go on while the thread does something else (cp.async,
// sm_80 and later).
#pragma once

#include <cstdint>

namespace weft::kernels {

// Starts a copy of kBytes (4, 8 or 16), to which both addresses are aligned; zeros if there is
// nothing to copy (`from` must be an address all the same).
template <int kBytes>
__device__ inline void CopyAsync(void* shared, const void* from, bool there) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? kBytes : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from),
                 "r"(there ? kBytes : 0), "n"(kBytes)
                 : "memory");
  }
}

// Until all copies that this thread has started are done; other threads see them after a barrier.
__device__ inline void AwaitCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// What this thread has started since the last call becomes a group.
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the kLast last groups are done.
template <int kLast>
__device__ inline void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLast) : "memory");
}

}  // namespace weft::kernels

// Makes the attention mechanisms known to a kind of device. Call once at start-up, before the first
// op; calling again changes nothing.
#pragma once

namespace weft::kernels {

// fp64, plain loops: the judge of the others.
void RegisterReferenceAttention();
// fp32, threads and vector units.
void RegisterCpuAttention();
// bf16 or fp32 on a GPU; nothing, in a build without CUDA.
void RegisterCudaAttention();

}  // namespace weft::kernels

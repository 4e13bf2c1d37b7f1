// Makes the ops of this folder known to their devices. Call once when a program starts, before any
// op; calling again changes nothing. Not while another thread runs ops.
#pragma once

namespace weft::kernels {

void RegisterCpuKernels();
void RegisterReferenceKernels();
// Nothing, in a build without CUDA.
void RegisterCudaKernels();

}  // namespace weft::kernels

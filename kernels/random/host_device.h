// WEFT_HOST_DEVICE before a function: code for the host and, where nvcc compiles it, for GPUs too.
#pragma once

#ifdef __CUDACC__
#define WEFT_HOST_DEVICE __host__ __device__
#else
#define WEFT_HOST_DEVICE
#endif

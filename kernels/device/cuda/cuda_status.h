// Errors of the CUDA runtime and of cuBLASLt as absl::Status. For device code only.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weft::kernels {

// Whether the error has ended this process's use of the GPU: every later call fails with it too,
// and only a new process can go on (illegal addresses, failed launches, hardware faults).
bool IsSticky(cudaError_t error);

// OK, or what failed: kResourceExhausted without memory, kUnavailable without GPU or driver,
// kDataLoss for sticky errors, else kInternal.
absl::Status CudaStatus(cudaError_t error, absl::string_view what);
absl::Status CublasStatus(cublasStatus_t error, absl::string_view what);

}  // namespace weft::kernels

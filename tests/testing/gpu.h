// Tests that need a GPU: they say loudly that they were skipped for want of one, and fail instead
// where the environment has WEFT_REQUIRE_GPU=1.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/string_view.h"
#include "common/base/check.h"
#include "kernels/device/cuda/cuda_device.h"

namespace weft::testing {

// Null when this machine or this build has no GPU; ends the process where there must be one.
inline std::unique_ptr<kernels::Device> CudaOrNull(kernels::DType compute) {
  absl::StatusOr<std::unique_ptr<kernels::Device>> device =
      kernels::NewCudaDevice({.compute = compute});
  if (device.ok()) return *std::move(device);
  const char* required = std::getenv("WEFT_REQUIRE_GPU");  // NOLINT(concurrency-mt-unsafe)
  WEFT_CHECK_MSG(required == nullptr || absl::string_view(required) != "1",
                 device.status().ToString());
  std::fprintf(stderr, "*** NOT TESTED, no GPU: %s\n", device.status().ToString().c_str());
  return nullptr;
}

}  // namespace weft::testing

// A CUDA device named `device`, or the end of the test.
#define WEFT_CUDA_OR_SKIP(device, compute)                                                      \
  const std::unique_ptr<::weft::kernels::Device> device = ::weft::testing::CudaOrNull(compute); \
  if ((device) == nullptr) GTEST_SKIP() << "this test needs a GPU"

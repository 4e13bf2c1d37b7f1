// What the tests of attention mechanisms share: host arrays in, host arrays out, on any device; a
// portable stream of numbers; the tolerance rule.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/device.h"
#include "kernels/device/host_values.h"
#include "kernels/device/reference/reference_device.h"

namespace weft::kernels::testing {

// All host arrays are double, row-major; a device that computes in f32 gets them rounded.
using Values = std::vector<double>;

// x <- 1664525 x + 1013904223 mod 2^32: the same numbers in every language, for golden values.
class NumberStream {
 public:
  explicit NumberStream(uint32_t seed) : x_(seed) {}
  double Uniform() {  // in [0, 1)
    x_ = 1664525U * x_ + 1013904223U;
    return x_ / 4294967296.0;
  }
  Values Uniform(int64_t count) {
    Values values(count);
    for (double& value : values) value = Uniform();
    return values;
  }
  Values Symmetric(int64_t count) {  // in [-1, 1)
    Values values(count);
    for (double& value : values) value = 2.0 * Uniform() - 1.0;
    return values;
  }

 private:
  uint32_t x_;
};

// Every row of `width` scaled to length one (rows of zeros stay).
inline void NormalizeRows(Values& values, int64_t width, double epsilon = 1e-6) {
  for (size_t row = 0; row < values.size(); row += width) {
    double squares = epsilon;
    for (int64_t i = 0; i < width; ++i) squares += values[row + i] * values[row + i];
    for (int64_t i = 0; i < width; ++i) values[row + i] /= std::sqrt(squares);
  }
}

// Which vector units the CPU device of this process uses: those that WEFT_TEST_ISA names (a process
// has only one set), at most what the machine has; its best when nothing is asked.
inline std::optional<InstructionSet> TestInstructionSet() {
  const char* name = std::getenv("WEFT_TEST_ISA");  // NOLINT(concurrency-mt-unsafe): one thread
  if (name == nullptr) return std::nullopt;
  for (const InstructionSet set : kInstructionSets) {
    if (NameOf(set) == name) return std::min(set, BestInstructionSet());
  }
  WEFT_CHECK_MSG(false, name);
  return std::nullopt;
}

// A device with one stream, to run ops on host arrays.
class DeviceRun {
 public:
  static DeviceRun Reference() {
    RegisterReferenceAttention();
    return DeviceRun(NewReferenceDevice());
  }
  static DeviceRun Cpu(int threads = 2) {
    RegisterCpuAttention();
    return DeviceRun(NewCpuDevice({.threads = threads, .isa = TestInstructionSet()}).value());
  }
  // A GPU (tests/testing/gpu.h finds one), which lives as long as this.
  static DeviceRun Cuda(std::unique_ptr<Device> device) {
    RegisterCudaAttention();
    return DeviceRun(std::move(device));
  }

  Device& device() { return *device_; }
  Stream& stream() { return *stream_; }

  Tensor New(const Shape& shape) {
    return NewTensor(*device_, device_->compute_dtype(), shape).value();
  }
  Tensor NewSum(const Shape& shape) {
    return NewTensor(*device_, device_->sum_dtype(), shape).value();
  }
  Tensor Upload(const Values& values, const Shape& shape) { return Filled(New(shape), values); }
  Tensor UploadSum(const Values& values, const Shape& shape) {
    return Filled(NewSum(shape), values);
  }
  Tensor UploadIntegers(const std::vector<int32_t>& values, const Shape& shape) {
    return Filled(NewTensor(*device_, DType::kI32, shape).value(),
                  Values(values.begin(), values.end()));
  }
  Values Download(const Tensor& tensor) { return ReadValues(tensor, *stream_).value(); }

 private:
  explicit DeviceRun(std::unique_ptr<Device> device)
      : device_(std::move(device)), stream_(device_->NewStream().value()) {}

  Tensor Filled(Tensor tensor, const Values& values) {
    WEFT_CHECK(WriteValues(tensor, values, *stream_).ok());
    return tensor;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

// The arrays rounded to fp32 and back: what an fp32 device and its exact rival both start from.
inline void RoundToFloat(Values& values) {
  for (double& value : values) value = static_cast<float>(value);
}

inline double MaxMagnitude(const Values& values) {
  double largest = 0.0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// NaN anywhere gives infinity.
inline double MaxDifference(const Values& a, const Values& b) {
  WEFT_CHECK(a.size() == b.size());
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;  // equal infinities too
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= std::numeric_limits<double>::max())) {
      return std::numeric_limits<double>::infinity();
    }
    largest = std::max(largest, difference);
  }
  return largest;
}

inline double RootMeanSquareDifference(const Values& a, const Values& b) {
  WEFT_CHECK(a.size() == b.size());
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(std::max<size_t>(a.size(), 1)));
}

inline double RootMeanSquare(const Values& a) {
  return RootMeanSquareDifference(a, Values(a.size(), 0.0));
}

// The tolerance rule: a kernel may err at most twice as much as `plain`, the textbook loops in the
// same precision, plus two roundings of the largest result, or of `terms`: the size of terms that
// cancel in an exact zero.
inline void ExpectAsExactAsPlain(const Values& got, const Values& plain, const Values& exact,
                                 const std::string& what, double terms = 0.0) {
  const double rounding =
      std::numeric_limits<float>::epsilon() * std::max(terms, MaxMagnitude(exact));
  EXPECT_LE(MaxDifference(got, exact), 2.0 * MaxDifference(plain, exact) + 2.0 * rounding) << what;
}

}  // namespace weft::kernels::testing

// What the benchmarks of GPU kernels share: a GPU with operands on it, the time of a call, and what
// the GPU was measured to do at most in the same run.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "kernels/device/cuda/cuda_device.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/register.h"
#include "kernels/random/philox.h"

namespace weft::kernels {

inline void Check(const absl::Status& status) { WEFT_CHECK_MSG(status.ok(), status.ToString()); }

class Gpu {
 public:
  Gpu() {
    RegisterCudaKernels();
    absl::StatusOr<std::unique_ptr<Device>> device = NewCudaDevice({});
    if (!device.ok()) {
      status_ = device.status();
      return;
    }
    device_ = *std::move(device);
    stream_ = *device_->NewStream();
  }
  [[nodiscard]] const absl::Status& status() const { return status_; }
  Stream& stream() { return *stream_; }

  Tensor New(DType dtype, const Shape& shape) { return *NewTensor(*device_, dtype, shape); }
  // Normal values in rows of a million that repeat: never zeros, which can be faster.
  Tensor Random(DType dtype, const Shape& shape) {
    constexpr int64_t drawn = int64_t{1} << 20;
    Tensor tensor = New(dtype, shape);
    std::vector<double> values(static_cast<size_t>(std::min(drawn, tensor.count())));
    FillNormal(1, {}, 0, 0, absl::MakeSpan(values));
    for (int64_t first = 0; first < tensor.count(); first += drawn) {
      const int64_t count = std::min(drawn, tensor.count() - first);
      Tensor part = tensor.Part(first, {count});
      Check(WriteValues(part, absl::MakeSpan(values).first(static_cast<size_t>(count)), *stream_));
    }
    return tensor;
  }
  // Seconds of one call.
  double Time(const std::function<absl::Status()>& call) {
    constexpr int calls = 20;
    Check(call());
    Check(stream_->Synchronize());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) Check(call());
    Check(stream_->Synchronize());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
  }

  // Bytes a second, read and written, of a copy of a gigabyte.
  double CopyRate() {
    static const double rate = [this] {
      Tensor from = Random(DType::kBf16, {int64_t{1} << 29}), to = New(DType::kBf16, from.shape());
      return 2.0 * static_cast<double>(from.bytes()) /
             Time([&] { return Copy(*stream_, from, to); });
    }();
    return rate;
  }
  // FLOPs a second of a product of random 8192 x 8192 matrices.
  double ProductRate() {
    static const double rate = [this] {
      const Shape shape = {8192, 8192};
      const Tensor a = Random(DType::kBf16, shape), b = Random(DType::kBf16, shape);
      Tensor c = New(DType::kBf16, shape), none;
      return 2.0 * 8192 * 8192 * 8192 /
             Time([&] { return LinearForward(*stream_, a, b, none, none, c); });
    }();
    return rate;
  }

 private:
  absl::Status status_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace weft::kernels

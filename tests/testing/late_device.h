// LateDevice: a CPU device whose copies from the host are there no sooner than their stream is
// waited for, as those of a GPU may be.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/device.h"

namespace weft::testing {

class LateDevice final : public kernels::Device {
 public:
  LateDevice() {
    auto device = kernels::NewCpuDevice({.threads = 1});
    WEFT_CHECK_MSG(device.ok(), device.status().ToString());
    device_ = *std::move(device);
  }
  [[nodiscard]] kernels::DeviceKind kind() const override { return device_->kind(); }
  [[nodiscard]] kernels::DType compute_dtype() const override { return device_->compute_dtype(); }
  [[nodiscard]] absl::string_view device_class() const override { return device_->device_class(); }
  absl::StatusOr<std::unique_ptr<kernels::Stream>> NewStream() override {
    WEFT_ASSIGN_OR_RETURN(auto stream, device_->NewStream());
    return std::make_unique<LateStream>(*this, std::move(stream));
  }
  absl::StatusOr<std::shared_ptr<kernels::Buffer>> Allocate(int64_t bytes) override {
    return device_->Allocate(bytes);
  }
  absl::Status CopyToHost(void* to, const kernels::Tensor& from, kernels::Stream& stream) override {
    auto& late = static_cast<LateStream&>(stream);
    WEFT_RETURN_IF_ERROR(late.Synchronize());
    return device_->CopyToHost(to, from, late.inner());
  }
  absl::Status CopyFromHost(kernels::Tensor& to, const void* from,
                            kernels::Stream& stream) override {
    const auto* bytes = static_cast<const char*>(from);
    static_cast<LateStream&>(stream).Enqueue([to, copy = std::string(bytes, bytes + to.bytes())] {
      std::memcpy(to.address(), copy.data(), copy.size());
    });
    return absl::OkStatus();
  }

 private:
  class LateStream final : public kernels::Stream {
   public:
    LateStream(kernels::Device& device, std::unique_ptr<kernels::Stream> inner)
        : device_(device), inner_(std::move(inner)) {}
    [[nodiscard]] kernels::Device& device() const override { return device_; }
    [[nodiscard]] kernels::Stream& inner() const { return *inner_; }
    void Enqueue(std::function<void()> work) { work_.push_back(std::move(work)); }
    absl::Status Synchronize() override {
      for (const auto& work : work_) work();
      work_.clear();
      return inner_->Synchronize();
    }

   private:
    kernels::Device& device_;
    std::unique_ptr<kernels::Stream> inner_;
    std::vector<std::function<void()>> work_;
  };

  std::unique_ptr<kernels::Device> device_;
};

}  // namespace weft::testing

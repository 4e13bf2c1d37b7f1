#include "kernels/device/reference/reference_device.h"

#include "kernels/device/host_buffer.h"

namespace weft::kernels {
namespace {

class ReferenceStream final : public Stream {
 public:
  explicit ReferenceStream(Device& device) : device_(device) {}
  [[nodiscard]] Device& device() const override { return device_; }
  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  Device& device_;
};

class ReferenceDevice final : public Device {
 public:
  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kReference; }
  [[nodiscard]] DType compute_dtype() const override { return DType::kF64; }
  [[nodiscard]] absl::string_view device_class() const override { return "reference"; }
  absl::StatusOr<std::unique_ptr<Stream>> NewStream() override {
    return std::make_unique<ReferenceStream>(*this);
  }
  absl::StatusOr<std::shared_ptr<Buffer>> Allocate(int64_t bytes) override {
    return NewHostBuffer(*this, bytes);
  }
  absl::Status CopyToHost(void* to, const Tensor& from, Stream& /*stream*/) override {
    return CopyOutOfHostBuffer(to, from, *this);
  }
  absl::Status CopyFromHost(Tensor& to, const void* from, Stream& /*stream*/) override {
    return CopyIntoHostBuffer(to, from, *this);
  }
};

}  // namespace

std::unique_ptr<Device> NewReferenceDevice() { return std::make_unique<ReferenceDevice>(); }

}  // namespace weft::kernels

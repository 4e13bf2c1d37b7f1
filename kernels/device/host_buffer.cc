#include "kernels/device/host_buffer.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/device/aligned_array.h"

namespace weft::kernels {
namespace {

class HostBuffer final : public Buffer {
 public:
  HostBuffer(Device& device, int64_t bytes, std::unique_ptr<char[], FreeAligned> memory)
      : device_(device), bytes_(bytes), memory_(std::move(memory)) {}

  void* data() override { return memory_.get(); }
  [[nodiscard]] int64_t bytes() const override { return bytes_; }
  [[nodiscard]] Device& device() const override { return device_; }

 private:
  Device& device_;
  int64_t bytes_;
  std::unique_ptr<char[], FreeAligned> memory_;
};

absl::Status CheckHome(const Tensor& tensor, const Device& device) {
  if (!tensor.present()) return absl::InvalidArgumentError("copy of an absent tensor");
  if (&tensor.device() != &device) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy of ", tensor.ToString(), " through a device it does not live on"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<Buffer>> NewHostBuffer(Device& device, int64_t bytes) {
  if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat("buffer of ", bytes, " bytes"));
  std::unique_ptr<char[], FreeAligned> memory = TryNewAligned<char>(bytes);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no host memory for ", bytes, " bytes"));
  }
  return std::make_shared<HostBuffer>(device, bytes, std::move(memory));
}

absl::Status CopyOutOfHostBuffer(void* to, const Tensor& from, const Device& device) {
  if (absl::Status status = CheckHome(from, device); !status.ok()) return status;
  if (from.bytes() > 0) {
    std::memcpy(to, from.address(), static_cast<size_t>(from.bytes()));
  }
  return absl::OkStatus();
}

absl::Status CopyIntoHostBuffer(Tensor& to, const void* from, const Device& device) {
  if (absl::Status status = CheckHome(to, device); !status.ok()) return status;
  if (to.bytes() > 0) std::memcpy(to.address(), from, static_cast<size_t>(to.bytes()));
  return absl::OkStatus();
}

}  // namespace weft::kernels

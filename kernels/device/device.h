// Device and Stream: where tensors live and where ops run.
//
// Kinds: `cpu` computes in fp32 with threads and vector units; `reference` computes in fp64 with
// plain loops on one thread and is the judge of every other device, so a whole model can run on it.
// GPU and TPU join the same list later. An op is looked up by the kind of the stream it is called
// with (op_table.h).
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

enum class DeviceKind : uint8_t { kCpu, kReference };
inline constexpr int kDeviceKinds = 2;

constexpr absl::string_view NameOf(DeviceKind kind) {
  return kind == DeviceKind::kCpu ? "cpu" : "reference";
}

// An in-order queue of ops on one device. Calls enqueue and may return before the work is done (on
// CPU and reference they never do); a failure of enqueued work is reported by the next
// Synchronize(). Used by one thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  [[nodiscard]] virtual Device& device() const = 0;
  virtual absl::Status Synchronize() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual DeviceKind kind() const = 0;
  // The element type of activations and parameters: f32 on cpu, f64 on reference.
  [[nodiscard]] virtual DType compute_dtype() const = 0;
  // What decides the bits of a result beside the program: "cpu-avx512", "cpu-avx2", "cpu-sse2",
  // "reference". Part of a reproducible job's identity.
  [[nodiscard]] virtual absl::string_view device_class() const = 0;
  // The device outlives its streams and buffers.
  virtual absl::StatusOr<std::unique_ptr<Stream>> NewStream() = 0;
  // Zeroed memory. kResourceExhausted when full.
  virtual absl::StatusOr<std::shared_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  // `bytes` from the start of the tensor, converted nowhere. Returns when the copy is done.
  virtual absl::Status CopyToHost(void* to, const Tensor& from, Stream& stream) = 0;
  virtual absl::Status CopyFromHost(Tensor& to, const void* from, Stream& stream) = 0;
};

// A new zeroed tensor on `device`.
absl::StatusOr<Tensor> NewTensor(Device& device, DType dtype, const Shape& shape);

}  // namespace weft::kernels

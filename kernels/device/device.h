// Device and Stream: where tensors live and where ops run.
//
// Kinds: `cpu` computes in fp32 with threads and vector units; `reference` computes in fp64 with
// plain loops on one thread and is the judge of every other device, so a whole model can run on it;
// `cuda` computes on an NVIDIA GPU, in bf16 with fp32 sums or all in fp32. An op is looked up by
// the kind of the stream it is called with (op_table.h).
//
// Element types have two roles. The compute type is that of activations, of their gradients and of
// the parameters that a model reads. The sum type is that of whatever is a long sum or must not
// lose digits: statistics of norms, losses, gradients of parameters, optimizer state, recurrent
// states. They differ on a device that computes in half precision only.
#pragma once

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

enum class DeviceKind : uint8_t { kCpu, kReference, kCuda };
inline constexpr int kDeviceKinds = 3;

constexpr absl::string_view NameOf(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
      return "cpu";
    case DeviceKind::kReference:
      return "reference";
    case DeviceKind::kCuda:
      return "cuda";
  }
  return "?";
}

// A place in the work of a stream.
class StreamEvent {
 public:
  virtual ~StreamEvent() = default;
};

// Ops that a stream has captured, to be enqueued again in one call.
class CapturedOps {
 public:
  virtual ~CapturedOps() = default;
  // Whether the stream's working space still lies where it lay for them.
  [[nodiscard]] virtual bool IsValid() const = 0;
};

// An in-order queue of ops on one device. Calls enqueue and may return before the work is done (on
// CPU and reference they never do); a failure of enqueued work is reported by the next
// Synchronize(). Used by one thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  [[nodiscard]] virtual Device& device() const = 0;
  virtual absl::Status Synchronize() = 0;
  // The end of what is enqueued now. Where ops are done when their call returns, there is nothing
  // to remember and nothing to wait for.
  virtual absl::StatusOr<std::unique_ptr<StreamEvent>> Record() {
    return std::make_unique<StreamEvent>();
  }
  // What is enqueued from now on begins after the event, which a stream of this device recorded and
  // which may then be dropped. The caller does not wait.
  virtual absl::Status WaitFor(const StreamEvent& /*event*/) { return absl::OkStatus(); }
  // Calls `ops` and keeps what they enqueue on this stream for Replay instead of enqueuing it. Null
  // where that cannot be done: the device has nothing like it (CUDA alone has), or one of `ops`
  // waits, copies from or to the host or needs new working space. Then nothing was enqueued, and
  // `ops` may be called again.
  virtual std::unique_ptr<CapturedOps> Capture(absl::FunctionRef<absl::Status()> /*ops*/) {
    return nullptr;
  }
  // Enqueues valid ops of this stream again, on the operands that they had.
  virtual absl::Status Replay(const CapturedOps& /*ops*/) {
    return absl::FailedPreconditionError("this device captures no ops");
  }
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual DeviceKind kind() const = 0;
  // f32 on cpu, f64 on reference, bf16 or f32 on cuda.
  [[nodiscard]] virtual DType compute_dtype() const = 0;
  // f64 on reference, f32 on all others.
  [[nodiscard]] DType sum_dtype() const {
    return compute_dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  }
  // What decides the bits of a result beside the program: "cpu-avx512", "cpu-avx2", "cpu-sse2",
  // "cuda-sm90-132-bf16" (architecture, multiprocessors), "reference". Part of a reproducible job's
  // identity.
  [[nodiscard]] virtual absl::string_view device_class() const = 0;
  // The device outlives its streams and buffers.
  virtual absl::StatusOr<std::unique_ptr<Stream>> NewStream() = 0;
  // Zeroed memory. kResourceExhausted when full.
  virtual absl::StatusOr<std::shared_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  // All bytes of the tensor, converted nowhere, in the order of the stream. CopyToHost returns when
  // the copy is done, with the failures that Synchronize reports; CopyFromHost when `from` may
  // change.
  virtual absl::Status CopyToHost(void* to, const Tensor& from, Stream& stream) = 0;
  virtual absl::Status CopyFromHost(Tensor& to, const void* from, Stream& stream) = 0;
};

// A new zeroed tensor on `device`.
absl::StatusOr<Tensor> NewTensor(Device& device, DType dtype, const Shape& shape);

}  // namespace weft::kernels

// What CPU kernels see of their device: threads, vector units. Not for model code.
#pragma once

#include "absl/functional/function_ref.h"
#include "kernels/device/cpu/thread_pool.h"
#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/device/device.h"

namespace weft::kernels {

class CpuStream final : public Stream {
 public:
  // Borrows all three, which outlive the stream.
  CpuStream(Device& device, ThreadPool& pool, const VectorTable& vector)
      : device_(device), pool_(pool), vector_(vector) {}

  [[nodiscard]] Device& device() const override { return device_; }
  // Ops are done when their call returns.
  absl::Status Synchronize() override { return absl::OkStatus(); }

  // Calls tile(i) once for each i in [0, tiles), on any thread of the device in any order, and
  // returns when all are done. Tiles write separate outputs and their number must follow from the
  // shapes alone, never from threads(): that keeps the bits equal for any number of threads.
  // A tile calls no ParallelFor.
  void ParallelFor(int64_t tiles, absl::FunctionRef<void(int64_t)> tile) {
    pool_.ParallelFor(tiles, tile);
  }
  [[nodiscard]] int threads() const { return pool_.threads(); }

  // Loops over rows for the instruction set of this device.
  [[nodiscard]] const VectorTable& vector() const { return vector_; }

 private:
  Device& device_;
  ThreadPool& pool_;
  const VectorTable& vector_;
};

// The stream of a CPU device as what it is. Kernels registered for DeviceKind::kCpu are called with
// such streams only.
CpuStream& AsCpuStream(Stream& stream);

}  // namespace weft::kernels

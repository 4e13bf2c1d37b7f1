// CapturedPasses: the passes of a step, captured when they come for the second time, so that a GPU
// gets each in one call and waits for no launch of an op. A CUDA graph where the device is a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "worker/model/scratch.h"

namespace weft::worker {

// Used by one thread.
class CapturedPasses {
 public:
  // Both outlive this object.
  CapturedPasses(kernels::Stream& stream, const Scratch& scratch)
      : stream_(stream), scratch_(scratch) {}

  // Enqueues pass `index` of a step, counted from 0: by calling `pass`, or by replaying what it
  // enqueued before, which gives the same bits. `pass` enqueues the same ops in every step, on the
  // same operands, with memory from `scratch` alone.
  absl::Status Run(size_t index, absl::FunctionRef<absl::Status()> pass);

  [[nodiscard]] int64_t replays() const { return replays_; }

 private:
  struct Captured {
    bool was_run = false;     // since memory has moved: what is allocated at first, is
    bool is_refused = false;  // by the stream
    int64_t allocations = 0;  // of scratch, when it was captured
    std::unique_ptr<kernels::CapturedOps> ops;
  };

  // Captures the pass if its time has come.
  void Prepare(Captured& captured, absl::FunctionRef<absl::Status()> pass);

  kernels::Stream& stream_;
  const Scratch& scratch_;
  std::vector<Captured> passes_;
  int64_t replays_ = 0;
};

}  // namespace weft::worker

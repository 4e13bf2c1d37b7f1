#include "worker/train/captured_passes.h"

namespace weft::worker {
namespace {

// Each takes a few MiB of the GPU and of the host; the passes behind them are run op by op.
constexpr size_t kMostCaptured = 32;

}  // namespace

void CapturedPasses::Prepare(Captured& captured, absl::FunctionRef<absl::Status()> pass) {
  const bool is_valid = captured.ops != nullptr && captured.ops->IsValid() &&
                        captured.allocations == scratch_.allocations();
  if (is_valid || captured.is_refused) return;
  captured.ops = nullptr;
  if (captured.was_run) {
    captured.ops = stream_.Capture(pass);
    captured.allocations = scratch_.allocations();
    captured.is_refused = captured.ops == nullptr;
  }
  captured.was_run = true;
}

absl::Status CapturedPasses::Run(size_t index, absl::FunctionRef<absl::Status()> pass) {
  if (index >= kMostCaptured) return pass();
  if (passes_.size() <= index) passes_.resize(index + 1);
  Captured& captured = passes_[index];
  Prepare(captured, pass);
  if (captured.ops == nullptr) return pass();
  ++replays_;
  return stream_.Replay(*captured.ops);
}

}  // namespace weft::worker

// What CUDA kernels see of their device: the stream, working space, the matrix library's handle, a
// place to report bad indices. Not for model code.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device/cuda/launch.h"
#include "kernels/device/device.h"

namespace weft::kernels {

class CudaStream;

// Working space of one op, given back when it goes out of scope: the next op of the same stream may
// use it then, because it runs later. Content is undefined.
class CudaScratch {
 public:
  CudaScratch(CudaScratch&& other) noexcept : stream_(other.stream_), slot_(other.slot_) {
    other.stream_ = nullptr;
  }
  CudaScratch& operator=(CudaScratch&&) = delete;
  ~CudaScratch();

  template <typename T>
  [[nodiscard]] T* data() const {
    return static_cast<T*>(memory());
  }

 private:
  friend class CudaStream;
  CudaScratch(CudaStream* stream, size_t slot) : stream_(stream), slot_(slot) {}
  [[nodiscard]] void* memory() const;

  CudaStream* stream_;
  size_t slot_;
};

class CudaStream final : public Stream {
 public:
  static absl::StatusOr<std::unique_ptr<CudaStream>> Create(Device& device,
                                                            const CudaLaunch& launch,
                                                            cublasLtHandle_t blas);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  [[nodiscard]] Device& device() const override { return device_; }
  absl::Status Synchronize() override;
  absl::StatusOr<std::unique_ptr<StreamEvent>> Record() override;
  absl::Status WaitFor(const StreamEvent& event) override;
  // As a CUDA graph.
  std::unique_ptr<CapturedOps> Capture(absl::FunctionRef<absl::Status()> ops) override;
  absl::Status Replay(const CapturedOps& ops) override;
  // How often working space has moved.
  [[nodiscard]] int64_t moves() const { return moves_; }

  [[nodiscard]] const CudaLaunch& launch() const { return launch_; }
  [[nodiscard]] cublasLtHandle_t blas() const { return blas_; }
  // At least `bytes`, on a 256-byte boundary. Allocates (and so waits for the GPU) only when the
  // stream has never needed as much at once.
  absl::StatusOr<CudaScratch> Scratch(int64_t bytes);
  // A device word, 0 unless a kernel has met an index out of range since the last Synchronize,
  // which reports it: then 1 + the place of the index, of any op.
  [[nodiscard]] int32_t* bad_index() const { return bad_index_; }

  // In stream order; `from` may change when the call returns.
  absl::Status Upload(void* to, const void* from, int64_t bytes);
  // Done when the call returns.
  absl::Status Download(void* to, const void* from, int64_t bytes);

 private:
  friend class CudaScratch;
  struct Slot {
    void* memory = nullptr;
    int64_t bytes = 0;
    bool taken = false;
  };
  // Page-locked memory that an upload is copied from, so that the caller need not wait.
  struct Staging {
    void* memory = nullptr;
    cudaEvent_t done = nullptr;
  };
  static constexpr int64_t kStagingBytes = int64_t{1} << 20;

  CudaStream(Device& device, const CudaLaunch& launch, cublasLtHandle_t blas)
      : device_(device), launch_(launch), blas_(blas) {}
  absl::Status Allocate();
  // Waits for all that is enqueued. Goes before every copy from or to memory that is not
  // page-locked: where such a copy itself had to wait, other threads' streams stood still with it
  // (worker/train/LOG.md, section 9).
  absl::Status Await(absl::string_view what);
  // kFailedPrecondition while ops are captured, which may not do `what`.
  [[nodiscard]] absl::Status CheckNotCapturing(absl::string_view what) const;

  Device& device_;
  CudaLaunch launch_;
  cublasLtHandle_t blas_;
  std::vector<Slot> slots_;
  std::array<Staging, 8> staging_ = {};
  size_t next_staging_ = 0;
  int32_t* bad_index_ = nullptr;
  int32_t* met_bad_index_ = nullptr;  // page-locked, what Synchronize has read of it
  bool capturing_ = false;
  int64_t moves_ = 0;
};

// The stream of a CUDA device as what it is. Kernels registered for DeviceKind::kCuda are called
// with such streams only.
CudaStream& AsCudaStream(Stream& stream);

}  // namespace weft::kernels

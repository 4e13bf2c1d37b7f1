#include "kernels/device/cuda/cuda_device.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

constexpr int kOldestCapability = 80;

// With the number of multiprocessors: cuBLASLt promises the same bits only where it is the same,
// and some kernels of ours cut their sums by it.
std::string ClassOf(const cudaDeviceProp& properties, DType compute) {
  return absl::StrCat("cuda-sm", properties.major * 10 + properties.minor, "-",
                      properties.multiProcessorCount, "-", NameOf(compute));
}

// How much a device has given out. Buffers may be freed on any thread.
struct Usage {
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> peak{0};

  void Add(int64_t count) {
    const int64_t now = bytes += count;
    int64_t peak_now = peak;
    while (now > peak_now && !peak.compare_exchange_weak(peak_now, now)) {
    }
  }
};

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(Device& device, Usage& usage, void* memory, int64_t bytes)
      : device_(device), usage_(usage), memory_(memory), bytes_(bytes) {}
  // cudaFree waits for what the GPU still does, so no stream can be using the memory.
  ~CudaBuffer() override {
    cudaFree(memory_);
    usage_.bytes -= bytes_;
  }
  void* data() override { return memory_; }
  [[nodiscard]] int64_t bytes() const override { return bytes_; }
  [[nodiscard]] Device& device() const override { return device_; }

 private:
  Device& device_;
  Usage& usage_;
  void* memory_;
  int64_t bytes_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const CudaOptions& options, const cudaDeviceProp& properties)
      : options_(options),
        multiprocessors_(properties.multiProcessorCount),
        class_(ClassOf(properties, options.compute)) {}
  ~CudaDevice() override {
    if (blas_ != nullptr) cublasLtDestroy(blas_);
    if (clearing_ != nullptr) cudaStreamDestroy(clearing_);
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  absl::Status Open() {
    WEFT_RETURN_IF_ERROR(Use());
    WEFT_RETURN_IF_ERROR(CublasStatus(cublasLtCreate(&blas_), "cublasLtCreate"));
    return CudaStatus(cudaStreamCreateWithFlags(&clearing_, cudaStreamNonBlocking),
                      "making a stream");
  }

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kCuda; }
  [[nodiscard]] DType compute_dtype() const override { return options_.compute; }
  [[nodiscard]] absl::string_view device_class() const override { return class_; }

  absl::StatusOr<std::unique_ptr<Stream>> NewStream() override {
    WEFT_RETURN_IF_ERROR(Use());
    const CudaLaunch launch = {.bf16 = options_.compute == DType::kBf16,
                               .multiprocessors = multiprocessors_,
                               .ordinal = options_.ordinal};
    return CudaStream::Create(*this, launch, blas_);
  }

  absl::StatusOr<std::shared_ptr<Buffer>> Allocate(int64_t bytes) override {
    if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat("buffer of ", bytes, " bytes"));
    WEFT_RETURN_IF_ERROR(Use());
    const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
    void* memory = nullptr;
    WEFT_RETURN_IF_ERROR(
        CudaStatus(cudaMalloc(&memory, size), absl::StrCat("memory for ", bytes, " bytes")));
    auto buffer = std::make_shared<CudaBuffer>(*this, usage_, memory, bytes);
    usage_.Add(bytes);
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(memory, 0, size, clearing_), "clearing"));
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(clearing_), "clearing"));
    return buffer;
  }

  absl::Status CopyToHost(void* to, const Tensor& from, Stream& stream) override {
    WEFT_RETURN_IF_ERROR(CheckHome(from));
    return AsCudaStream(stream).Download(to, from.address(), from.bytes());
  }
  absl::Status CopyFromHost(Tensor& to, const void* from, Stream& stream) override {
    WEFT_RETURN_IF_ERROR(CheckHome(to));
    return AsCudaStream(stream).Upload(to.address(), from, to.bytes());
  }

  absl::StatusOr<CudaMemory> Memory() const {
    size_t free = 0;
    size_t total = 0;
    WEFT_RETURN_IF_ERROR(Use());
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
    return CudaMemory{.free_bytes = static_cast<int64_t>(free),
                      .total_bytes = static_cast<int64_t>(total),
                      .allocated_bytes = usage_.bytes,
                      .peak_bytes = usage_.peak};
  }

 private:
  // The GPU is a property of the calling thread.
  [[nodiscard]] absl::Status Use() const {
    return CudaStatus(cudaSetDevice(options_.ordinal), "cudaSetDevice");
  }
  absl::Status CheckHome(const Tensor& tensor) const {
    if (!tensor.present()) return absl::InvalidArgumentError("copy of an absent tensor");
    if (&tensor.device() != this) {
      return absl::InvalidArgumentError(
          absl::StrCat("copy of ", tensor.ToString(), " through a device it does not live on"));
    }
    return absl::OkStatus();
  }

  const CudaOptions options_;
  const int multiprocessors_;
  const std::string class_;
  cublasLtHandle_t blas_ = nullptr;
  cudaStream_t clearing_ = nullptr;  // of new buffers
  Usage usage_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const CudaOptions& options) {
  if (options.compute != DType::kBf16 && options.compute != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("a CUDA device computes in bf16 or f32, not in ", NameOf(options.compute)));
  }
  int count = 0;
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaGetDeviceCount(&count), "looking for GPUs"));
  if (options.ordinal < 0 || options.ordinal >= count) {
    return absl::InvalidArgumentError(
        absl::StrCat("GPU ", options.ordinal, ": this process sees ", count));
  }
  cudaDeviceProp properties{};
  WEFT_RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, options.ordinal), "reading properties"));
  if (properties.major * 10 + properties.minor < kOldestCapability) {
    return absl::UnimplementedError(absl::StrCat(properties.name, " has compute capability ",
                                                 properties.major, ".", properties.minor,
                                                 "; the oldest supported is 8.0"));
  }
  auto device = std::make_unique<CudaDevice>(options, properties);
  WEFT_RETURN_IF_ERROR(device->Open());
  return device;
}

absl::StatusOr<CudaMemory> CudaMemoryOf(const Device& device) {
  WEFT_CHECK(device.kind() == DeviceKind::kCuda);
  return static_cast<const CudaDevice&>(device).Memory();
}

}  // namespace weft::kernels

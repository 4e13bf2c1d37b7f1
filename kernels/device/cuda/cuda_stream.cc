#include "kernels/device/cuda/cuda_stream.h"

#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"

namespace weft::kernels {
namespace {

constexpr int64_t kSmallestScratch = int64_t{1} << 16;

class CudaEvent final : public StreamEvent {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  ~CudaEvent() override { cudaEventDestroy(event_); }
  [[nodiscard]] cudaEvent_t handle() const { return event_; }

 private:
  cudaEvent_t event_;
};

class CudaGraphOps final : public CapturedOps {
 public:
  CudaGraphOps(const CudaStream& stream, cudaGraphExec_t graph)
      : stream_(stream), moves_(stream.moves()), graph_(graph) {}
  ~CudaGraphOps() override { cudaGraphExecDestroy(graph_); }
  [[nodiscard]] bool IsValid() const override { return stream_.moves() == moves_; }
  [[nodiscard]] cudaGraphExec_t graph() const { return graph_; }

 private:
  const CudaStream& stream_;
  const int64_t moves_;
  cudaGraphExec_t graph_;
};

}  // namespace

CudaScratch::~CudaScratch() {
  if (stream_ != nullptr) stream_->slots_[slot_].taken = false;
}

void* CudaScratch::memory() const { return stream_->slots_[slot_].memory; }

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::Create(Device& device,
                                                               const CudaLaunch& launch,
                                                               cublasLtHandle_t blas) {
  auto stream = absl::WrapUnique(new CudaStream(device, launch, blas));
  WEFT_RETURN_IF_ERROR(stream->Allocate());
  return stream;
}

absl::Status CudaStream::Allocate() {
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&launch_.stream, cudaStreamNonBlocking),
                                  "making a stream"));
  for (Staging& staging : staging_) {
    WEFT_RETURN_IF_ERROR(CudaStatus(
        cudaHostAlloc(&staging.memory, kStagingBytes, cudaHostAllocDefault), "page-locked memory"));
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&staging.done, cudaEventDisableTiming),
                                    "making an event"));
  }
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaHostAlloc(reinterpret_cast<void**>(&met_bad_index_),
                                                sizeof(int32_t), cudaHostAllocDefault),
                                  "page-locked memory"));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(cudaMalloc(reinterpret_cast<void**>(&bad_index_), sizeof(int32_t)), "cudaMalloc"));
  return CudaStatus(cudaMemsetAsync(bad_index_, 0, sizeof(int32_t), launch_.stream), "clearing");
}

// Nothing is done about errors here: what is lost cannot be freed, and a sticky error was or will
// be reported by a call that returns a status.
CudaStream::~CudaStream() {
  cudaStreamSynchronize(launch_.stream);
  for (const Slot& slot : slots_) cudaFree(slot.memory);
  for (const Staging& staging : staging_) {
    if (staging.done != nullptr) cudaEventDestroy(staging.done);
    cudaFreeHost(staging.memory);
  }
  cudaFreeHost(met_bad_index_);
  cudaFree(bad_index_);
  if (launch_.stream != nullptr) cudaStreamDestroy(launch_.stream);
}

absl::Status CudaStream::CheckNotCapturing(absl::string_view what) const {
  if (!capturing_) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(what, " cannot be captured"));
}

std::unique_ptr<CapturedOps> CudaStream::Capture(absl::FunctionRef<absl::Status()> ops) {
  WEFT_CHECK(!capturing_);
  // Relaxed: other threads go on using the GPU on streams of their own.
  if (cudaStreamBeginCapture(launch_.stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  capturing_ = true;
  const absl::Status enqueued = ops();
  capturing_ = false;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  // What cannot be captured has done no harm to the GPU: the error is taken back.
  if (cudaStreamEndCapture(launch_.stream, &graph) != cudaSuccess) cudaGetLastError();
  if (graph != nullptr && enqueued.ok() &&
      cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess) {
    cudaGetLastError();
    executable = nullptr;
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (executable == nullptr) return nullptr;
  return std::make_unique<CudaGraphOps>(*this, executable);
}

absl::Status CudaStream::Replay(const CapturedOps& ops) {
  WEFT_CHECK(ops.IsValid());
  return CudaStatus(cudaGraphLaunch(static_cast<const CudaGraphOps&>(ops).graph(), launch_.stream),
                    "replaying captured ops");
}

absl::Status CudaStream::Synchronize() {
  WEFT_RETURN_IF_ERROR(CheckNotCapturing("waiting"));
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaMemcpyAsync(met_bad_index_, bad_index_, sizeof(int32_t),
                                                  cudaMemcpyDeviceToHost, launch_.stream),
                                  "Synchronize"));
  WEFT_RETURN_IF_ERROR(Await("Synchronize"));
  const int32_t bad_index = *met_bad_index_;
  if (bad_index == 0) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(
      CudaStatus(cudaMemsetAsync(bad_index_, 0, sizeof(int32_t), launch_.stream), "clearing"));
  return absl::InvalidArgumentError(
      absl::StrCat("an op since the last Synchronize met an index out of range, at place ",
                   bad_index - 1, " of its tokens or targets"));
}

absl::Status CudaStream::Await(absl::string_view what) {
  return CudaStatus(cudaStreamSynchronize(launch_.stream), what);
}

absl::StatusOr<std::unique_ptr<StreamEvent>> CudaStream::Record() {
  cudaEvent_t event = nullptr;
  WEFT_RETURN_IF_ERROR(
      CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
  auto owner = std::make_unique<CudaEvent>(event);
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(event, launch_.stream), "recording an event"));
  return owner;
}

absl::Status CudaStream::WaitFor(const StreamEvent& event) {
  return CudaStatus(
      cudaStreamWaitEvent(launch_.stream, static_cast<const CudaEvent&>(event).handle(), 0),
      "waiting for an event");
}

absl::StatusOr<CudaScratch> CudaStream::Scratch(int64_t bytes) {
  // The smallest free slot that is large enough, else the largest free one grows.
  size_t best = slots_.size();
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].taken) continue;
    const bool fits = slots_[i].bytes >= bytes;
    const bool best_fits = best < slots_.size() && slots_[best].bytes >= bytes;
    if (best == slots_.size() || (fits && (!best_fits || slots_[i].bytes < slots_[best].bytes)) ||
        (!fits && !best_fits && slots_[i].bytes > slots_[best].bytes)) {
      best = i;
    }
  }
  if (best == slots_.size()) slots_.emplace_back();
  Slot& slot = slots_[best];
  if (slot.bytes < bytes || slot.memory == nullptr) {
    WEFT_RETURN_IF_ERROR(CheckNotCapturing("new working space"));
    ++moves_;
    const int64_t wanted = bytes > kSmallestScratch ? bytes : kSmallestScratch;
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaFree(slot.memory), "freeing working space"));
    slot = {};
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&slot.memory, static_cast<size_t>(wanted)),
                                    absl::StrCat("working space of ", wanted, " bytes")));
    slot.bytes = wanted;
  }
  slot.taken = true;
  return CudaScratch(this, best);
}

absl::Status CudaStream::Upload(void* to, const void* from, int64_t bytes) {
  if (bytes <= 0) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(CheckNotCapturing("a copy from the host"));
  const auto size = static_cast<size_t>(bytes);
  if (bytes > kStagingBytes) {
    WEFT_RETURN_IF_ERROR(Await("copy to the GPU"));
    WEFT_RETURN_IF_ERROR(
        CudaStatus(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, launch_.stream),
                   "copy to the GPU"));
    return Await("copy to the GPU");
  }
  Staging& staging = staging_[next_staging_++ % staging_.size()];
  WEFT_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(staging.done), "copy to the GPU"));
  std::memcpy(staging.memory, from, size);
  WEFT_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpyAsync(to, staging.memory, size, cudaMemcpyHostToDevice, launch_.stream),
                 "copy to the GPU"));
  return CudaStatus(cudaEventRecord(staging.done, launch_.stream), "copy to the GPU");
}

absl::Status CudaStream::Download(void* to, const void* from, int64_t bytes) {
  WEFT_RETURN_IF_ERROR(CheckNotCapturing("a copy to the host"));
  if (bytes > 0) {
    WEFT_RETURN_IF_ERROR(Await("copy from the GPU"));
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                                                    cudaMemcpyDeviceToHost, launch_.stream),
                                    "copy from the GPU"));
  }
  return Synchronize();
}

CudaStream& AsCudaStream(Stream& stream) {
  WEFT_CHECK(stream.device().kind() == DeviceKind::kCuda);
  auto& cuda = static_cast<CudaStream&>(stream);
  // The GPU is a property of the calling thread. An error comes out of the op that follows.
  cudaSetDevice(cuda.launch().ordinal);
  return cuda;
}

}  // namespace weft::kernels

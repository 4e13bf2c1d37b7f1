#include "worker/comm/nccl_exchange.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/device.h"

namespace weft::worker {
namespace {

// Between two looks at a call under way: short beside the exchange of a bucket (a millisecond). At
// first looks only give way, since the timer of a sleep alone takes longer than a small call.
constexpr absl::Duration kPollInterval = absl::Microseconds(20);
constexpr int kLooksWithoutSleep = 200;

// The transport is lost, unless it is this rank's own GPU that is.
absl::Status OfCuda(cudaError_t error, absl::string_view what) {
  const absl::Status status = kernels::CudaStatus(error, what);
  if (status.ok() || kernels::IsSticky(error)) return status;
  return absl::UnavailableError(status.message());
}

// A call on a non-blocking communicator may go on in the background.
absl::Status OfNccl(ncclResult_t result, absl::string_view what) {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(what, ": ", ncclGetErrorString(result)));
}

ncclDataType_t TypeOf(kernels::DType dtype) {
  switch (dtype) {
    case kernels::DType::kF64:
      return ncclFloat64;
    case kernels::DType::kF32:
      return ncclFloat32;
    case kernels::DType::kBf16:
      return ncclBfloat16;
    case kernels::DType::kI32:
      return ncclInt32;
  }
  return ncclInt8;
}

using Words = std::array<int32_t, sizeof(PackedCall) / sizeof(int32_t)>;

Words WordsOf(const ExchangeCall& call) { return std::bit_cast<Words>(Pack(call)); }

}  // namespace

absl::StatusOr<std::unique_ptr<NcclExchange>> NcclExchange::Create(
    std::unique_ptr<Exchange> rendezvous, int ordinal) {
  WEFT_ASSIGN_OR_RETURN(auto host, kernels::NewCpuDevice({.threads = 1}));
  auto exchange =
      absl::WrapUnique(new NcclExchange(std::move(rendezvous), ordinal, std::move(host)));
  WEFT_RETURN_IF_ERROR(OfCuda(cudaSetDevice(ordinal), "cudaSetDevice"));
  WEFT_RETURN_IF_ERROR(OfCuda(cudaStreamCreateWithFlags(&exchange->stream_, cudaStreamNonBlocking),
                              "cudaStreamCreate"));
  return exchange;
}

NcclExchange::~NcclExchange() {
  Disconnect();
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void NcclExchange::Disconnect() {
  if (communicator_ == nullptr) return;
  // Also after good work: it waits for nobody.
  ncclCommAbort(communicator_);
  communicator_ = nullptr;
}

absl::Status NcclExchange::Join(absl::Time deadline) {
  Disconnect();
  WEFT_RETURN_IF_ERROR(OfCuda(cudaSetDevice(ordinal_), "cudaSetDevice"));
  WEFT_RETURN_IF_ERROR(rendezvous_->Prepare(membership(), deadline));
  // NCCL's id is 128 bytes that rank 0 makes; its process listens there while the others join.
  ncclUniqueId id;
  if (membership().rank == 0) WEFT_RETURN_IF_ERROR(OfNccl(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  WEFT_ASSIGN_OR_RETURN(kernels::Tensor words, kernels::NewTensor(*host_, kernels::DType::kI32,
                                                                  {sizeof(id) / sizeof(int32_t)}));
  if (membership().rank == 0) std::memcpy(words.data<int32_t>(), &id, sizeof(id));
  WEFT_RETURN_IF_ERROR(rendezvous_->Broadcast(words, 0, deadline));
  std::memcpy(&id, words.data<int32_t>(), sizeof(id));
  return Connect(id, deadline);
}

absl::Status NcclExchange::Connect(const ncclUniqueId& id, absl::Time deadline) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  WEFT_RETURN_IF_ERROR(OfNccl(
      ncclCommInitRankConfig(&communicator_, membership().ranks, id, membership().rank, &config),
      "ncclCommInitRankConfig"));
  const absl::Status connected = Await([] { return cudaSuccess; }, deadline);
  if (!connected.ok()) Disconnect();
  return connected;
}

template <typename Done>
absl::Status NcclExchange::Await(const Done& done, absl::Time deadline) {
  for (int look = 0;; ++look) {
    ncclResult_t state = ncclSuccess;
    WEFT_RETURN_IF_ERROR(
        OfNccl(ncclCommGetAsyncError(communicator_, &state), "ncclCommGetAsyncError"));
    WEFT_RETURN_IF_ERROR(OfNccl(state, "NCCL"));
    if (state == ncclSuccess) {
      const cudaError_t ready = done();
      if (ready == cudaSuccess) return absl::OkStatus();
      if (ready != cudaErrorNotReady) return OfCuda(ready, "the exchange's stream");
    }
    WEFT_RETURN_IF_ERROR(failure());
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("NCCL was not done in time");
    }
    if (look < kLooksWithoutSleep) {
      std::this_thread::yield();
    } else {
      absl::SleepFor(kPollInterval);
    }
  }
}

absl::Status NcclExchange::Agree(const ExchangeCall& call, absl::Time deadline) {
  // The maximum of x and of -x over all ranks is each rank's own exactly when all are equal.
  const Words words = WordsOf(call);
  constexpr auto kCount = static_cast<int64_t>(std::tuple_size_v<Words>);
  WEFT_ASSIGN_OR_RETURN(kernels::Tensor extremes,
                        kernels::NewTensor(*host_, kernels::DType::kI32, {2 * kCount}));
  auto* both = extremes.data<int32_t>();
  std::copy(words.begin(), words.end(), both);
  std::transform(words.begin(), words.end(), both + kCount, [](int32_t word) { return ~word; });
  WEFT_RETURN_IF_ERROR(rendezvous_->Reduce(extremes, ReduceOp::kMax, deadline));
  const bool equal = std::equal(both, both + kCount, both + kCount,
                                [](int32_t most, int32_t least) { return most == ~least; });
  return equal ? absl::OkStatus() : NameTheOddOne(call, deadline);
}

absl::Status NcclExchange::NameTheOddOne(const ExchangeCall& call, absl::Time deadline) {
  const Words mine = WordsOf(call);
  absl::Status mismatch = absl::InternalError("the ranks make different calls");
  // All the way on every rank, also behind the first that differs: the others wait for it.
  for (int rank = membership().ranks - 1; rank >= 0; --rank) {
    WEFT_ASSIGN_OR_RETURN(
        kernels::Tensor words,
        kernels::NewTensor(*host_, kernels::DType::kI32, {static_cast<int64_t>(mine.size())}));
    std::copy(mine.begin(), mine.end(), words.data<int32_t>());
    WEFT_RETURN_IF_ERROR(rendezvous_->Broadcast(words, rank, deadline));
    Words theirs;
    std::copy_n(words.data<int32_t>(), theirs.size(), theirs.begin());
    WEFT_ASSIGN_OR_RETURN(const ExchangeCall other, Unpack(std::bit_cast<PackedCall>(theirs)));
    if (other != call) mismatch = CallMismatch("rank", membership().rank, call, rank, other);
  }
  return mismatch;
}

absl::Status NcclExchange::Enqueue(const ExchangeCall& call, void* operand) {
  const auto count = static_cast<size_t>(call.shape.count());
  switch (call.op) {
    case CallOp::kSum:
      return OfNccl(ncclAllReduce(operand, operand, count, TypeOf(call.dtype), ncclSum,
                                  communicator_, stream_),
                    "ncclAllReduce");
    case CallOp::kMax:
      return OfNccl(
          ncclAllReduce(operand, operand, count, ncclInt32, ncclMax, communicator_, stream_),
          "ncclAllReduce");
    case CallOp::kBroadcast:
      return OfNccl(ncclBroadcast(operand, operand, count, TypeOf(call.dtype), call.root,
                                  communicator_, stream_),
                    "ncclBroadcast");
  }
  return absl::InternalError("no such call");
}

absl::Status NcclExchange::Run(const ExchangeCall& call, absl::Span<char> bytes,
                               absl::Time deadline) {
  WEFT_RETURN_IF_ERROR(OfCuda(cudaSetDevice(ordinal_), "cudaSetDevice"));
  cudaPointerAttributes place{};
  if (!bytes.empty() && (cudaPointerGetAttributes(&place, bytes.data()) != cudaSuccess ||
                         place.type != cudaMemoryTypeDevice || place.device != ordinal_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NCCL takes operands in the memory of GPU ", ordinal_));
  }
  WEFT_RETURN_IF_ERROR(Agree(call, deadline));
  if (bytes.empty()) return absl::OkStatus();
  absl::Status done = Enqueue(call, bytes.data());
  if (done.ok()) done = Await([this] { return cudaStreamQuery(stream_); }, deadline);
  // What was enqueued on a failed communicator must not write into the operand later.
  if (!done.ok()) Disconnect();
  return done;
}

}  // namespace weft::worker

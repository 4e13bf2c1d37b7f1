#include "worker/comm/staged_exchange.h"

#include <utility>

#include "absl/memory/memory.h"
#include "common/base/status_macros.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/host_buffer.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<StagedExchange>> StagedExchange::Create(
    std::unique_ptr<Exchange> host, kernels::Device& device) {
  WEFT_ASSIGN_OR_RETURN(auto memory, kernels::NewCpuDevice({.threads = 1}));
  WEFT_ASSIGN_OR_RETURN(auto stream, device.NewStream());
  return absl::WrapUnique(
      new StagedExchange(std::move(host), std::move(memory), std::move(stream)));
}

template <typename Call>
absl::Status StagedExchange::Stage(kernels::Tensor& operand, const Call& call) {
  kernels::Device& device = stream_->device();
  if (!operand.present()) return absl::InvalidArgumentError("the operand is an absent tensor");
  if (staging_ == nullptr || staging_->bytes() < operand.bytes()) {
    WEFT_ASSIGN_OR_RETURN(staging_, kernels::NewHostBuffer(*host_, operand.bytes()));
  }
  kernels::Tensor staged(staging_, operand.dtype(), operand.shape());
  WEFT_RETURN_IF_ERROR(device.CopyToHost(staged.address(), operand, *stream_));
  WEFT_RETURN_IF_ERROR(call(staged));
  WEFT_RETURN_IF_ERROR(device.CopyFromHost(operand, staged.address(), *stream_));
  return stream_->Synchronize();
}

absl::Status StagedExchange::Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) {
  return Stage(bucket,
               [&](kernels::Tensor& staged) { return exchange_->Reduce(staged, op, deadline); });
}

absl::Status StagedExchange::Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) {
  return Stage(tensor, [&](kernels::Tensor& staged) {
    return exchange_->Broadcast(staged, root, deadline);
  });
}

}  // namespace weft::worker

#include "worker/comm/sequenced_exchange.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

absl::Status CheckMembership(const Membership& m) {
  if (m.ranks < 1 || m.rank < 0 || m.rank >= m.ranks || m.local_rank < 0) {
    return absl::InvalidArgumentError(absl::StrCat("no such place in a gang: rank ", m.rank, " of ",
                                                   m.ranks, ", local rank ", m.local_rank));
  }
  return absl::OkStatus();
}

bool IsWideFloat(kernels::DType dtype) {
  return dtype == kernels::DType::kF32 || dtype == kernels::DType::kF64;
}

}  // namespace

absl::Status SequencedExchange::Prepare(const Membership& membership, absl::Time deadline) {
  WEFT_RETURN_IF_ERROR(CheckMembership(membership));
  {
    absl::MutexLock lock(&mutex_);
    if (prepared_ && membership.generation <= membership_.generation) {
      return absl::AbortedError(absl::StrCat(
          "job ", membership.job, ", generation ", membership.generation.value(),
          " is stale: this rank has been in generation ", membership_.generation.value()));
    }
    prepared_ = true;
    failure_ = absl::OkStatus();
    membership_ = membership;
  }
  sequence_ = 0;
  absl::Status joined = Join(deadline);
  // An Abort that came before Join could be interrupted must not be lost.
  if (joined.ok()) joined = failure();
  if (joined.ok()) return joined;
  return Fail(joined, absl::StrCat("preparing, ", Place()));
}

absl::Status SequencedExchange::Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) {
  ExchangeCall call;
  call.op = op == ReduceOp::kSum ? CallOp::kSum : CallOp::kMax;
  const bool sums_floats = op == ReduceOp::kSum && AddsFloatingPoint();
  if (!bucket.present() ||
      !(bucket.dtype() == kernels::DType::kI32 || (sums_floats && IsWideFloat(bucket.dtype())))) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce takes i32 only (integer sums do not depend on their order), not ",
                     bucket.present() ? bucket.ToString() : "an absent tensor"));
  }
  if (bucket.count() > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce takes at most 2147483647 elements, not ", bucket.ToString()));
  }
  return Execute(call, bucket, deadline);
}

absl::Status SequencedExchange::Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) {
  ExchangeCall call;
  call.op = CallOp::kBroadcast;
  call.root = root;
  if (!tensor.present()) return absl::InvalidArgumentError("broadcast of an absent tensor");
  return Execute(call, tensor, deadline);
}

absl::Status SequencedExchange::Execute(ExchangeCall call, kernels::Tensor& operand,
                                        absl::Time deadline) {
  {
    absl::MutexLock lock(&mutex_);
    if (!prepared_) {
      return absl::FailedPreconditionError("the exchange is used before Prepare");
    }
    if (!failure_.ok()) return failure_;
  }
  if (call.op == CallOp::kBroadcast && (call.root < 0 || call.root >= membership_.ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("broadcast from rank ", call.root, " in a gang of ", membership_.ranks));
  }
  call.dtype = operand.dtype();
  call.shape = operand.shape();
  call.sequence = ++sequence_;
  // The address is that of bytes on the host: kernels::Buffer says so for the kinds there are.
  const auto size = static_cast<size_t>(call.bytes());
  char* bytes = nullptr;
  switch (kernels::SizeOf(operand.dtype())) {
    case 8:
      bytes = reinterpret_cast<char*>(operand.data<uint64_t>());
      break;
    case 4:
      bytes = reinterpret_cast<char*>(operand.data<uint32_t>());
      break;
    default:
      bytes = reinterpret_cast<char*>(operand.data<uint16_t>());
  }
  absl::Status done = Run(call, absl::MakeSpan(bytes, size), deadline);
  if (done.ok()) return done;
  return Fail(done, absl::StrCat(call.ToString(), ", ", Place()));
}

void SequencedExchange::Abort(const absl::Status& why) {
  const absl::Status cause =
      absl::AbortedError(why.ok() ? "the exchange was aborted" : why.ToString());
  {
    absl::MutexLock lock(&mutex_);
    if (!prepared_) return;
    if (failure_.ok()) failure_ = cause;
  }
  Interrupt(cause);
}

absl::Status SequencedExchange::failure() const {
  absl::MutexLock lock(&mutex_);
  return failure_;
}

absl::Status SequencedExchange::Fail(const absl::Status& status, absl::string_view context) {
  absl::Status failure;
  {
    absl::MutexLock lock(&mutex_);
    // After an Abort the transport's error is only its echo.
    failure_ = Annotate(failure_.ok() ? status : failure_, context);
    failure = failure_;
  }
  Interrupt(failure);
  return failure;
}

std::string SequencedExchange::Place() const {
  return absl::StrCat("job ", membership_.job, ", generation ", membership_.generation.value(),
                      ", rank ", membership_.rank, " of ", membership_.ranks);
}

}  // namespace weft::worker

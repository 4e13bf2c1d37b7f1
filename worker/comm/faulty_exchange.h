// FaultyExchange: for tests of what is built on an Exchange. Fails or delays the n-th call.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

class FaultyExchange final : public Exchange {
 public:
  // `fault(n)` is asked before the n-th Reduce or Broadcast (from 1, over all generations). Not OK:
  // the call is not made, and the wrapped exchange is aborted, so that the other ranks find out. It
  // may also wait, which delays the call. Prepare and Abort pass through.
  FaultyExchange(std::unique_ptr<Exchange> exchange, std::function<absl::Status(int)> fault)
      : exchange_(std::move(exchange)), fault_(std::move(fault)) {}

  absl::Status Prepare(const Membership& membership, absl::Time deadline) override {
    return exchange_->Prepare(membership, deadline);
  }
  absl::Status Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) override {
    if (absl::Status fault = Fault(); !fault.ok()) return fault;
    return exchange_->Reduce(bucket, op, deadline);
  }
  absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) override {
    if (absl::Status fault = Fault(); !fault.ok()) return fault;
    return exchange_->Broadcast(tensor, root, deadline);
  }
  void Abort(const absl::Status& why) override { exchange_->Abort(why); }
  [[nodiscard]] bool AddsFloatingPoint() const override { return exchange_->AddsFloatingPoint(); }

 private:
  absl::Status Fault() {
    absl::Status fault = fault_(++calls_);
    if (!fault.ok()) exchange_->Abort(fault);
    return fault;
  }

  std::unique_ptr<Exchange> exchange_;
  std::function<absl::Status(int)> fault_;
  int calls_ = 0;
};

}  // namespace weft::worker

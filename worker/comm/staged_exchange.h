// StagedExchange: an exchange of memory of the host, for operands on a device of its own memory.
// Every call copies the operand to the host, lets the other exchange have it, and copies it back.
#pragma once

#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

class StagedExchange final : public Exchange {
 public:
  // Takes operands on `device` only (others are kInvalidArgument), which outlives it.
  static absl::StatusOr<std::unique_ptr<StagedExchange>> Create(std::unique_ptr<Exchange> host,
                                                                kernels::Device& device);

  absl::Status Prepare(const Membership& membership, absl::Time deadline) override {
    return exchange_->Prepare(membership, deadline);
  }
  absl::Status Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) override;
  absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) override;
  void Abort(const absl::Status& why) override { exchange_->Abort(why); }
  [[nodiscard]] bool AddsFloatingPoint() const override { return exchange_->AddsFloatingPoint(); }

 private:
  StagedExchange(std::unique_ptr<Exchange> exchange, std::unique_ptr<kernels::Device> host,
                 std::unique_ptr<kernels::Stream> stream)
      : exchange_(std::move(exchange)), host_(std::move(host)), stream_(std::move(stream)) {}

  // `call` is given a tensor of the host with the operand's elements, which go back when it is OK.
  template <typename Call>
  absl::Status Stage(kernels::Tensor& operand, const Call& call);

  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<kernels::Device> host_;
  std::unique_ptr<kernels::Stream> stream_;   // of the operands' device
  std::shared_ptr<kernels::Buffer> staging_;  // as large as the largest operand so far
};

}  // namespace weft::worker

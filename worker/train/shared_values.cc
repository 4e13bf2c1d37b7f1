#include "worker/train/shared_values.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::worker {

absl::StatusOr<SharedValues> SharedValues::Create(kernels::Device& device, int64_t count) {
  WEFT_ASSIGN_OR_RETURN(kernels::Tensor words,
                        kernels::NewTensor(device, kernels::DType::kI32, {2 * count}));
  return SharedValues(std::move(words));
}

SharedValues::SharedValues(kernels::Tensor words)
    : host_(static_cast<size_t>(words.count()), 0), words_(std::move(words)) {}

void SharedValues::Clear() { std::fill(host_.begin(), host_.end(), 0); }

void SharedValues::Set(int64_t index, double value) {
  const auto at = static_cast<size_t>(2 * index);
  WEFT_CHECK(at + 1 < host_.size());
  const auto bits = std::bit_cast<uint64_t>(value);
  host_[at] = static_cast<int32_t>(static_cast<uint32_t>(bits));
  host_[at + 1] = static_cast<int32_t>(static_cast<uint32_t>(bits >> 32));
}

absl::Status SharedValues::Share(Exchange& exchange, kernels::Stream& stream, absl::Time deadline) {
  kernels::Device& device = stream.device();
  WEFT_RETURN_IF_ERROR(device.CopyFromHost(words_, host_.data(), stream));
  WEFT_RETURN_IF_ERROR(stream.Synchronize());
  WEFT_RETURN_IF_ERROR(exchange.Reduce(words_, ReduceOp::kSum, deadline));
  return device.CopyToHost(host_.data(), words_, stream);
}

double SharedValues::Get(int64_t index) const {
  const auto at = static_cast<size_t>(2 * index);
  WEFT_CHECK(at + 1 < host_.size());
  const uint64_t low = static_cast<uint32_t>(host_[at]);
  const uint64_t high = static_cast<uint32_t>(host_[at + 1]);
  return std::bit_cast<double>(low | (high << 32));
}

double SharedValues::Sum(int64_t first, int64_t last) const {
  double sum = 0;
  for (int64_t i = first; i < last; ++i) sum += Get(i);
  return sum;
}

}  // namespace weft::worker

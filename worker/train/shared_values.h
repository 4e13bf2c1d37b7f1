// SharedValues: a row of doubles, each written by exactly one rank, that all ranks then know bit by
// bit. Losses of shards travel this way: they are added afterwards, in the order of the shards, so
// the sum is the same for any number of ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device/device.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

class SharedValues {
 public:
  static absl::StatusOr<SharedValues> Create(kernels::Device& device, int64_t count);

  // All values unwritten: 0.
  void Clear();
  void Set(int64_t index, double value);
  // Afterwards every rank has every value. A value that two ranks have set is garbage.
  absl::Status Share(Exchange& exchange, kernels::Stream& stream, absl::Time deadline);
  [[nodiscard]] double Get(int64_t index) const;
  // The sum of values [first, last), added in this order.
  [[nodiscard]] double Sum(int64_t first, int64_t last) const;

 private:
  explicit SharedValues(kernels::Tensor words);

  // The two halves of each double's bits: an integer sum with zeros leaves them as they are.
  std::vector<int32_t> host_;
  kernels::Tensor words_;
};

}  // namespace weft::worker

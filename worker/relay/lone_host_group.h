// LoneHostGroup: a gang on one host. Nothing travels: what this host has is the result.
#pragma once

#include <algorithm>

#include "worker/relay/host_group.h"

namespace weft::worker {

class LoneHostGroup final : public HostGroup {
 public:
  [[nodiscard]] int hosts() const override { return 1; }
  [[nodiscard]] int index() const override { return 0; }

  absl::Status StartReduce(CallOp /*op*/, absl::Span<const int32_t> from,
                           absl::Span<int32_t> to) override {
    if (from.data() != to.data()) std::copy(from.begin(), from.begin() + to.size(), to.begin());
    return absl::OkStatus();
  }
  absl::Status StartBroadcast(absl::Span<char> /*bytes*/, int /*root*/) override {
    return absl::OkStatus();
  }
  absl::Status StartGather(absl::Span<const char> mine, absl::Span<char> all) override {
    std::copy(mine.begin(), mine.end(), all.begin());
    return absl::OkStatus();
  }
  absl::StatusOr<bool> Poll() override { return true; }
};

}  // namespace weft::worker

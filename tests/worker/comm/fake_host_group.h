// FakeHostGroup: the hosts of a gang as threads of one process, in place of MPI.
#pragma once

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/relay/host_group.h"

namespace weft::testing {

// Where they meet. Everything is copied, so a host may leave in the middle of an operation.
class FakeHosts {
 public:
  explicit FakeHosts(int hosts) : posts_(static_cast<size_t>(hosts)) {}

  enum class Kind : uint8_t { kSum, kMax, kBroadcast, kGather };
  // Returns the number of the operation.
  uint64_t Post(int host, Kind kind, int root, absl::Span<const char> bytes);
  // Empty while others are missing; else the result.
  std::shared_ptr<const std::vector<char>> Result(uint64_t operation);
  [[nodiscard]] int hosts() const { return static_cast<int>(posts_.size()); }

 private:
  void Complete(Kind kind, int root) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<std::vector<char>>> posts_;  // of the present operation
  std::vector<std::shared_ptr<const std::vector<char>>> results_ ABSL_GUARDED_BY(mutex_);
};

class FakeHostGroup final : public worker::HostGroup {
 public:
  FakeHostGroup(std::shared_ptr<FakeHosts> all, int index) : all_(std::move(all)), index_(index) {}

  [[nodiscard]] int hosts() const override { return all_->hosts(); }
  [[nodiscard]] int index() const override { return index_; }
  absl::Status StartReduce(worker::CallOp op, absl::Span<const int32_t> from,
                           absl::Span<int32_t> to) override;
  absl::Status StartBroadcast(absl::Span<char> bytes, int root) override;
  absl::Status StartGather(absl::Span<const char> mine, absl::Span<char> all) override;
  absl::StatusOr<bool> Poll() override;

 private:
  std::shared_ptr<FakeHosts> all_;
  int index_;
  uint64_t operation_ = 0;
  absl::Span<char> into_;
};

}  // namespace weft::testing

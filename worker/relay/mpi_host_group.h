// MpiHostGroup: the hosts of a gang as the ranks of MPI_COMM_WORLD, one process each. Only
// non-blocking collectives; MPI_Init itself is the caller's.
#pragma once

#include <mpi.h>

#include <memory>

#include "worker/relay/host_group.h"

namespace weft::worker {

class MpiHostGroup final : public HostGroup {
 public:
  // After MPI_Init; errors of MPI become statuses (kUnavailable) from here on.
  static absl::StatusOr<std::unique_ptr<MpiHostGroup>> New();

  [[nodiscard]] int hosts() const override { return hosts_; }
  [[nodiscard]] int index() const override { return index_; }
  absl::Status StartReduce(CallOp op, absl::Span<const int32_t> from,
                           absl::Span<int32_t> to) override;
  absl::Status StartBroadcast(absl::Span<char> bytes, int root) override;
  absl::Status StartGather(absl::Span<const char> mine, absl::Span<char> all) override;
  absl::StatusOr<bool> Poll() override;

 private:
  MpiHostGroup(int hosts, int index) : hosts_(hosts), index_(index) {}

  int hosts_;
  int index_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

}  // namespace weft::worker

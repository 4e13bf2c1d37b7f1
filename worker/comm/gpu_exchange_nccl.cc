#include <utility>

#include "worker/comm/gpu_exchange.h"
#include "worker/comm/nccl_exchange.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<Exchange>> NewGpuExchange(std::unique_ptr<Exchange> host,
                                                         kernels::Device& /*device*/, int ordinal) {
  return NcclExchange::Create(std::move(host), ordinal);
}

}  // namespace weft::worker

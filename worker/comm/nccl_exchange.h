// NcclExchange: operands on GPUs, carried by NCCL. What it needs beside NCCL it has from another
// exchange of the same ranks over the hosts' memory, the rendezvous: NCCL's id at the start, and
// before every call the agreement that all ranks are there and make the same call. So a rank that
// is missing, differs or has given up is found as every other exchange finds it, and nobody enters
// NCCL alone. Integer sums and maxima are exact in every algorithm of NCCL; those of floating point
// depend on the algorithm and the order that NCCL chooses for the gang.
//
// The communicator is non-blocking: this thread polls it and the stream until the deadline. After a
// failure it is aborted; NCCL allows that to the thread that uses it alone.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "worker/comm/sequenced_exchange.h"

namespace weft::worker {

class NcclExchange final : public SequencedExchange {
 public:
  // `ordinal`: the GPU of the operands, as this process numbers them.
  static absl::StatusOr<std::unique_ptr<NcclExchange>> Create(std::unique_ptr<Exchange> rendezvous,
                                                              int ordinal);
  ~NcclExchange() override;
  [[nodiscard]] bool AddsFloatingPoint() const override { return true; }

 protected:
  absl::Status Join(absl::Time deadline) override;
  absl::Status Run(const ExchangeCall& call, absl::Span<char> bytes, absl::Time deadline) override;
  void Interrupt(const absl::Status& why) override { rendezvous_->Abort(why); }

 private:
  NcclExchange(std::unique_ptr<Exchange> rendezvous, int ordinal,
               std::unique_ptr<kernels::Device> host)
      : rendezvous_(std::move(rendezvous)), ordinal_(ordinal), host_(std::move(host)) {}

  absl::Status Connect(const ncclUniqueId& id, absl::Time deadline);
  // kInternal, naming two ranks, when not all make this call.
  absl::Status Agree(const ExchangeCall& call, absl::Time deadline);
  absl::Status NameTheOddOne(const ExchangeCall& call, absl::Time deadline);
  absl::Status Enqueue(const ExchangeCall& call, void* operand);
  // Polls until `done`, an error, the end of the generation or the deadline.
  template <typename Done>
  absl::Status Await(const Done& done, absl::Time deadline);
  void Disconnect();

  std::unique_ptr<Exchange> rendezvous_;
  const int ordinal_;
  std::unique_ptr<kernels::Device> host_;  // of what travels over the rendezvous
  cudaStream_t stream_ = nullptr;
  ncclComm_t communicator_ = nullptr;
};

}  // namespace weft::worker

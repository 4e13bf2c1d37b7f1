// LocalExchange: a gang of one rank. Every result is the operand itself.
#pragma once

#include "worker/comm/sequenced_exchange.h"

namespace weft::worker {

class LocalExchange final : public SequencedExchange {
 public:
  [[nodiscard]] bool AddsFloatingPoint() const override { return true; }

 protected:
  absl::Status Join(absl::Time deadline) override;
  absl::Status Run(const ExchangeCall& call, absl::Span<char> bytes, absl::Time deadline) override;
  void Interrupt(const absl::Status& why) override;
};

}  // namespace weft::worker

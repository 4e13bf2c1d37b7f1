#include "worker/comm/local_exchange.h"

#include "absl/strings/str_cat.h"

namespace weft::worker {

absl::Status LocalExchange::Join(absl::Time /*deadline*/) {
  if (membership().ranks != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the local exchange serves one rank, not ", membership().ranks));
  }
  return absl::OkStatus();
}

absl::Status LocalExchange::Run(const ExchangeCall& /*call*/, absl::Span<char> /*bytes*/,
                                absl::Time /*deadline*/) {
  return absl::OkStatus();
}

void LocalExchange::Interrupt(const absl::Status& /*why*/) {}  // nobody waits

}  // namespace weft::worker

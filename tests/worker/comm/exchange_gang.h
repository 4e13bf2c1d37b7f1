// A whole gang for the contract tests of Exchange: one exchange a rank, and threads that play the
// ranks. Each kind of transport derives from ExchangeGang.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "worker/comm/exchange.h"

namespace weft::testing {

// Long enough for any machine under load: only a hang reaches it.
inline absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class ExchangeGang {
 public:
  virtual ~ExchangeGang() = default;
  [[nodiscard]] virtual int ranks() const = 0;
  // Makes ready what a generation needs beside the ranks (channels, relays); ends the one before.
  virtual void StartGeneration(int64_t generation) = 0;
  [[nodiscard]] virtual worker::Membership MembershipOf(int rank) const = 0;
  virtual worker::Exchange& exchange(int rank) = 0;

  // Runs `body` for every rank, each in its own thread, and returns what they returned.
  using Body = std::function<absl::Status(int rank, worker::Exchange& exchange)>;
  std::vector<absl::Status> Run(const Body& body) {
    std::vector<absl::Status> results(static_cast<size_t>(ranks()));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks(); ++rank) {
      threads.emplace_back(
          [&, rank] { results[static_cast<size_t>(rank)] = body(rank, exchange(rank)); });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }

  // The same on all ranks, prepared for a new generation.
  std::vector<absl::Status> RunGeneration(int64_t generation, const Body& body) {
    StartGeneration(generation);
    return Run([&](int rank, worker::Exchange& one) -> absl::Status {
      const absl::Status prepared = one.Prepare(MembershipOf(rank), Soon());
      return prepared.ok() ? body(rank, one) : prepared;
    });
  }
};

struct GangKind {
  std::string name;
  std::function<std::unique_ptr<ExchangeGang>()> make;
  // Elements that fill one chunk of the transport: sizes around it are tested.
  int64_t chunk_elements = 256;
};

inline void PrintTo(const GangKind& kind, std::ostream* out) { *out << kind.name; }

}  // namespace weft::testing

// One call of an Exchange as every rank must make it: what is compared between ranks, and what
// errors say. PackedCall is the same thing in shared memory and between relays.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/tensor/dtype.h"
#include "kernels/tensor/shape.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

enum class CallOp : uint8_t { kSum, kMax, kBroadcast };

struct ExchangeCall {
  uint64_t sequence = 0;  // from 1 in every generation
  CallOp op = CallOp::kSum;
  kernels::DType dtype = kernels::DType::kI32;
  int32_t root = 0;  // kBroadcast only, else 0
  kernels::Shape shape;

  [[nodiscard]] int64_t bytes() const { return shape.count() * kernels::SizeOf(dtype); }
  // "reduce sum i32[3, 4] (48 bytes), sequence 7"
  [[nodiscard]] std::string ToString() const;
  friend bool operator==(const ExchangeCall& a, const ExchangeCall& b) = default;
};

// 64 bytes, no pointers, no padding.
struct PackedCall {
  uint64_t sequence = 0;
  std::array<int64_t, kernels::Shape::kMaxRank> dims{};
  int32_t rank = 0;  // of the shape
  int32_t root = 0;
  uint32_t op = 0;
  uint32_t dtype = 0;
};
static_assert(sizeof(PackedCall) == 64);

PackedCall Pack(const ExchangeCall& call);
// kDataLoss when the bytes are no call (a damaged or foreign segment).
absl::StatusOr<ExchangeCall> Unpack(const PackedCall& packed);

// kInternal, naming both: "rank 2 called ..., but rank 0 called ...". `kind` is "rank" or "host".
absl::Status CallMismatch(absl::string_view kind, int first, const ExchangeCall& first_call,
                          int other, const ExchangeCall& other_call);

// What a rank returns for a failure that it was told of: kAborted, but kInternal (a mistake of the
// program) keeps its code, since starting again does not help.
absl::Status AsToldByAnother(const absl::Status& why);

// into[i] = into[i] op from[i]; kSum wraps modulo 2^32. Not for kBroadcast.
void Combine(CallOp op, absl::Span<int32_t> into, absl::Span<const int32_t> from);

}  // namespace weft::worker

#include "worker/comm/exchange_call.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::worker {
namespace {

std::string NameOf(const ExchangeCall& call) {
  switch (call.op) {
    case CallOp::kSum:
      return "reduce sum";
    case CallOp::kMax:
      return "reduce max";
    case CallOp::kBroadcast:
      return absl::StrCat("broadcast from rank ", call.root);
  }
  return "?";
}

}  // namespace

std::string ExchangeCall::ToString() const {
  return absl::StrCat(NameOf(*this), " ", kernels::NameOf(dtype), shape.ToString(), " (", bytes(),
                      " bytes), sequence ", sequence);
}

PackedCall Pack(const ExchangeCall& call) {
  PackedCall packed;
  packed.sequence = call.sequence;
  packed.rank = call.shape.rank();
  for (int i = 0; i < call.shape.rank(); ++i) packed.dims[i] = call.shape.dim(i);
  packed.root = call.root;
  packed.op = static_cast<uint32_t>(call.op);
  packed.dtype = static_cast<uint32_t>(call.dtype);
  return packed;
}

absl::StatusOr<ExchangeCall> Unpack(const PackedCall& packed) {
  const bool shape_is_sound =
      packed.rank >= 0 && packed.rank <= kernels::Shape::kMaxRank &&
      std::all_of(packed.dims.begin(), packed.dims.end(), [](int64_t dim) { return dim >= 0; });
  if (!shape_is_sound || packed.op > static_cast<uint32_t>(CallOp::kBroadcast) ||
      packed.dtype > static_cast<uint32_t>(kernels::DType::kI32)) {
    return absl::DataLossError("these bytes are no call of an exchange");
  }
  ExchangeCall call;
  call.sequence = packed.sequence;
  call.shape =
      kernels::Shape(absl::MakeConstSpan(packed.dims.data(), static_cast<size_t>(packed.rank)));
  call.root = packed.root;
  call.op = static_cast<CallOp>(packed.op);
  call.dtype = static_cast<kernels::DType>(packed.dtype);
  return call;
}

absl::Status CallMismatch(absl::string_view kind, int first, const ExchangeCall& first_call,
                          int other, const ExchangeCall& other_call) {
  return absl::InternalError(absl::StrCat(kind, " ", other, " called ", other_call.ToString(),
                                          ", but ", kind, " ", first, " called ",
                                          first_call.ToString()));
}

absl::Status AsToldByAnother(const absl::Status& why) {
  if (why.ok() || why.code() == absl::StatusCode::kInternal) return why;
  if (why.code() == absl::StatusCode::kAborted) return why;
  return absl::AbortedError(why.ToString());
}

void Combine(CallOp op, absl::Span<int32_t> into, absl::Span<const int32_t> from) {
  WEFT_CHECK(into.size() == from.size());
  if (op == CallOp::kSum) {
    for (size_t i = 0; i < into.size(); ++i) {
      // Unsigned arithmetic wraps; signed overflow would be undefined.
      into[i] =
          static_cast<int32_t>(static_cast<uint32_t>(into[i]) + static_cast<uint32_t>(from[i]));
    }
    return;
  }
  WEFT_CHECK(op == CallOp::kMax);
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
}

}  // namespace weft::worker

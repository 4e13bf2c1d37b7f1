#include "worker/comm/in_process_exchange.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

template <typename T>
absl::Span<T> As(absl::Span<char> bytes) {
  return absl::MakeSpan(reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T));
}

template <typename T>
void Add(absl::Span<T> into, absl::Span<const T> from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] += from[i];
}

void CombineBytes(const ExchangeCall& call, absl::Span<char> into, absl::Span<char> from) {
  switch (call.dtype) {
    case kernels::DType::kF32:
      return Add<float>(As<float>(into), As<float>(from));
    case kernels::DType::kF64:
      return Add<double>(As<double>(into), As<double>(from));
    default:
      return Combine(call.op, As<int32_t>(into), As<int32_t>(from));
  }
}

}  // namespace

absl::Status InProcessHub::Join(const Membership& membership) {
  absl::MutexLock lock(&mutex_);
  if (joined_ && membership.generation < generation_) {
    return absl::AbortedError(
        absl::StrCat("stale: the gang is in generation ", generation_.value()));
  }
  if (!joined_ || membership.generation > generation_) {
    joined_ = true;
    generation_ = membership.generation;
    failure_ = absl::OkStatus();
    posts_.assign(static_cast<size_t>(membership.ranks), Post());
  }
  if (posts_.size() != static_cast<size_t>(membership.ranks)) {
    return absl::InternalError(absl::StrCat("rank ", membership.rank, " sees a gang of ",
                                            membership.ranks, ", others one of ", posts_.size()));
  }
  return absl::OkStatus();
}

absl::Status InProcessHub::CheckGeneration(Generation generation) const {
  if (generation == generation_) return failure_;
  return absl::AbortedError(absl::StrCat("stale: the gang is in generation ", generation_.value()));
}

absl::Status InProcessHub::Run(const Membership& membership, const ExchangeCall& call,
                               absl::Span<char> bytes, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  WEFT_RETURN_IF_ERROR(CheckGeneration(membership.generation));
  Post& mine = posts_[static_cast<size_t>(membership.rank)];
  if (mine.present) {
    failure_ = absl::InternalError(absl::StrCat("two members are rank ", membership.rank));
    return failure_;
  }
  mine = {true, call, bytes};
  const uint64_t round = completed_;
  if (MissingRanks().empty()) {
    combined_ = CombinePosts();
    failure_ = combined_;
    for (Post& post : posts_) post = Post();
    ++completed_;
    return combined_;
  }
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return completed_ != round || !failure_.ok() || generation_ != membership.generation;
  };
  if (!mutex_.AwaitWithDeadline(absl::Condition(&over), deadline)) {
    const std::string missing = MissingRanks();
    failure_ = absl::AbortedError(
        absl::StrCat("rank ", membership.rank, " gave up waiting for rank ", missing));
    return absl::DeadlineExceededError(absl::StrCat("waited for rank ", missing));
  }
  // A call that was completed is good, also when an abort has come since.
  return completed_ != round ? combined_ : CheckGeneration(membership.generation);
}

absl::Status InProcessHub::CombinePosts() {
  const ExchangeCall& call = posts_[0].call;
  for (size_t rank = 1; rank < posts_.size(); ++rank) {
    if (posts_[rank].call == call) continue;
    return CallMismatch("rank", 0, call, static_cast<int>(rank), posts_[rank].call);
  }
  const absl::Span<char> result =
      posts_[call.op == CallOp::kBroadcast ? static_cast<size_t>(call.root) : 0].bytes;
  if (call.op != CallOp::kBroadcast) {
    for (size_t rank = 1; rank < posts_.size(); ++rank) {
      CombineBytes(call, result, posts_[rank].bytes);
    }
  }
  if (result.empty()) return absl::OkStatus();
  for (const Post& post : posts_) {
    if (post.bytes.data() != result.data()) {
      std::memcpy(post.bytes.data(), result.data(), result.size());
    }
  }
  return absl::OkStatus();
}

std::string InProcessHub::MissingRanks() const {
  std::vector<size_t> missing;
  for (size_t rank = 0; rank < posts_.size(); ++rank) {
    if (!posts_[rank].present) missing.push_back(rank);
  }
  return absl::StrJoin(missing, ", ");
}

void InProcessHub::Abort(Generation generation, const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (joined_ && generation == generation_ && failure_.ok()) failure_ = AsToldByAnother(why);
}

absl::Status InProcessExchange::Join(absl::Time /*deadline*/) {
  WEFT_RETURN_IF_ERROR(hub_->Join(membership()));
  absl::MutexLock lock(&mutex_);
  joined_ = membership().generation;
  return absl::OkStatus();
}

absl::Status InProcessExchange::Run(const ExchangeCall& call, absl::Span<char> bytes,
                                    absl::Time deadline) {
  return hub_->Run(membership(), call, bytes, deadline);
}

void InProcessExchange::Interrupt(const absl::Status& why) {
  Generation joined;
  {
    absl::MutexLock lock(&mutex_);
    joined = joined_;
  }
  if (joined.value() != 0) hub_->Abort(joined, why);
}

}  // namespace weft::worker

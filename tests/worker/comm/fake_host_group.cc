#include "tests/worker/comm/fake_host_group.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace weft::testing {

using worker::CallOp;

uint64_t FakeHosts::Post(int host, Kind kind, int root, absl::Span<const char> bytes) {
  absl::MutexLock lock(&mutex_);
  auto& mine = posts_[static_cast<size_t>(host)];
  WEFT_CHECK(mine == nullptr);
  mine = std::make_unique<std::vector<char>>(bytes.begin(), bytes.end());
  const uint64_t operation = results_.size();
  if (std::all_of(posts_.begin(), posts_.end(), [](const auto& post) { return post != nullptr; })) {
    Complete(kind, root);
  }
  return operation;
}

void FakeHosts::Complete(Kind kind, int root) {
  std::vector<char> result = *posts_[kind == Kind::kBroadcast ? static_cast<size_t>(root) : 0];
  for (size_t host = 1; host < posts_.size(); ++host) {
    std::vector<char>& other = *posts_[host];
    if (kind == Kind::kGather) {
      result.insert(result.end(), other.begin(), other.end());
    } else if (kind != Kind::kBroadcast) {
      WEFT_CHECK(other.size() == result.size());
      const auto numbers = [](std::vector<char>& bytes) {
        return absl::MakeSpan(reinterpret_cast<int32_t*>(bytes.data()), bytes.size() / 4);
      };
      worker::Combine(kind == Kind::kSum ? CallOp::kSum : CallOp::kMax, numbers(result),
                      numbers(other));
    }
  }
  for (auto& post : posts_) post = nullptr;
  results_.push_back(std::make_shared<const std::vector<char>>(std::move(result)));
}

std::shared_ptr<const std::vector<char>> FakeHosts::Result(uint64_t operation) {
  absl::MutexLock lock(&mutex_);
  return operation < results_.size() ? results_[operation] : nullptr;
}

absl::Status FakeHostGroup::StartReduce(CallOp op, absl::Span<const int32_t> from,
                                        absl::Span<int32_t> to) {
  into_ = absl::MakeSpan(reinterpret_cast<char*>(to.data()), to.size() * 4);
  operation_ =
      all_->Post(index_, op == CallOp::kSum ? FakeHosts::Kind::kSum : FakeHosts::Kind::kMax, 0,
                 absl::MakeConstSpan(reinterpret_cast<const char*>(from.data()), from.size() * 4));
  return absl::OkStatus();
}

absl::Status FakeHostGroup::StartBroadcast(absl::Span<char> bytes, int root) {
  into_ = bytes;
  operation_ = all_->Post(index_, FakeHosts::Kind::kBroadcast, root, bytes);
  return absl::OkStatus();
}

absl::Status FakeHostGroup::StartGather(absl::Span<const char> mine, absl::Span<char> all) {
  into_ = all;
  operation_ = all_->Post(index_, FakeHosts::Kind::kGather, 0, mine);
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeHostGroup::Poll() {
  const auto result = all_->Result(operation_);
  if (result == nullptr) return false;
  WEFT_CHECK(result->size() == into_.size());
  std::memcpy(into_.data(), result->data(), into_.size());
  return true;
}

}  // namespace weft::testing

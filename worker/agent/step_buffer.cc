#include "worker/agent/step_buffer.h"

#include <algorithm>

namespace weft::worker {

void StepBuffer::Add(const MemberKey& key, const v1::StepReport& step) {
  members_[key].push_back({step});
  if (++reports_ <= limit_) return;
  const auto longest = std::max_element(
      members_.begin(), members_.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  longest->second.pop_front();
  --reports_;
  if (longest->second.empty()) members_.erase(longest);
}

std::vector<v1::StepBatch> StepBuffer::Take(size_t batch_steps, absl::Time now) {
  std::vector<v1::StepBatch> batches;
  for (auto& [key, reports] : members_) {
    size_t taken = 0;
    for (Report& report : reports) {
      if (report.taken < absl::InfiniteFuture()) continue;
      if (taken++ % batch_steps == 0) {
        batches.emplace_back();
        batches.back().set_job(key.job);
        batches.back().set_generation(key.generation.value());
      }
      *batches.back().add_steps() = report.step;
      report.taken = now;
    }
  }
  return batches;
}

void StepBuffer::OnStored(const MemberKey& key, int64_t first, int64_t last) {
  const auto member = members_.find(key);
  if (member == members_.end()) return;
  reports_ -= std::erase_if(member->second, [first, last](const Report& report) {
    return first <= report.step.step() && report.step.step() <= last;
  });
  if (member->second.empty()) members_.erase(member);
}

void StepBuffer::TakeBack(absl::Time until) {
  for (auto& [key, reports] : members_) {
    for (Report& report : reports) {
      if (report.taken <= until) report.taken = absl::InfiniteFuture();
    }
  }
}

}  // namespace weft::worker
